"""Linear attention: weights that are products of features, so that the past is one sum.

    y_t = sum_{i<=t} (q_t . k_i) v_i  /  sum_{i<=t} (q_t . k_i)          q, k: features, q . k >= 0
        = q_t S_t[:, :V] / q_t S_t[:, V],        S_t = S_{t-1} + k_t^T (v_t, 1)

Softmax attention has e^{q . k} in that place, which no finite sum can hold. What stands there instead is the choice of
features: `elu_features` here, ops/taylor.py. Sums are never taken apart again, so old steps stay for good; a step's
share falls as 1 / t, and after 2^24 steps float32 has no place for another one.

Three forms of the same numbers: `naive` (loop, the oracle), `chunk` (a triangle of products inside a chunk, a running
sum from chunk to chunk, no loop: it may be exported), and `linear_step`. All compute in the type of the state, under
autocast too.

Source: Katharopoulos et al. 2020, "Transformers are RNNs" (arXiv 2006.16236).
Shape legend: B batch, H heads, T time, F features, V value width, E = V + 1: value and a one; N chunks of C steps.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 32
"""Steps in a chunk; trace exports at a longer length."""


def elu_features(x: Tensor) -> Tensor:
    """elu(x) + 1, entry by entry: positive, linear above 0, e^x below."""
    return F.elu(x) + 1.0


def linear_attention(
    q_BHTF: Tensor,
    k_BHTF: Tensor,
    v_BHTV: Tensor,
    sum_BHFE: Tensor,
    *,
    least: float = 0.0,
    mask_BT: Tensor | None = None,
    form: Literal["auto", "naive", "chunk"] = "auto",
) -> tuple[Tensor, Tensor]:
    """The weighted mean of the values over every prefix, going on from `sum_BHFE`.

    Args:
        q_BHTF: features of the queries.
        k_BHTF: features of the keys.
        v_BHTV: values; T may be 0.
        sum_BHFE: S before, in float32 or wider; zeros where nothing was seen.
        least: what q . k cannot be below. Rounding may bring the denominator there where features have two signs.
        mask_BT: True on real steps; the others leave S as it was. A prefix without a real step gives 0.
        form: "auto" is "chunk".

    Returns:
        y_BHTV in the type of `v_BHTV`, and S after the last step.

    Raises:
        ValueError: where `form` is unknown.
    """
    if form not in ("auto", "naive", "chunk"):
        raise ValueError(f"linear_attention: form is {form!r}; use one of ['auto', 'naive', 'chunk']")
    q, k, v1 = _steps(q_BHTF, k_BHTF, v_BHTV, sum_BHFE.dtype)
    if mask_BT is not None:
        k = k.masked_fill(~mask_BT[:, None, :, None], 0.0)
    with torch.autocast(v_BHTV.device.type, enabled=False):
        n_BHTE, sum_BHFE = (_naive if form == "naive" else _chunk)(q, k, v1, sum_BHFE)
    return _ratio(n_BHTE, least).to(v_BHTV.dtype), sum_BHFE


def linear_step(
    q_BHF: Tensor,
    k_BHF: Tensor,
    v_BHV: Tensor,
    sum_BHFE: Tensor,
    *,
    least: float = 0.0,
    mask_B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of `linear_attention`: y_BHV and S after it."""
    q, k, v1 = _steps(q_BHF, k_BHF, v_BHV, sum_BHFE.dtype)
    if mask_B is not None:
        k = k.masked_fill(~mask_B[:, None, None], 0.0)
    with torch.autocast(v_BHV.device.type, enabled=False):
        n_BHE, sum_BHFE = _step(q, k, v1, sum_BHFE)
    return _ratio(n_BHE, least).to(v_BHV.dtype), sum_BHFE


def _steps(q: Tensor, k: Tensor, v: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    return q.to(dtype), k.to(dtype), F.pad(v.to(dtype), (0, 1), value=1.0)


def _ratio(n: Tensor, least: float) -> Tensor:
    u = n[..., -1:]
    return n[..., :-1] / (u.clamp(min=least) if least > 0 else torch.where(u > 0, u, 1.0))


def _step(q_BHF: Tensor, k_BHF: Tensor, v_BHE: Tensor, sum_BHFE: Tensor) -> tuple[Tensor, Tensor]:
    sum_BHFE = sum_BHFE + k_BHF[..., :, None] * v_BHE[..., None, :]
    return (q_BHF[..., None, :] @ sum_BHFE)[..., 0, :], sum_BHFE


def _naive(q: Tensor, k: Tensor, v1: Tensor, sum_BHFE: Tensor) -> tuple[Tensor, Tensor]:
    outputs = []
    for now in zip(q.unbind(2), k.unbind(2), v1.unbind(2), strict=True):
        n_BHE, sum_BHFE = _step(*now, sum_BHFE)
        outputs.append(n_BHE)
    return torch.stack(outputs, 2) if outputs else v1, sum_BHFE


def _chunk(q: Tensor, k: Tensor, v1: Tensor, sum_BHFE: Tensor) -> tuple[Tensor, Tensor]:
    time = v1.shape[2]
    chunks = time // CHUNK + 1  # the last may be all padding: simple sizes trace faster
    short = chunks * CHUNK - time
    q, k, v1 = (F.pad(x, (0, 0, 0, short)).unflatten(2, (chunks, CHUNK)) for x in (q, k, v1))
    written_BHNFE = k.mT @ v1
    # what precedes each chunk; one past the end, the new state
    earlier_BHNFE = torch.cat([sum_BHFE[:, :, None], written_BHNFE], 2).cumsum(2)
    n_BHNCE = (q @ k.mT).tril() @ v1 + q @ earlier_BHNFE[:, :, :-1]
    return n_BHNCE.flatten(2, 3)[:, :, :time], earlier_BHNFE[:, :, -1]
