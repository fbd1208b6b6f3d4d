"""Where a layer attends: seen by a capture to the same bits, with any mask and bias; the same on other devices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import qkv
from qkv.nn import Decoder, MultiHeadAttention, Rotary, T5Positions
from qkv.nn._attended import _elsewhere

MASKS: dict[str, Any] = {
    "none": None,
    "causal": qkv.Causal(),
    "window": qkv.Window(2, 0) & qkv.Padding([7, 4]),
    "apart": qkv.ExceptSelf() | qkv.Window(0, 0),
    "holes": qkv.Causal() & (torch.arange(7) != 2),
    "empty": qkv.Padding([7, 0]),
}
BIASES: dict[str, Any] = {
    "none": None,
    "alibi": qkv.ALiBi.geometric(4),
    "array": torch.linspace(-1, 1, 49).reshape(7, 7),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)
def test_capture_sees_a_layer_as_it_is(mask: Any, bias: Any) -> None:
    attention, x = MultiHeadAttention(16, 4, key_heads=2, rotary=Rotary(4)), torch.randn(2, 7, 16)
    expected = attention(x, mask=mask, bias=bias)
    dense = attention.weights(x, mask=mask, bias=bias)
    with qkv.capture(attention) as capture:
        assert torch.equal(attention(x, mask=mask, bias=bias), expected)
    for text, weights in enumerate(dense):
        for head in range(4):
            found = capture.trace.sequences[text].attentions[0].weights(head=head)
            torch.testing.assert_close(torch.from_numpy(found), weights[head], rtol=1e-5, atol=1e-6)


def test_capture_follows_a_decoder_step_by_step() -> None:
    model, x = Decoder(2, 16, 4, cross=False).eval(), torch.randn(1, 6, 16)
    cache = model.new_cache()
    with qkv.capture(model) as capture:
        for step in range(6):
            model(x[:, step : step + 1], cache=cache)
    records = capture.trace.attentions
    assert [(each.layer, each.part, each.query.shape) for each in records] == [
        (layer, "decoder", (4, 6, 4)) for layer in (0, 1)
    ]


def test_capture_keeps_a_learned_bias_learning() -> None:
    attention, positions, x = MultiHeadAttention(8, 2), T5Positions(2), torch.randn(1, 5, 8)
    gradients = []
    for captured in (False, True):
        positions.zero_grad()
        if captured:
            with qkv.capture(attention):
                attention(x, bias=positions()).square().sum().backward()
        else:
            attention(x, bias=positions()).square().sum().backward()
        gradients.append(positions.weight.grad)
    assert bool(gradients[0].any())
    assert torch.equal(*gradients)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)
def test_other_devices_compute_the_same(mask: Any, bias: Any) -> None:
    query, key, value = (torch.randn(2, heads, 7, 8) for heads in (4, 2, 2))
    found = _elsewhere(query, key, value, mask, bias, 0.0)
    torch.testing.assert_close(found, qkv.attend(query, key, value, mask=mask, bias=bias), rtol=1e-5, atol=1e-5)


def test_other_devices_differentiate_the_same() -> None:
    attention, x = MultiHeadAttention(8, 2), torch.randn(1, 5, 8, requires_grad=True)
    query, key, value = attention.project(x)
    arguments = qkv.Causal(), T5Positions(2)()
    found = torch.autograd.grad(_elsewhere(query, key, value, *arguments, 0.0).square().sum(), x, retain_graph=True)
    ours = qkv.attend(query, key, value, mask=arguments[0], bias=arguments[1])
    torch.testing.assert_close(found, torch.autograd.grad(ours.square().sum(), x), rtol=1e-4, atol=1e-5)


def test_positions_are_counted_for_each_row() -> None:
    x = torch.zeros(2, 3, 6)
    for positions in (qkv.nn.SinusoidalPositions(6, length=2), qkv.nn.LearnedPositions(6, length=8)):
        both = positions(x, torch.tensor([4, -2]))
        assert torch.equal(both[0], positions(x[:1], 4)[0])
        assert torch.equal(both[1, 2], positions(x[:1])[0, 0])


def test_tables_that_were_lost_are_computed_anew() -> None:
    for made in (qkv.nn.SinusoidalPositions(6), qkv.nn.Rotary(6)):
        name = next(iter(dict(made.named_buffers())))
        expected = getattr(made, name).clone()
        assert isinstance(made, nn.Module)
        getattr(made, name).zero_()
        made.compute()
        assert torch.equal(getattr(made, name), expected)


def test_dropout_follows_torchs_seed() -> None:
    layer = MultiHeadAttention(32, 4, dropout=0.5)
    x = torch.randn(2, 9, 32)
    torch.manual_seed(3)
    first, second = layer(x), layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)
