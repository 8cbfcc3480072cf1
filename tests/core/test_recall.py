"""Any sequence layer as a memory that is read before it is written."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from remem.core import Aaren, Block, LSTMAttention
from remem.core.layers.distance_attention import DistanceAttention
from remem.core.layers.same_concept import SameConcept
from remem.core.recall import Recall, Recurrent
from remem.core.recall_laws import check_recall


@pytest.mark.parametrize("layers", [1, 2])
def test_a_recurrent_recall_obeys_the_laws(layers: int) -> None:
    def recall(d_model: int) -> Recurrent:
        return Recurrent(partial(Aaren, num_heads=2), d_model, num_layers=layers)

    assert check_recall(recall, d_model=8, examples=3, export=False)["reads_before_writing"] == 1


def test_the_read_is_the_output_of_the_blocks_one_written_step_before() -> None:
    torch.manual_seed(0)
    recall = Recurrent(LSTMAttention, 8).eval()
    written_BTD, x_BTF = torch.randn(1, 9, 8), torch.zeros(1, 9, 4)
    real_T = torch.tensor([1, 1, 0, 1, 0, 0, 1, 1, 1], dtype=torch.bool)
    read_BTD, _ = recall(written_BTD, written_BTD, x_BTF=x_BTF, mask_BT=real_T[None])
    block: Block = recall.blocks[0]
    h_BTD, _ = block(written_BTD[:, real_T])
    assert (read_BTD[0, 0] == 0).all()
    for t in range(1, 9):
        before = int(real_T[:t].sum()) - 1
        torch.testing.assert_close(read_BTD[0, t], h_BTD[0, before], rtol=1e-5, atol=1e-5)


def test_all_three_are_recalls() -> None:
    for recall in (Recurrent(Aaren, 8), SameConcept(9), DistanceAttention(8)):
        assert isinstance(recall, Recall)


def test_a_recall_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="num_layers is 0"):
        Recurrent(Aaren, 8, num_layers=0)
