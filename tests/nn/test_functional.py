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
from qkv.nn import _operators
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


def test_jacobians_by_reverse_mode_and_none_by_forward_mode() -> None:
    query = QUERY[:1, :1, :2].clone()

    def attend(query: Tensor) -> Tensor:
        return scaled_dot_product_attention(query, KEY[:1, :1], VALUE[:1, :1])

    expected = torch.autograd.functional.jacobian(attend, query)
    torch.testing.assert_close(torch.func.jacrev(attend)(query), expected)
    with pytest.raises(qkv.ArgumentError, match="query: no forward-mode derivatives"):
        torch.func.jvp(attend, (query,), (query,))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kind", ["bool", "float", "float, mapped", "none"])
def test_a_mapped_axis_is_part_of_the_batch(kind: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call of the kernel for all items, forward and backward; what is not mapped belongs to every item."""
    generator = torch.Generator().manual_seed(3)
    query, key, value = (torch.randn(3, batch, 4, 5, 8, generator=generator) for _ in range(3))
    key = key.movedim(0, 2)  # mapped somewhere else
    value = value[0]
    mask = {
        "bool": torch.rand(5, 5, generator=generator) > 0.3,
        "float": torch.randn(1, 4, 5, 5, generator=generator),
        "float, mapped": torch.randn(3, 1, 1, 5, 5, generator=generator),
        "none": None,
    }[kind]
    dims = (0, 2, None, 0 if kind == "float, mapped" else None)
    calls = []
    plain = _operators.run
    monkeypatch.setattr(_operators, "run", lambda *given: calls.append(1) or plain(*given))

    def item(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        return scaled_dot_product_attention(query, key, value, mask).square().sum()

    learned = tuple(index for index in range(4) if index < 3 or kind.startswith("float"))
    found = torch.func.vmap(torch.func.grad(item, argnums=learned), in_dims=dims)(query, key, value, mask)
    assert len(calls) == 1
    for index in range(3):
        given = [
            x if dim is None else x.select(dim, index) for x, dim in zip((query, key, value, mask), dims, strict=True)
        ]
        want = torch.func.grad(item, argnums=learned)(*given)
        for one, other in zip(found, want, strict=True):
            torch.testing.assert_close(one[index], other)
    leaves = [x.clone().requires_grad_() for x in (query, key, value)]
    torch.func.vmap(item, in_dims=dims)(*leaves, mask).sum().backward()
    torch.testing.assert_close(leaves[0].grad, found[0])
    torch.testing.assert_close(leaves[2].grad, found[2].sum(0))


def test_mapped_dropout_draws_for_each_item() -> None:
    x = torch.randn(3, 1, 2, 5, 8)

    def item(x: Tensor) -> Tensor:
        return scaled_dot_product_attention(x, x, x, dropout_p=0.5)

    same = torch.func.vmap(item, randomness="same")(x[:1].expand(3, -1, -1, -1, -1))
    assert torch.equal(same[0], same[1])


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


def test_one_graph_of_a_module_compiled_by_inductor() -> None:
    """The code that torch generates around the operator, backward too."""

    class Attending(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = torch.nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            y = self.project(x)
            return torch.tanh(scaled_dot_product_attention(y, y * 2, y + 1, is_causal=True))

    torch.manual_seed(0)
    module = Attending()
    want = module(QUERY)
    gradients = torch.autograd.grad(want.square().sum(), tuple(module.parameters()))
    found = torch.compile(module, fullgraph=True, backend="inductor")(QUERY)
    torch.testing.assert_close(found, want)
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), tuple(module.parameters())), gradients, strict=True
    ):
        torch.testing.assert_close(one, other)


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
        ({"query": QUERY.numpy()}, "query: expected a torch tensor, got ndarray"),
        ({"query": QUERY[..., :0], "key": KEY[..., :0]}, "query: expected a head_dim of at least 1, got shape"),
        ({"key": KEY[:, :2], "value": VALUE[:, :2]}, r"key: .* \(2, 4\), got \(2, 2\); fewer heads"),
        ({"key": KEY[:, :3], "enable_gqa": True}, "key: expected a number of heads that divides the query's"),
        ({"value": VALUE[:, :3], "enable_gqa": True}, "value: expected a number of heads that divides the query's"),
        ({"attn_mask": allowed()[..., :5]}, r"attn_mask: expected what broadcasts to \(..., N, M\) = \(..., 5, 6\)"),
        (
            {"attn_mask": allowed()[:, :1].expand(2, 2, 5, 6), "enable_gqa": True},
            r"attn_mask: expected what broadcasts to \(..., heads, N, M\) = \(..., 4, 5, 6\), got shape \(2, 2, 5, 6\)",
        ),
        ({"attn_mask": allowed().to("meta")}, "attn_mask: expected a tensor on cpu like the query, got one on meta"),
        ({"attn_mask": allowed().int()}, "attn_mask: expected torch.bool, torch.float32, got torch.int32"),
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
