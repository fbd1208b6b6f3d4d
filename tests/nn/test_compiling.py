"""Under torch.compile: calls that end in the kernel run outside its graphs, to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import qkv  # noqa: E402


def _attended(x: Any) -> Any:
    return qkv.attend(2 * x, x, x, mask=qkv.Causal() & qkv.Window(3, 0), bias=qkv.ALiBi(2)) + 1


def _observed(x: Any) -> Any:
    seen = qkv.observe(x, x, x, entropy=True, top_k=2)
    return seen.output.sum() + seen.entropy.sum() + qkv.weights(x.detach(), x.detach(), lse=seen.lse.detach()).sum()


def _merged(x: Any) -> Any:
    return qkv.merge(*(qkv.Partial.of(x, x[:, :, part], x[:, :, part]) for part in (slice(3), slice(3, None)))).output


def test_pieces() -> None:
    x = torch.randn(1, 2, 7, 16)
    assert torch.equal(torch.compile(_merged, backend="eager")(x), _merged(x))


@pytest.mark.parametrize("call", [_attended, _observed])
def test_calls_and_gradients_are_those_of_plain_python(call: Callable[[Any], Any]) -> None:
    compiled = torch.compile(call, backend="eager")
    for length in (7, 9):  # another length traces again
        results = []
        for function in (compiled, call):
            x = torch.randn(1, 2, length, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
            found = function(x)
            found.sum().backward()
            results.append((found.detach(), x.grad))
        for mine, theirs in zip(*results, strict=True):
            assert torch.equal(mine, theirs)


def test_layers_and_models() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    qkv.register()
    layer = qkv.nn.EncoderLayer(16, heads=4, dropout=0.0)
    x = torch.randn(2, 5, 16)
    mask = qkv.Padding([5, 3])
    assert torch.equal(torch.compile(layer, backend="eager")(x, mask=mask), layer(x, mask=mask))
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes, attn_implementation="qkv")).eval()
    ids = torch.arange(12).view(2, 6)
    attention_mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    with torch.no_grad():
        expected = model(ids, attention_mask=attention_mask).logits
        found = torch.compile(model, backend="eager")(ids, attention_mask=attention_mask).logits
    torch.testing.assert_close(found[attention_mask == 1], expected[attention_mask == 1])
