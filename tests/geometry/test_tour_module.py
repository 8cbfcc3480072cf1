"""What the tour module learns from: path problems cut out of optimal tours, whatever their size and direction."""

import hashlib
import json

import pytest
import torch

from remem.apps.geometry.tour_module import TourModule, lengths
from remem.apps.geometry.tour_weights import read_policy, write_weights
from remem.core.local_tour import TourDecoder


@pytest.fixture
def module():
    torch.manual_seed(0)
    return TourModule(d_model=16, num_heads=2, num_layers=1, window=6, tokens=60)


def circle(batch, n):
    """Points on a circle, whose optimal tour goes round it; names of nodes are shuffled."""
    angle = torch.arange(n) * 2 * torch.pi / n
    order = torch.stack([torch.randperm(n) for _ in range(batch)])
    xy = torch.stack([angle.cos(), angle.sin()], -1)[order]
    return {"x": xy, "label": order.argsort(1)}


def test_states_are_pieces_of_the_tour(module):
    """On a circle neighbours on the path are neighbours round it: any slip in the labels shows."""
    n = 12  # even: a mirror image stands on the same places
    for seed in range(60):
        torch.manual_seed(seed)
        batch = circle(3, n)
        seen, place = module._states(batch["x"], batch["label"])
        angle = torch.atan2(seen.place[..., 1], seen.place[..., 0])
        number = (angle / (2 * torch.pi) * n).round().long() % n  # where round the circle
        left = int(place[0, 1]) - 1
        assert (place[:, 0] == 0).all()
        assert seen.place.shape[1] == min(module.hparams.window, left) + 2
        for row_number, row_place in zip(number.tolist(), place.tolist(), strict=True):
            for i, (a, p) in enumerate(zip(row_number, row_place, strict=True)):
                for b, q in list(zip(row_number, row_place, strict=True))[i + 1 :]:
                    apart = min((a - b) % n, (b - a) % n)
                    steps = abs(p - q)
                    # head and tail close the circle behind the path: between them are those visited already
                    assert apart == min(steps, n - steps)


def test_both_directions_and_mirrors_are_learned(module):
    turns = set()
    for seed in range(20):
        torch.manual_seed(seed)
        batch = circle(4, 9)
        seen, place = module._states(batch["x"], batch["label"])
        two = (place == 1).nonzero()
        head, first = seen.place[two[:, 0], 0], seen.place[two[:, 0], two[:, 1]]
        turns |= set((head[:, 0] * first[:, 1] - head[:, 1] * first[:, 0]).sign().tolist())
    assert turns == {-1.0, 1.0}


def test_loss_falls_to_what_is_certain():
    """With one instance and all of it seen, the neighbours can be learned by heart."""
    torch.manual_seed(0)
    module = TourModule(d_model=32, num_heads=2, num_layers=2, window=10, tokens=100)
    module.log = lambda *args, **kwargs: None
    batch = {name: part[:1].repeat(8, *[1] * (part.ndim - 1)) for name, part in circle(1, 9).items()}
    optimizer = torch.optim.AdamW(module.network.parameters(), lr=3e-3)
    losses = []
    for _ in range(120):
        loss = module.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # rows of the window have two neighbours each, so log 2 is certain of them
    assert sum(losses[-10:]) / 10 < 0.6931 + 0.35 < losses[0]


def test_the_running_average_follows(module):
    before = [p.clone() for p in module.network.parameters()]
    for _ in range(2):
        with torch.no_grad():
            for p in module.network.parameters():
                p.add_(1.0)
        module.on_train_batch_end(None, {}, 0)
    for old, now, mean in zip(
        before, module.network.parameters(), module.average.module.parameters(), strict=True
    ):
        assert ((mean >= old) & (mean <= now)).all()
        assert not torch.equal(mean, old)


def test_lengths_of_a_square():
    xy = torch.tensor([[[0.0, 0], [1, 0], [1, 1], [0, 1]]])
    assert lengths(xy, torch.tensor([[0, 1, 2, 3]])).item() == 4.0
    assert lengths(xy, torch.tensor([[0, 2, 1, 3]])).item() == pytest.approx(2 + 2 * 2**0.5)


@pytest.mark.parametrize(
    ("settings", "said"), [({"window": 1}, "window is 1"), ({"average": 1.0}, "average is 1.0")]
)
def test_wrong_settings(settings, said):
    with pytest.raises(ValueError, match=said):
        TourModule(**settings)


def test_a_fit_goes_on_from_a_bundle(module, tmp_path):
    write_weights(tmp_path / "weights.npz", module.policy)
    (tmp_path / "greedy.onnx").write_bytes(b"not looked at")
    (tmp_path / "beam.onnx").write_bytes(b"not looked at")
    bundle = _described(tmp_path)
    policy = read_policy(bundle)
    batch = circle(2, 9)
    assert torch.equal(module(batch["x"]), _tours(policy, batch["x"]))
    further = TourModule(d_model=16, num_heads=2, num_layers=1, window=6, weights=str(bundle))
    assert torch.equal(further(batch["x"]), module(batch["x"]))
    with pytest.raises(ValueError, match="of a network of another shape"):
        TourModule(d_model=32, num_heads=2, num_layers=1, weights=str(bundle))


def _described(folder):
    """A manifest beside the files, as `write_manifest` makes it of real graphs."""
    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}
    manifest = {
        "schema_version": 1,
        "app": "geometry",
        "task": "tsp",
        "input": {"kind": "points", "features": ["x", "y"], "units": {}},
        "output": ["tour"],
        "confidence": 0.9,
        "state": [],
        "state_bytes": 0,
        "training": {},
        "baselines": {},
        "remem": "0",
        "files": files,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _tours(policy, xy):
    ends, real = torch.zeros(len(xy), dtype=torch.long), torch.ones(xy.shape[:2], dtype=torch.bool)
    return TourDecoder(policy)(xy, real, ends, ends, graph=False)[0]
