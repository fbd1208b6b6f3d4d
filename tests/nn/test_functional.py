"""`scaled_dot_product_attention` against PyTorch's own: values, gradients, transforms, compilation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import qkv
from qkv.nn.functional import scaled_dot_product_attention

QUERY, KEY, VALUE = (
    torch.randn(2, 4, n, d, generator=torch.Generator().manual_seed(n)) for n, d in ((5, 8), (6, 8), (6, 3))
)


def allowed() -> Tensor:
    mask = torch.randn(2, 1, 5, 6, generator=torch.Generator().manual_seed(0)) > 0
    mask[..., 0] = True
    return mask


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": allowed()},
        {"attn_mask": torch.linspace(-1, 1, 30).view(5, 6)},
    ],
)
def test_against_pytorch(options: dict[str, Any]) -> None:
    expected = functional.scaled_dot_product_attention(QUERY, KEY, VALUE, **options)
    torch.testing.assert_close(scaled_dot_product_attention(QUERY, KEY, VALUE, **options), expected)


def test_grouped_heads_and_broadcast_axes_and_two_axes() -> None:
    key, value = KEY[:, :2], VALUE[:, :2]
    found = scaled_dot_product_attention(QUERY, key, value, enable_gqa=True)
    torch.testing.assert_close(found, functional.scaled_dot_product_attention(QUERY, key, value, enable_gqa=True))
    found = scaled_dot_product_attention(QUERY, KEY[:1], VALUE[:1])
    torch.testing.assert_close(
        found, scaled_dot_product_attention(QUERY, KEY[:1].expand_as(KEY), VALUE[:1].expand_as(VALUE))
    )
    found = scaled_dot_product_attention(QUERY[0, 0], KEY[0, 0], VALUE[0, 0])
    torch.testing.assert_close(found, scaled_dot_product_attention(QUERY, KEY, VALUE)[0, 0])


def test_first_and_second_derivatives() -> None:
    shapes = ((1, 2, 3, 2), (1, 2, 4, 2), (1, 2, 4, 2), (1, 1, 3, 4))
    inputs = tuple(torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    assert gradcheck(scaled_dot_product_attention, inputs)
    assert gradgradcheck(scaled_dot_product_attention, inputs)


def test_rows_that_may_attend_to_nothing_are_zero() -> None:
    assert not scaled_dot_product_attention(QUERY, KEY, VALUE, torch.zeros(5, 6, dtype=torch.bool)).any()


def test_the_seed_is_torchs() -> None:
    torch.manual_seed(3)
    one, other = (scaled_dot_product_attention(QUERY, KEY, VALUE, dropout_p=0.5) for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(one, scaled_dot_product_attention(QUERY, KEY, VALUE, dropout_p=0.5))
    assert not torch.equal(one, other)


def test_transforms() -> None:
    expected = scaled_dot_product_attention(QUERY, KEY, VALUE)
    torch.testing.assert_close(torch.func.vmap(scaled_dot_product_attention)(QUERY, KEY, VALUE), expected)

    def loss(query: Tensor) -> Tensor:
        return scaled_dot_product_attention(query, KEY, VALUE).square().sum()

    query = QUERY.clone().requires_grad_()
    torch.testing.assert_close(torch.func.grad(loss)(QUERY), torch.autograd.grad(loss(query), query)[0])


def test_shapes_alone_and_autocast() -> None:
    shaped = scaled_dot_product_attention(QUERY.to("meta"), KEY.to("meta"), VALUE.to("meta"))
    assert shaped.shape == (2, 4, 5, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert scaled_dot_product_attention(QUERY, KEY, VALUE).dtype == torch.bfloat16


def test_one_graph() -> None:
    compiled = torch.compile(
        lambda query: scaled_dot_product_attention(query, KEY, VALUE, is_causal=True),
        fullgraph=True,
        backend="aot_eager",
    )
    one, other = QUERY.clone().requires_grad_(), QUERY.clone().requires_grad_()
    compiled(one).sum().backward()
    scaled_dot_product_attention(other, KEY, VALUE, is_causal=True).sum().backward()
    torch.testing.assert_close(one.grad, other.grad)


def test_the_operator_keeps_its_word() -> None:
    torch.library.opcheck(
        torch.ops.qkv.attention.default,
        (QUERY, KEY, VALUE, None, None, None, True, 0.3, 0.0),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attn_mask": allowed(), "is_causal": True}, "attn_mask: expected None with is_causal=True"),
        ({"dropout_p": 1.5}, "dropout_p: expected a probability from 0 to below 1, got 1.5"),
        ({"key": KEY[..., :5]}, "key: expected the query's head_dim 8, got shape"),
        ({"value": VALUE[:, :, :2]}, "value: expected one for each of 6 keys, got shape"),
        ({"key": KEY.double()}, "key: expected the query's floating dtype torch.float32, got torch.float64"),
    ],
)
def test_messages(change: dict[str, Any], message: str) -> None:
    with pytest.raises(qkv.ArgumentError, match=message):
        scaled_dot_product_attention(**({"query": QUERY, "key": KEY, "value": VALUE} | change))


@pytest.mark.parametrize("shape", [(2, 3, 0, 8), (0, 3, 4, 8)])
def test_nothing_asked_is_nothing_answered(shape: tuple[int, ...]) -> None:
    query, key = torch.zeros(shape), torch.zeros(shape[0], 3, 4, 8)
    assert scaled_dot_product_attention(query, key, key).shape == shape


def test_checkpointing_draws_the_same_dropout_again() -> None:
    def gradient(through: Any) -> Tensor:
        torch.manual_seed(1)
        query, key, value = (torch.linspace(-1, 1, 432).view(2, 9, 3, 8).transpose(1, 2) for _ in range(3))
        query = query.detach().requires_grad_()
        through(
            lambda *inputs: scaled_dot_product_attention(*inputs, dropout_p=0.3), query, key, value
        ).sum().backward()
        assert query.grad is not None
        return query.grad

    plain = gradient(lambda function, *inputs: function(*inputs))
    again = gradient(lambda function, *inputs: checkpoint(function, *inputs, use_reentrant=False))
    assert torch.equal(plain, again)
    assert plain.any()
