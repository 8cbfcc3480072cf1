"""From a policy to answers: greedy, sampled, or by beam search, in a Python loop or inside one ONNX graph.

A policy proposes log-probabilities of the next action and advances a state by the action chosen; the answer is read
off the last state. What is infeasible has the log-probability `NOTHING`, and is never taken. A row in which nothing is
feasible is finished: it keeps its state and its log-probability while the others go on, and the loop ends where all
are finished. So a batch may hold problems of several sizes, and no row ever gives NaN.

With `graph=True` the loop is torch's while_loop wherever torch exports, which torch.onnx.export writes as an ONNX
Loop: one graph decodes problems of any number and size, without torch. Both loops run the same step, and give the same
answers. `core.export_decoder` makes such a graph and checks it.

Shape legend: B batch, W width of the beam, R = B W rows, A actions, C = W A candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from .ops.softmax_scan import NOTHING
from .state import State, flatten, select, unflatten

Steps: TypeAlias = int | Tensor
"""How many steps at most: a number, a size of a tensor that is traced, or a tensor () of int64."""


class Policy(Protocol):
    """What can be decoded. A state is a NamedTuple of tensors with the batch as axis 0 and sizes that stay."""

    def propose(self, state: State) -> tuple[Tensor, State]:
        """Log-probabilities (B, A) of the next action, `NOTHING` where infeasible; notes that `advance` needs.

        `feasible_log_p` makes them from logits. Notes are a tensor, a (named) tuple of them, or `()`.
        """

    def advance(self, state: State, notes: State, action_B: Tensor) -> State:
        """The state after the actions (B,) int64, which are feasible except in finished rows: these are undone."""


def feasible_log_p(logits_BA: Tensor, feasible_BA: Tensor) -> Tensor:
    """Log-probabilities (..., A) over what is feasible, `NOTHING` elsewhere; gradients are finite, 0 elsewhere."""
    masked_BA = logits_BA.masked_fill(~feasible_BA, NOTHING)
    return torch.log_softmax(masked_BA, -1).masked_fill(~feasible_BA, NOTHING)


def greedy(policy: Policy, state: State, steps: Steps, *, graph: bool = False) -> tuple[State, Tensor]:
    """The likeliest action at every step.

    Args:
        policy: says what may come next.
        state: where to start.
        steps: how many actions at most.
        graph: loop inside the graph while torch exports.

    Returns:
        The last state, and the log-probability (B,) float32 of the actions taken.
    """
    return _one_each(policy, state, steps, lambda log_p_BA: log_p_BA.argmax(-1), graph)


def sample(policy: Policy, state: State, steps: Steps, generator: torch.Generator) -> tuple[State, Tensor]:
    """Actions drawn with their probabilities; otherwise as `greedy`. Gradients reach the log-probability."""
    return _one_each(
        policy,
        state,
        steps,
        lambda log_p_BA: torch.multinomial(log_p_BA.detach().exp(), 1, generator=generator)[:, 0],
        False,
    )


def beam(
    policy: Policy, state: State, steps: Steps, width: int, *, graph: bool = False
) -> tuple[State, Tensor]:
    """The likeliest answer among those that a beam search of `width` W finds; otherwise as `greedy`.

    The policy sees W rows for each problem, next to each other. A finished answer stays in the beam with the
    log-probability it has: there is no bonus for length.

    Raises:
        ValueError: where `width` is not positive.
    """
    if width < 1:
        raise ValueError(f"beam: width is {width}; it must be at least 1")
    batch, device = _rows(state)
    number_B = torch.arange(batch, device=device)
    # one answer to start with, not W the same
    other_W = torch.arange(width, device=device) > 0
    score_BW = torch.zeros(batch, width, device=device).masked_fill(other_W, NOTHING)

    def step(state: State, score_BW: Tensor) -> tuple[State, Tensor, Tensor]:
        log_p_RA, notes = policy.propose(state)
        going_R, log_p_RA = _going(log_p_RA)
        actions = log_p_RA.shape[1]
        total_BC = (score_BW[..., None] + log_p_RA.unflatten(0, (-1, width))).clamp(min=NOTHING).flatten(1)
        score_BW, candidate_BW = total_BC.topk(width, 1)
        parent_BW = torch.div(candidate_BW, actions, rounding_mode="floor")
        number_B = torch.arange(score_BW.shape[0], device=score_BW.device)
        parent_R = (number_B[:, None] * width + parent_BW).flatten()
        action_R = (candidate_BW - parent_BW * actions).flatten()
        before, notes = select(state, parent_R), select(notes, parent_R)
        # where there are fewer candidates than places, those that fill them up do nothing
        going_R = going_R[parent_R] & _possible(score_BW.flatten())
        return _advance(policy, before, notes, action_R, going_R), score_BW, going_R

    state = select(state, number_B.repeat_interleave(width))
    state, score_BW = _loop(step, state, score_BW, steps, graph)
    best_B = score_BW.argmax(1)
    return select(state, number_B * width + best_B), score_BW.gather(1, best_B[:, None])[:, 0]


def _one_each(
    policy: Policy, state: State, steps: Steps, choose: Callable[[Tensor], Tensor], graph: bool
) -> tuple[State, Tensor]:
    def step(state: State, score_B: Tensor) -> tuple[State, Tensor, Tensor]:
        log_p_BA, notes = policy.propose(state)
        going_B, log_p_BA = _going(log_p_BA)
        action_B = choose(log_p_BA)
        score_B = score_B + log_p_BA.gather(1, action_B[:, None])[:, 0]
        return _advance(policy, state, notes, action_B, going_B), score_B, going_B

    batch, device = _rows(state)
    return _loop(step, state, torch.zeros(batch, device=device), steps, graph)


def _going(log_p_BA: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (B,) that are not finished, and log-probabilities in float32: in finished rows action 0 is sure."""
    going_B = _possible(log_p_BA.amax(1))
    first_A = torch.arange(log_p_BA.shape[1], device=log_p_BA.device) == 0
    stay_A = torch.zeros_like(log_p_BA[0]).masked_fill(~first_A, NOTHING)
    return going_B, torch.where(going_B[:, None], log_p_BA, stay_A).float()


