"""Tensors that our kernel does not read: the same path as on a GPU, over tensors on the CPU and without memory.

On a machine with a GPU everything here runs on it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import qkv
from qkv.attention import _device, explained
from qkv.attention._backends import _chunks, _torch

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))]
EVERYTHING: dict[str, Any] = {"entropy": True, "max_score": True, "top_k": 3, "received": True, "distance": True}
EVERYTHING["block_map"] = 4
LENGTH = 11


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Where tensors are sent; those on the CPU then go the way of all others too."""
    torch.manual_seed(0)
    monkeypatch.setattr(_chunks, "BLOCK", 100)  # several chunks

    class Way:
        name = request.param

        def to(self, given: Any) -> Any:
            return (
                given.detach().to(self.name).requires_grad_(given.requires_grad) if isinstance(given, Tensor) else given
            )

        def __enter__(self) -> None:
            patch.setattr("qkv.attention._arrays.kernel_reads", lambda tensor: False)

        def __exit__(self, *_: object) -> None:
            patch.undo()

    with pytest.MonkeyPatch.context() as patch:
        yield Way()


def tensors(
    dtype: torch.dtype = torch.float32, queries: int = LENGTH, heads: int = 4, key_heads: int = 2
) -> list[Tensor]:
    shapes = (2, heads, queries, 8), (2, key_heads, LENGTH, 8), (2, key_heads, LENGTH, 6)
    return [torch.randn(shape).to(dtype) for shape in shapes]


def mask_array() -> Tensor:
    allowed = torch.rand(2, 1, LENGTH, LENGTH) > 0.4
    allowed[0, 0, 3] = False
    return allowed


OPTIONS: dict[str, Callable[[Callable[[Tensor], Tensor]], dict[str, Any]]] = {
    "nothing": lambda to: {},
    "causal": lambda to: {"mask": qkv.Causal()},
    "padding": lambda to: {"mask": qkv.Padding(to(torch.tensor([11, 7])))},
    "padding, one text empty": lambda to: {"mask": qkv.Padding([11, 0])},
    "window": lambda to: {"mask": qkv.Window(3, 1)},
    "causal and padding": lambda to: {"mask": qkv.Causal() & qkv.Padding([11, 7], side="left")},
    "documents": lambda to: {"mask": qkv.Documents(to(torch.arange(LENGTH) % 3))},
    "an array": lambda to: {"mask": to(mask_array())},
    "an array and more": lambda to: {"mask": qkv.Causal() & to(mask_array()) | qkv.Window(1, 1)},
    "softcap and sink": lambda to: {"softcap": 2.0, "sink": to(torch.randn(4)), "scale": 0.7},
    "a dense bias": lambda to: {"bias": to(torch.randn(4, LENGTH, LENGTH)), "mask": qkv.Causal()},
    "a bias of two batch axes": lambda to: {"bias": to(torch.randn(2, 1, 1, LENGTH).double())},
    "a bias of -inf": lambda to: {"bias": to(torch.randn(LENGTH, LENGTH).masked_fill(mask_array()[0, 0], -torch.inf))},
    "every other bias": lambda to: {
        "bias": qkv.ALiBi.geometric(4)
        + qkv.RelativeBias(to(torch.randn(4, 5)))
        + qkv.KeyBias(to(torch.randn(2, 1, LENGTH)))
    },
    "dropout": lambda to: {"dropout": 0.4, "seed": 7},
}


def made(name: str, device: str = "cpu") -> dict[str, Any]:
    """Options, the same each time, with their arrays on a device."""
    torch.manual_seed(1)
    return OPTIONS[name](lambda tensor: tensor.to(device))


def learnable(options: dict[str, Any]) -> list[Tensor]:
    """Tensors among the options that can have gradients, which they are told to have."""
    found = [value for value in options.values() if isinstance(value, Tensor) and value.is_floating_point()]
    return [value.requires_grad_() for value in found]


def close(found: Any, want: Any, dtype: torch.dtype = torch.float32) -> None:
    loose = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(found.cpu().to(want.dtype), want, rtol=loose, atol=loose)


