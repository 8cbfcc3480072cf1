"""Training of the hull and Delaunay pointers: choices to look again from, labels taken apart, what is measured."""

from __future__ import annotations

import shutil

import pytest
import torch

from remem.apps.geometry.data import labelled
from remem.apps.geometry.delaunay_module import DelaunayModule, true_edges
from remem.apps.geometry.glimpse_training import rival_choice
from remem.apps.geometry.hull_module import HullModule
from remem.apps.geometry.local_bundle import write_local_bundle
from remem.apps.geometry.local_weights import FILE, read_pointer, write_weights
from remem.core.local_apex import ApexPointer
from remem.core.local_hull import HullPointer
from remem.core.ops.softmax_scan import NOTHING
from remem.data.geometry.instances import generate
from remem.serving.bundle import SHIPPED


class LeastTurn(torch.nn.Module):
    """What both networks are to learn, written by hand."""

    def forward(self, turn, far, feasible):
        angle = torch.atan2(turn[..., 1], turn[..., 0])
        return (-1e3 * angle + 1e-3 * far).masked_fill(~feasible, NOTHING)


def batch(task: str, n: int, count: int = 30) -> dict[str, torch.Tensor]:
    pool = labelled(task, [generate("uniform", n, [5, n, i]) for i in range(count)])
    return {"x": torch.from_numpy(pool.x), "label": torch.from_numpy(pool.label)}


def test_choices_come_from_three_hands_and_are_always_feasible():
    torch.manual_seed(0)
    logit = torch.randn(4000, 6)
    feasible = torch.rand(4000, 6) < 0.6
    target = torch.randint(0, 6, (4000,))
    feasible[torch.arange(4000), target] = True
    logit = logit.masked_fill(~feasible, NOTHING)
    choice = rival_choice(logit, target, feasible)
    assert feasible.gather(1, choice[:, None]).all()
    alone = feasible.sum(1) == 1
    assert alone.any()
    assert torch.equal(choice[alone], target[alone])
    own, right = choice == logit.argmax(1), choice == target
    assert 0.5 < own.float().mean() < 0.95
    assert 0.2 < right[~alone].float().mean() < 0.5  # about a third without a net that knows anything


@pytest.mark.parametrize("task", ["hull", "delaunay"])
def test_a_perfect_network_gets_perfect_figures(task):
    module = {"hull": HullModule, "delaunay": DelaunayModule}[task](4)
    module.pointer.network = LeastTurn()
    for n in (4, 12, 40):
        figures = module.metrics(batch(task, n))
        assert {name: float(value) for name, value in figures.items()} == pytest.approx(
            dict.fromkeys(figures, 1.0)
        )


def test_a_wrong_answer_costs_what_it_should():
    module = HullModule(4)
    module.pointer.network = LeastTurn()
    given = batch("hull", 12, count=4)
    given["label"][0, 1], given["label"][0, 2] = given["label"][0, 2].clone(), given["label"][0, 1].clone()
    assert float(module.metrics(given)["exact"]) == 0.75


def test_every_triangle_gives_its_three_edges():
    label = torch.tensor([[0, 1, 2, 1, 3, 2], [0, 2, 3, -1, -1, -1]])
    problem, edge, apex = true_edges(label)
    found = {(int(i), *ends, int(c)) for i, ends, c in zip(problem, edge.tolist(), apex, strict=True)}
    first = {(0, 0, 1, 2), (0, 1, 2, 0), (0, 2, 0, 1), (0, 1, 3, 2), (0, 3, 2, 1), (0, 2, 1, 3)}
    assert found == first | {(1, 0, 2, 3), (1, 2, 3, 0), (1, 3, 0, 2)}


@pytest.mark.parametrize("task", ["hull", "delaunay"])
def test_the_loss_teaches(task):
    torch.manual_seed(0)
    module = {"hull": HullModule, "delaunay": DelaunayModule}[task](16, 2)
    training, fresh = [batch(task, n, 100) for n in (6, 12, 20)], batch(task, 30)
    before = {name: float(value) for name, value in module.metrics(fresh).items()}
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for step in range(150):
        given = training[step % 3]
        rows = torch.randint(0, 100, (16,))
        loss = module.loss({name: tensor[rows] for name, tensor in given.items()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = {name: float(value) for name, value in module.metrics(fresh).items()}
    assert before["exact"] < 0.2
    assert after["exact"] > 0.7


@pytest.mark.parametrize(
    "pointer", [HullPointer(8, num_glimpses=2), ApexPointer(8, num_glimpses=2, window=5)]
)
def test_weights_come_back_from_a_bundle(tmp_path, pointer):
    task = "hull" if isinstance(pointer, HullPointer) else "delaunay"
    graph = "greedy.onnx" if task == "hull" else "apex.onnx"

    def export(part):
        shutil.copy(SHIPPED / task / graph, part / graph)
        write_weights(part / FILE, pointer)

    write_local_bundle(tmp_path / "bundle", task, export, {})
    back = read_pointer(tmp_path / "bundle")
    assert type(back) is type(pointer)
    assert (back.num_glimpses, getattr(back, "window", 5)) == (2, 5)
    assert all(torch.equal(back.state_dict()[name], tensor) for name, tensor in pointer.state_dict().items())
