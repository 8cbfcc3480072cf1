"""The bench of kernels: an error without a GPU, and its road on the CPU in triton's interpreter."""

import pytest
import torch

from remem.apps.bench_kernels import kernels, measure
from remem.core.ops import _backend


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_so():
    with pytest.raises(ValueError, match="bench kernels: no CUDA device here"):
        kernels(seeds=1, root=None, quick=True)


def test_rows_on_a_small_problem():
    pytest.importorskip("triton", reason="triton is not installed (extra: kernels)")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not _backend.interpreted():
        pytest.skip("needs a CUDA device, or TRITON_INTERPRET=1")
    rows = measure(device, runs=1, lengths=(6,), batch=1, heads=1, width=4)
    assert {row["device"] for row in rows} == {
        "cpu" if device.type == "cpu" else torch.cuda.get_device_name()
    }
    told = [row["what"] for row in rows if not str(row["what"]).startswith("step")]
    assert told == [
        *["copy", "aaren forward", "aaren both"] * 2,
        "delta rule",
        "titans",
        "landmark attention",
    ]
    assert all(row[name] > 0 for row in rows for name in ("ms", "us", "torch_ms") if name in row)