@pytest.mark.parametrize("name", OPTIONS)
def test_output_and_gradients_are_those_of_the_kernel(name: str, device: Any) -> None:
    options, inputs = made(name), [each.requires_grad_() for each in tensors()]
    learned = learnable(options)
    want = qkv.attend(*inputs, **options)
    weight = torch.randn_like(want)
    gradients = torch.autograd.grad((want * weight).sum(), [*inputs, *learned])
    with device:
        there, given = [device.to(each) for each in inputs], made(name, device.name)
        also = learnable(given)
        found = qkv.attend(*there, **given)
        back = torch.autograd.grad((found * weight.to(device.name)).sum(), [*there, *also])
    assert found.device.type == device.name
    close(found, want)
    for one, other in zip(back, gradients, strict=True):
        assert one.dtype == other.dtype
        close(one, other)


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "dropout"])
def test_statistics_are_those_of_the_kernel(name: str, device: Any) -> None:
    options, inputs = made(name), tensors()
    want = qkv.observe(*inputs, **options, **EVERYTHING)
    weights = qkv.weights(*inputs[:2], **options, rows=slice(2, 9), columns=[0, 5, 3])
    with device:
        there, given = [device.to(each) for each in inputs], made(name, device.name)
        found = qkv.observe(*there, **given, **EVERYTHING)
        window = qkv.weights(*there[:2], **given, rows=slice(2, 9), columns=[0, 5, 3])
        again = qkv.weights(*there[:2], **given, lse=found.lse, rows=slice(2, 9), columns=[0, 5, 3])
    assert list(vars(found)) == list(vars(want))
    for each in ("output", "lse", "entropy", "max_score", "received", "distance", "block_map"):
        assert getattr(found, each).dtype == getattr(want, each).dtype
        close(getattr(found, each), getattr(want, each))
    assert torch.equal(found.top_k.indices.cpu(), want.top_k.indices)
    close(found.top_k.weights, want.top_k.weights)
    close(window, weights)
    close(again, weights)
    assert window.device.type == device.name


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["causal", "softcap and sink"])
def test_other_dtypes(name: str, dtype: torch.dtype, device: Any) -> None:
    options, inputs = made(name), [each.requires_grad_() for each in tensors(dtype)]
    want = qkv.observe(*inputs, **options, entropy=True)
    gradients = torch.autograd.grad(want.output.float().square().sum(), inputs)
    with device:
        there = [device.to(each) for each in inputs]
        found = qkv.observe(*there, **made(name, device.name), entropy=True)
        back = torch.autograd.grad(found.output.float().square().sum(), there)
    assert found.output.dtype == dtype
    close(found.output, want.output, dtype)
    close(found.lse, want.lse, torch.float64 if dtype == torch.float64 else torch.float32)
    for one, other in zip(back, gradients, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.cpu(), other, rtol=5e-2, atol=5e-2)


@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 3), (2, 1, 3, 5, 3)])
def test_any_leading_axes(shape: tuple[int, ...], device: Any) -> None:
    """Through the fused function and beyond it; first and second derivatives."""
    x, y = (device.to(torch.randn(shape, dtype=torch.float64).requires_grad_()) for _ in range(2))
    with device:
        for options in ({"mask": qkv.Causal()}, {"mask": qkv.Window(1, 1), "softcap": 2.0}):

            def function(x: Tensor, y: Tensor, options: Any = options) -> tuple[Tensor, Tensor]:
                seen = qkv.observe(x, y, y * 2, **options)
                return seen.output, seen.lse

            assert gradcheck(function, (x, y))
            if "softcap" in options:
                assert gradgradcheck(function, (x, y))


def test_nothing_to_attend_to(device: Any) -> None:
    for queries, keys in ((0, 3), (3, 0)):
        x, y = (device.to(torch.randn(2, length, 4).requires_grad_()) for length in (queries, keys))
        with device:
            seen = qkv.observe(x, y, y, **EVERYTHING)
            seen.output.sum().backward()
        assert not seen.output.any()
        assert seen.received.shape == (2, keys)
        assert x.grad is not None


def test_autocast_changes_nothing(device: Any) -> None:
    inputs = [device.to(each) for each in tensors()]
    with device:
        for options in ({}, {"softcap": 2.0}):
            want = qkv.observe(*inputs, **options)
            with torch.autocast(device.name, torch.bfloat16):
                found = qkv.observe(*inputs, **options)
            assert torch.equal(found.output, want.output)
            assert torch.equal(found.lse, want.lse)


