"""`remem bench tracing-step`: what one more answer costs after 200, and after 100,000, in one run on one thread.

Ours is the step graph of a bundle of the default shape (110 concepts; an untrained network and trees on random labels:
what is learnt does not change what it costs). Beside it what others do: networks that read the whole history again for
every answer, and a transformer that keeps keys and values of all of it.

Shape legend: B students, T answers so far, D width, H heads, K width of a head, C concepts.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.layers.lstm import LSTM
from ...core.recall import Recurrent
from ...core.state import flatten, unflatten
from ...core.tracing import TracingModel, TracingNetwork
from ...core.trees import TreeEnsemble
from ...data.tracing.encode import Vocabulary
from ...data.tracing.schema import conform
from ...data.tracing.situations import situation_tables
from ...serving.states import State
from ...serving.tracing.graphs import TracingGraphs
from .bundle import write_tracing_bundle
from .memories import features, memory_of

LENGTHS = (200, 1_000, 10_000, 100_000)
CONCEPTS, QUESTIONS, ANSWERS = 110, 2_000, 20_000
"""Of the log that the bundle is made for; ASSISTments 2009 has 110 concepts."""
TREES, DEPTH, WIDTH = 300, 5, 64
PEER_WIDTH, PEER_LAYERS, PEER_HEADS = 128, 2, 8
BATCH = 256
PATIENCE_S = 20.0
"""A cell of the table whose first answer takes longer is not measured again."""
REPLAY_MOST = 10_000
"""Answers that attention is asked to read again: its time grows with the square of them."""

Step = Callable[[], object]


def tracing_step(*, seeds: int = 3, root: str | None = None, quick: bool = False) -> list[dict[str, object]]:
    """One row per way of keeping up with a student.

    Args:
        seeds: rounds; the lengths take turns in each, so that a busy machine is busy for all.
        root: not used; the answers are made up.
        quick: short histories, few trees, to try the road.

    Returns:
        Rows `model`, `ms_<T>` (median milliseconds for one more answer after T; null where it was not run),
        `flat` (largest of these over the smallest, minus 1), `state_bytes_<T>` and `answers_per_s` of one core's time
        (many students side by side).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    lengths = LENGTHS[:2] if quick else LENGTHS
    try:
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            model, graphs = _default_bundle(Path(folder) / "bundle", trees=10 if quick else TREES)
            return [*_ours(model, graphs, lengths, seeds), *_peers(lengths, seeds)]
    finally:
        torch.set_num_threads(threads)


