"""What each layer computes, against its definition; the laws are in test_laws.py."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from remem.core import Aaren, CausalAttention, LSTMAttention


def test_aaren_is_attention_of_one_query() -> None:
    torch.manual_seed(0)
    layer = Aaren(8, num_heads=2)
    layer.query_HK.data *= 100
    x_BTD = torch.randn(2, 30, 8)
    q_BHTK = layer.query_HK[None, :, None].expand(2, 2, 30, 4)
    k_BHTK, v_BHTK = (p(x_BTD).view(2, 30, 2, 4).transpose(1, 2) for p in (layer.key, layer.value))
    o_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, is_causal=True)
    torch.testing.assert_close(layer(x_BTD)[0], layer.out(o_BHTK.transpose(1, 2).flatten(2)))


def test_aaren_decay_forgets() -> None:
    torch.manual_seed(0)
    kept, fading = Aaren(8), Aaren(8, decay=True)
    assert fading.raw_decay_H is not None
    torch.testing.assert_close(F.softplus(fading.raw_decay_H), torch.logspace(-1, -3, 4))
    fading.load_state_dict(kept.state_dict(), strict=False)
    x_BTD = torch.cat([torch.full((1, 50, 8), 5.0), torch.randn(1, 200, 8)], 1)
    x_BTD.requires_grad_()
    pull = []
    for layer in (kept, fading):
        (gradient,) = torch.autograd.grad(layer(x_BTD)[0][:, -1].square().sum(), x_BTD)
        pull.append(gradient[0].norm(dim=-1))
    assert pull[1][:50].sum() / pull[1][-50:].sum() < 0.5 * pull[0][:50].sum() / pull[0][-50:].sum()


def test_attention_sees_exactly_the_window() -> None:
    torch.manual_seed(0)
    layer = CausalAttention(8, num_heads=2, window=5)
    x_BTD = torch.randn(1, 12, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x_BTD)[0][0, 9].sum(), x_BTD)
    assert (gradient[0].abs().sum(-1) > 0).tolist() == [5 <= t <= 9 for t in range(12)]


def test_attention_with_a_long_window_is_full_causal_attention() -> None:
    torch.manual_seed(0)
    layer = CausalAttention(8, num_heads=2, window=12)
    x_BTD = torch.randn(2, 12, 8)
    q, k, v = layer.qkv(x_BTD).view(2, 12, 3, 2, 4).permute(2, 0, 3, 1, 4)
    o_BHTK = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(layer(x_BTD)[0], layer.out(o_BHTK.transpose(1, 2).flatten(2)))


def test_attention_refuses_an_empty_window() -> None:
    with pytest.raises(ValueError, match="window is 0"):
        CausalAttention(8, window=0)


def test_lstm_attention_is_an_lstm_and_a_softmax_over_its_outputs() -> None:
    torch.manual_seed(0)
    layer = LSTMAttention(8, num_heads=1)
    x_BTD = torch.randn(2, 20, 8)
    h_BTD, (h_1BD, c_1BD) = layer.lstm.lstm(x_BTD)
    s_BT = layer.score(torch.tanh(layer.hidden(h_BTD)))[..., 0]
    later = torch.arange(20)[:, None] < torch.arange(20)
    context_BTD = s_BT[:, None].expand(-1, 20, -1).masked_fill(later, -torch.inf).softmax(-1) @ h_BTD
    y_BTD, state = layer(x_BTD)
    torch.testing.assert_close(y_BTD, layer.out(torch.cat([h_BTD, context_BTD], -1)))
    torch.testing.assert_close((state.h, state.c), (h_1BD[0], c_1BD[0]))


def test_closed_gates_get_no_gradient_from_padding() -> None:
    """The same gradients whether padding is there or not."""
    torch.manual_seed(0)
    layer = LSTMAttention(8, num_heads=1)
    x_BTD = torch.randn(1, 6, 8)
    layer(x_BTD[:, :4])[0].sum().backward()
    wanted = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    mask_BT = torch.tensor([[True] * 4 + [False] * 2])
    layer(x_BTD, mask_BT=mask_BT)[0][mask_BT].sum().backward()
    for parameter, gradient in zip(layer.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