def _possible(log_p: Tensor) -> Tensor:
    return log_p > NOTHING / 2


def _advance(policy: Policy, state: State, notes: State, action_B: Tensor, going_B: Tensor) -> State:
    """The state after the actions; in finished rows as it was."""
    after, before = flatten(policy.advance(state, notes, action_B)), flatten(state)
    return unflatten(state, {name: _chosen(going_B, new, before[name]) for name, new in after.items()})


def _chosen(mask_B: Tensor, new: Tensor, old: Tensor) -> Tensor:
    if new is old:
        return old
    mask = mask_B.view(-1, *[1] * (new.ndim - 1))
    if new.dtype == torch.bool:  # onnxruntime has no Where of booleans
        return (mask & new) | (~mask & old)
    return torch.where(mask, new, old)


def _loop(
    step: Callable[[State, Tensor], tuple[State, Tensor, Tensor]],
    state: State,
    score: Tensor,
    steps: Steps,
    graph: bool,
) -> tuple[State, Tensor]:
    """Repeat `step` until every row is finished, `steps` times at most."""
    limit = steps * torch.ones((), dtype=torch.long, device=score.device)

    def unfinished(t: Tensor, limit: Tensor, going: Tensor, score: Tensor, *tensors: Tensor) -> Tensor:
        return (t < limit) & going

    def body(t: Tensor, limit: Tensor, going: Tensor, score: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        now, score, going_R = step(unflatten(state, dict(zip(names, tensors, strict=True))), score)
        return t + 1, limit, going_R.any(), score, *flatten(now).values()

    names = list(flatten(state))
    start = (torch.zeros_like(limit), limit, torch.ones_like(limit, dtype=torch.bool), score)
    carry: tuple[Tensor, ...] = (*start, *flatten(state).values())
    if (
        graph and torch.compiler.is_exporting()
    ):  # run eagerly, while_loop would only be compiled and be slower
        carry = _graph_loop(unfinished, body, carry)
    else:
        while unfinished(*carry):
            carry = body(*carry)
    return unflatten(state, dict(zip(names, carry[4:], strict=True))), carry[3]


def _graph_loop(
    unfinished: Callable[..., Tensor], body: Callable[..., tuple[Tensor, ...]], carry: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    import torch._dynamo  # slow to import, and needed for graphs alone  # noqa: PLC0415
    from torch._higher_order_ops import while_loop  # noqa: PLC0415

    def own(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # while_loop refuses tensors that share memory, and strides that change
        return tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in tensors)

    # only the weights of an nn.LSTM are read inside, which dynamo takes for a use of it
    with torch._dynamo.config.patch(allow_rnn=True):
        return while_loop(unfinished, lambda *tensors: own(body(*tensors)), own(carry))


def _rows(state: State) -> tuple[int, torch.device]:
    first = next(iter(flatten(state).values()))
    return first.shape[0], first.device