def _default_bundle(folder: Path, *, trees: int) -> tuple[TracingModel, TracingGraphs]:
    """A model of the default shape, and its graphs on one thread."""
    import xgboost  # noqa: PLC0415  (as in `boosting`)

    random = np.random.default_rng(0)
    question = random.integers(QUESTIONS, size=ANSWERS)
    frame = pl.DataFrame(
        {
            "student_id": (np.arange(ANSWERS) // 50).astype(str),
            "question_id": question.astype(str),
            "concepts": [[str(q % CONCEPTS)] for q in question],
            "correct": random.integers(2, size=ANSWERS),
        }
    )
    vocabulary = Vocabulary.fit(conform(frame, source="made up").frame)
    answers = vocabulary.encode(conform(frame, source="made up").frame)
    memory = memory_of(vocabulary, situation_tables(vocabulary, answers))
    z_NZ = features(memory, answers)
    boosted = xgboost.train(
        {"max_depth": DEPTH, "objective": "binary:logistic", "tree_method": "hist"},
        xgboost.DMatrix(z_NZ, label=answers.x[:, 1]),
        num_boost_round=trees,
    )
    network = TracingNetwork(memory, recall=Recurrent(LSTM, WIDTH), d_model=WIDTH)
    network.fit_preprocess(torch.from_numpy(z_NZ))
    model = TracingModel(memory, {"network": network, "trees": TreeEnsemble.from_xgboost(boosted)}).eval()
    print("bench: exporting the bundle", file=sys.stderr)
    write_tracing_bundle(folder, model, vocabulary, {"training": {"data": "made up"}})
    return model, TracingGraphs(folder, device="cpu", threads=1)


def _ours(
    model: TracingModel, graphs: TracingGraphs, lengths: tuple[int, ...], rounds: int
) -> list[dict[str, object]]:
    step = graphs.step
    width = len(graphs.bundle.features)
    random = np.random.default_rng(1)

    def answers(number: int) -> np.ndarray:
        x = np.zeros((number, width), np.float32)
        x[:, 0] = random.integers(1, QUESTIONS + 1, number)
        x[:, 1], x[:, 2] = random.integers(2, size=number), np.nan
        x[:, 3] = random.integers(1, CONCEPTS + 1, number)
        return x

    states: dict[int, State] = {}
    state = step.fresh
    for t, row in enumerate(answers(max(lengths)), 1):
        _, state = step(row[None], state)
        if t in lengths:
            states[t] = state
    one, many = answers(1), answers(BATCH)
    side_by_side = tuple(np.repeat(part, BATCH, axis=0) for part in state)
    like = model.init_state(1)

    def eager(rows: np.ndarray, state: State) -> Step:
        tensors = dict(zip(flatten(like), map(torch.from_numpy, state), strict=True))
        held, x = unflatten(like, tensors), torch.from_numpy(rows)
        return lambda: model.step(x, held)

    rows = []
    for name, stepped in (("remem, onnxruntime step", _bound(step)), ("remem, torch step", eager)):
        batch = _median([stepped(many, side_by_side)], rounds * 5, time.process_time)[0]
        costs = _median([stepped(one, states[t]) for t in lengths], rounds * 100)
        rows.append(_row(name, lengths, costs, [step.state_bytes] * len(lengths), BATCH / batch))
    return rows


def _bound(step: Callable[[np.ndarray, State], object]) -> Callable[[np.ndarray, State], Step]:
    return lambda rows, state: lambda: step(rows, state)


def _peers(lengths: tuple[int, ...], rounds: int) -> list[dict[str, object]]:
    torch.manual_seed(0)
    cached = _Transformer().eval()
    lstm, transformer = _Replayed(_LSTM()).eval(), _Replayed(cached).eval()
    log = 16  # bytes of an answer in a log: its question, concept, time and label

    def replay(model: nn.Module, length: int, students: int = 1) -> Step:
        ids = torch.randint(0, 2 * CONCEPTS, (students, length))
        return lambda: model(ids)

    rows = []
    for name, model, most in (
        ("LSTM, replayed", lstm, max(lengths)),
        ("transformer, replayed", transformer, REPLAY_MOST),
    ):
        run = [t for t in lengths if t <= most]
        costs = _median([replay(model, t) for t in run], rounds)
        batch = _median([replay(model, lengths[0], 32)], rounds, time.process_time)[0]
        rows.append(_row(name, lengths, costs, [log * t for t in lengths], 32 / batch))

    def grow(length: int, students: int = 1) -> tuple[Step, int]:
        cache = cached.cache(students, length)
        x_B1D = torch.randn(students, 1, PEER_WIDTH)
        return (lambda: cached.step(x_B1D, cache)), sum(
            part.nbytes for pair in cache for part in pair
        ) // students

    steps, sizes = zip(*(grow(t) for t in lengths), strict=True)
    batch = _median([grow(lengths[0], 32)[0]], rounds * 5, time.process_time)[0]
    rows.append(
        _row("transformer, keys and values kept", lengths, _median(steps, rounds * 5), sizes, 32 / batch)
    )
    return rows


def _median(
    steps: Sequence[Step], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Median seconds of each; they take turns, and slow ones are run once."""
    taken: list[list[float]] = [[] for _ in steps]
    for step in steps:
        step()  # the first call pays for memory and plans
    for _ in range(max(rounds, 1)):
        for step, seconds in zip(steps, taken, strict=True):
            if seconds and seconds[0] > PATIENCE_S:
                continue
            start = clock()
            step()
            seconds.append(clock() - start)
    return [float(np.median(seconds)) for seconds in taken]


def _row(
    name: str, lengths: tuple[int, ...], costs: list[float], sizes: Sequence[int], per_second: float
) -> dict[str, object]:
    row: dict[str, object] = {"model": name}
    row |= {f"ms_{t}": round(1e3 * cost, 4) for t, cost in zip(lengths, costs, strict=False)}
    row |= {f"ms_{t}": None for t in lengths[len(costs) :]}
    row["flat"] = round(max(costs) / min(costs) - 1, 3)
    row |= {f"state_bytes_{t}": size for t, size in zip(lengths, sizes, strict=True)}
    print(f"{name}: {row[f'ms_{lengths[0]}']} ms", file=sys.stderr)
    return row | {"answers_per_s": round(per_second)}


class _Replayed(nn.Module):
    """(B, T) answers, concept and label in one number, to the logit of the next concept (B, C)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.answer = nn.Embedding(2 * CONCEPTS, PEER_WIDTH)
        self.body = body
        self.head = nn.Linear(PEER_WIDTH, CONCEPTS)

    def forward(self, ids_BT: Tensor) -> Tensor:
        return self.head(self.body(self.answer(ids_BT))[:, -1])


class _LSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(PEER_WIDTH, PEER_WIDTH, PEER_LAYERS, batch_first=True)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.lstm(x_BTD)[0]


class _Transformer(nn.Module):
    """Causal layers of attention and feed-forward, whole or with the keys and values of the past kept."""

    def __init__(self) -> None:
        super().__init__()
        d, layers = PEER_WIDTH, range(PEER_LAYERS)
        self.qkv = nn.ModuleList(nn.Linear(d, 3 * d) for _ in layers)
        self.out = nn.ModuleList(nn.Linear(d, d) for _ in layers)
        self.feed = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
            for _ in layers
        )
        self.norm = nn.ModuleList(nn.LayerNorm(d) for _ in layers)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self._through(x_BTD, None)

    def step(self, x_B1D: Tensor, cache: list[tuple[Tensor, Tensor]]) -> Tensor:
        """One more row (B, 1, D): its key and value go into the last place of each layer's cache."""
        return self._through(x_B1D, cache)

    def cache(self, students: int, length: int) -> list[tuple[Tensor, Tensor]]:
        """Keys and values (B, H, T, K) of each layer after `length` answers, the last place free."""
        shape = (students, PEER_HEADS, length, PEER_WIDTH // PEER_HEADS)
        return [(torch.randn(shape), torch.randn(shape)) for _ in range(PEER_LAYERS)]

    def _through(self, x_BTD: Tensor, cache: list[tuple[Tensor, Tensor]] | None) -> Tensor:
        for i, (qkv, out, feed, norm) in enumerate(
            zip(self.qkv, self.out, self.feed, self.norm, strict=True)
        ):
            q, k, v = (
                part.unflatten(-1, (PEER_HEADS, -1)).transpose(1, 2) for part in qkv(norm(x_BTD)).chunk(3, -1)
            )
            if cache is not None:
                keys, values = cache[i]
                keys[:, :, -1:], values[:, :, -1:] = k, v
                k, v = keys, values
            read = F.scaled_dot_product_attention(q, k, v, is_causal=cache is None)
            x_BTD = x_BTD + out(read.transpose(1, 2).flatten(2))
            x_BTD = x_BTD + feed(x_BTD)
        return x_BTD