def test_shapes_without_memory() -> None:
    query = torch.empty(2, 4, 1000, 8, device="meta", dtype=torch.bfloat16, requires_grad=True)
    key = torch.empty(2, 2, 1000, 8, device="meta", dtype=torch.bfloat16)
    for options in ({"mask": qkv.Causal()}, {"softcap": 3.0}):
        seen = qkv.observe(query, key, key, **options, **EVERYTHING)
        assert (seen.output.shape, seen.output.dtype) == ((2, 4, 1000, 8), torch.bfloat16)
        assert (seen.lse.shape, seen.lse.dtype) == ((2, 4, 1000), torch.float32)
        assert seen.top_k.indices.shape == (2, 4, 1000, 3)
        seen.output.sum().backward()
        assert query.grad is not None
        assert query.grad.device.type == "meta"


def test_no_more_scores_at_a_time_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward: memory stays O(n), and no pair far from a window is looked at."""
    largest = total = 0
    plain = _torch._scores

    def scores(*arguments: Any) -> Tensor:
        nonlocal largest, total
        found = plain(*arguments)
        largest, total = max(largest, found.numel()), total + found.numel()
        return found

    monkeypatch.setattr(_torch, "_scores", scores)
    monkeypatch.setattr(_chunks, "BLOCK", 3000)
    monkeypatch.setattr("qkv.attention._arrays.kernel_reads", lambda tensor: False)
    x = torch.randn(1, 1, 300, 4, requires_grad=True)
    qkv.attend(x, x, x, mask=qkv.Window(9, 0)).sum().backward()
    assert 0 < largest <= 3000
    assert total < 2 * 300 * 30  # of 2 * 300 * 300


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("nothing", "output: torch.nn.functional.scaled_dot_product_attention, no mask; statistics: rows of scores"),
        ("causal", "output: torch.nn.functional.scaled_dot_product_attention, is_causal=True; statistics: rows of"),
        ("padding", "output: torch.nn.functional.scaled_dot_product_attention, a mask of keys; statistics: rows"),
        ("window", "rows of scores in torch operations, at most "),
        ("an array", "rows of scores in torch operations, at most "),
        ("softcap and sink", "rows of scores in torch operations, at most "),
    ],
)
def test_which_path(name: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qkv.attention._arrays.kernel_reads", lambda tensor: False)
    calls = []
    plain = _device.scaled_dot_product_attention
    monkeypatch.setattr(
        _device, "scaled_dot_product_attention", lambda *given, **named: calls.append(named) or plain(*given, **named)
    )
    options = made(name)
    told = explained(*tensors(), **options, entropy=True)
    assert told["path"].startswith(path)
    assert told["kernel"] == "PyTorch on cpu"
    assert told["statistics"] == "lse, entropy"
    qkv.attend(*tensors(), **options)
    assert len(calls) == path.startswith("output: ")


def test_devices_are_not_mixed() -> None:
    here, there = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4, device="meta")
    allowed = torch.ones(3, 3, dtype=torch.bool)
    for arguments, options, message in [
        ((here, there, there), {}, "key: expected a torch tensor like the query, got a torch tensor on meta"),
        ((there, there, here), {}, "value: expected a torch tensor on meta like the query, got a torch tensor"),
        ((there, here.numpy(), here), {}, "key: expected a torch tensor on meta like the query, got a NumPy array"),
        (
            (there,) * 3,
            {"mask": qkv.Causal() & allowed},
            "mask: expected a torch tensor on meta like the query, got a torch tensor",
        ),
        (
            (here,) * 3,
            {"bias": there[0, :, :3]},
            "bias: expected a torch tensor like the query, got a torch tensor on meta",
        ),
        (
            (there,) * 3,
            {"sink": torch.zeros(2)},
            "sink: expected a torch tensor on meta like the query, got a torch tensor",
        ),
    ]:
        with pytest.raises(qkv.ArgumentError) as caught:
            qkv.attend(*arguments, **options)
        assert str(caught.value) == message


def test_what_shows_every_step_is_for_the_cpu() -> None:
    there = torch.zeros(2, 3, 4, device="meta")
    with pytest.raises(qkv.ArgumentError) as caught:
        qkv.steps(there, there, there)
    assert str(caught.value) == "query: expected a tensor on the CPU, got one on meta; move it with .cpu()"
