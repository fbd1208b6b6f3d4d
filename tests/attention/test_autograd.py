"""Gradients through `attend` and `observe`: against numbers, against PyTorch's own, and who gets them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import qkv
from qkv.attention._backends import _chunks


def real(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("rows", [1, 100])
def test_everything_at_once_in_float64(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """First derivatives against differences, second ones too, by chunks of a row and in one piece."""
    query, key, value, sink = real(1, 4, 3, 2), real(1, 2, 4, 2), real(1, 2, 4, 2), real(4)
    slopes, table, per_key, bias = real(4).detach().abs().requires_grad_(), real(4, 3), real(2, 4)[:1], real(1, 1, 3, 4)
    monkeypatch.setattr(_chunks, "BLOCK", 16 * rows)

    def function(query: Tensor, key: Tensor, value: Tensor, sink: Tensor, *terms: Tensor) -> tuple[Tensor, Tensor]:
        seen = qkv.observe(
            query,
            key,
            value,
            mask=qkv.Causal(),
            bias=qkv.ALiBi(terms[0]) + qkv.RelativeBias(terms[1]) + qkv.KeyBias(terms[2]) + terms[3],
            softcap=3,
            sink=sink,
        )
        return seen.output, seen.lse

    inputs = (query, key, value, sink, slopes, table, per_key, bias)
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 3), (2, 3, 1, 5, 3)])
def test_any_leading_axes(shape: tuple[int, ...]) -> None:
    assert gradcheck(lambda x, y: qkv.attend(x, y, y * 2, mask=qkv.Window(1, 1)), (real(*shape), real(*shape)))


def test_a_row_without_keys_has_no_gradient() -> None:
    query, key, value = real(4, 3), real(5, 3), real(5, 2)
    allowed = torch.ones(4, 5, dtype=torch.bool)
    allowed[1] = False
    allowed[:, 2] = False
    output = qkv.attend(query, key, value, mask=allowed)
    gradients = torch.autograd.grad(output.square().sum(), (query, key, value), create_graph=True)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[0][1].any()
    assert not gradients[1][2].any()
    assert not gradients[2][2].any()
    assert gradgradcheck(lambda *inputs: qkv.attend(*inputs, mask=allowed), (query, key, value))


def test_nothing_to_attend_to() -> None:
    query, key, value = real(2, 3, 4), real(2, 0, 4), real(2, 0, 5)
    qkv.attend(query, key, value).sum().backward()
    assert query.grad is not None
    assert not query.grad.any()
    assert key.grad is not None
    assert key.grad.shape == (2, 0, 4)
    empty = real(0, 3, 4)
    qkv.attend(empty, empty, empty).sum().backward()
    assert empty.grad is not None


@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 2e-6), ("bfloat16", 2e-2), ("float16", 2e-3)])
def test_against_pytorch(dtype: str, allowed: float) -> None:
    """No further from the truth in float64 than rounding to the dtype."""
    query, key, value, back = (torch.randn(2, 4, 50, 16).to(getattr(torch, dtype)) for _ in range(4))

    def gradients(function: Any, *arrays: Tensor) -> tuple[Tensor, ...]:
        inputs = [array.clone().requires_grad_() for array in arrays]
        return torch.autograd.grad(function(*inputs), inputs, back.to(arrays[0].dtype))

    def pytorch(*inputs: Tensor) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(*inputs, is_causal=True)

    found = gradients(lambda *inputs: qkv.attend(*inputs, mask=qkv.Causal()), query, key, value)
    expected = gradients(pytorch, query.double(), key.double(), value.double())
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == query.dtype
        assert (one.double() - other).norm() <= allowed * other.norm()


def test_a_sum_as_a_loss_and_views_as_inputs() -> None:
    """The gradient of a sum is one number, expanded; heads are often a transposed view."""
    x = real(2, 5, 3, 4)
    heads = x.transpose(1, 2)
    qkv.attend(heads, heads, heads).sum().backward()
    assert x.grad is not None
    y = x.detach().transpose(1, 2).contiguous().requires_grad_()
    torch.nn.functional.scaled_dot_product_attention(y, y, y).sum().backward()
    assert y.grad is not None
    torch.testing.assert_close(x.grad.transpose(1, 2), y.grad)


def test_only_what_asks_is_answered() -> None:
    query, key, value, sink = torch.randn(3, 4), real(5, 4).float(), torch.randn(5, 2), torch.zeros(1)
    seen = qkv.observe(query, key, value, sink=sink, entropy=True, top_k=2, received=True, block_map=2)
    assert seen.output.requires_grad
    assert seen.lse.requires_grad
    assert not seen.entropy.requires_grad
    assert not seen.top_k.weights.requires_grad
    assert not seen.received.requires_grad
    assert not seen.block_map.requires_grad
    for quiet in (torch.no_grad, torch.inference_mode):
        with quiet():
            assert not qkv.attend(query, key, value).requires_grad
    assert not qkv.attend(query, key.detach(), value).requires_grad


def test_the_logsumexp_alone() -> None:
    query, key = real(3, 4), real(5, 4)
    assert gradcheck(lambda query, key: qkv.observe(query, key, key[:, :0]).lse, (query, key))
    (gradient,) = torch.autograd.grad(qkv.observe(query, key, key).lse.sum(), key)
    weights = qkv.weights(query.detach(), key.detach(), scale=0.5)
    torch.testing.assert_close(gradient, 0.5 * weights.T @ query.detach())


def test_learned_biases_are_read_as_they_are_now() -> None:
    """A bias object may live as long as the module that made it; training changes its tensor in place."""
    x = torch.randn(2, 5, 4)
    slopes, table = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.zeros(2, 3))
    per_key, dense = torch.nn.Parameter(torch.zeros(5).bfloat16()), torch.nn.Parameter(torch.zeros(5, 5))
    bias = qkv.ALiBi(slopes) + qkv.RelativeBias(table) + qkv.KeyBias(per_key) + dense
    qkv.attend(x, x, x, bias=bias).square().sum().backward()
    with torch.no_grad():
        for parameter in (slopes, table, per_key, dense):
            assert parameter.grad is not None
            assert parameter.grad.dtype == parameter.dtype
            assert parameter.grad.any()
            parameter -= 0.1 * parameter.grad
    again = qkv.ALiBi(slopes.detach()) + qkv.RelativeBias(table.detach())
    again = again + qkv.KeyBias(per_key.detach()) + dense.detach()
    assert torch.equal(qkv.attend(x, x, x, bias=bias), qkv.attend(x, x, x, bias=again))


def test_t5_and_scalars_and_expanded_biases() -> None:
    x = torch.randn(2, 4, 6, 8, dtype=torch.float64)
    table, slope, shared = real(8, 4), real(1)[0].abs().detach().requires_grad_(), real(1, 6)

    def function(table: Tensor, slope: Tensor, shared: Tensor) -> Tensor:
        bias = qkv.RelativeBias.t5(table, max_distance=5) + qkv.ALiBi(slope) + shared.expand(6, 6)
        return qkv.attend(x, x, x, bias=bias)

    assert gradcheck(function, (table, slope, shared))


def test_batch_axes_of_a_bias_that_are_partly_shared() -> None:
    x = torch.randn(2, 3, 1, 4, 2, dtype=torch.float64)
    assert gradcheck(lambda bias: qkv.attend(x, x, x, bias=bias), (real(3, 1, 4, 4),))


def test_checkpointing_recomputes() -> None:
    x = real(2, 5, 4)
    for reentrant in (True, False):
        output = torch.utils.checkpoint.checkpoint(
            lambda y: qkv.attend(y, y, y, mask=qkv.Causal()), x, use_reentrant=reentrant
        )
        (found,) = torch.autograd.grad(output.square().sum(), x) if not reentrant else (None,)
        if reentrant:
            output.square().sum().backward()
            found = x.grad
        expected = torch.autograd.grad(qkv.attend(x, x, x, mask=qkv.Causal()).square().sum(), x)[0]
        torch.testing.assert_close(found, expected)


def test_inputs_that_changed_in_between_are_noticed() -> None:
    x = torch.randn(5, 4, requires_grad=True)
    y = x * 1
    output = qkv.attend(y, y, y)
    y += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_arrays_of_numpy_have_none() -> None:
    x = np.zeros((3, 4))
    with pytest.raises(qkv.ArgumentError, match="bias: no gradients come from here"):
        qkv.attend(x, x, x, bias=qkv.ALiBi(torch.ones(1, requires_grad=True)))


@pytest.mark.parametrize("shape", [(1, 1, 1, 0), (1, 1, 0, 1), (0, 0), (1,)])
def test_bias_of_no_scores(shape: tuple[int, ...]) -> None:
    query, bias = torch.zeros(1, 1, 0, 4, requires_grad=True), torch.ones(shape, requires_grad=True)
    output = qkv.attend(query, query, query, bias=bias)
    (gradient,) = torch.autograd.grad(output, [bias], torch.zeros_like(output))
    assert gradient.equal(torch.zeros(shape))
