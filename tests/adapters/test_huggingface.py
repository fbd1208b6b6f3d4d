"""Attention under our name in Hugging Face models: what it is given, what it returns, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import qkv
from qkv.adapters import _huggingface
from qkv.adapters._huggingface import attention
from qkv.errors import ArgumentError, CaptureError
from tiny_models import GROUPED, families, inputs_for, output_of, text_ids, tiny


class Causal(torch.nn.Module):
    is_causal = True


class Reading(torch.nn.Module):
    is_causal = False


def tensors(queries: int = 5, keys: int = 5, heads: int = 4, key_heads: int = 2, batch: int = 1) -> Any:
    generator = torch.Generator().manual_seed(0)
    shapes = (batch, heads, queries, 8), (batch, key_heads, keys, 8), (batch, key_heads, keys, 8)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_what_transformers_is_given() -> None:
    query, key, value = tensors()
    output, weights = attention(Causal(), query, key, value, None, output_attentions=True)
    want = qkv.attend(query, key, value, mask=qkv.Causal())
    torch.testing.assert_close(output, want.transpose(1, 2))
    assert output.is_contiguous()
    assert weights is not None
    torch.testing.assert_close(weights, qkv.weights(query, key, mask=qkv.Causal()))
    assert attention(Causal(), query, key, value, None)[1] is None


def test_who_is_causal() -> None:
    query, key, value = tensors()
    causal, full = qkv.attend(query, key, value, mask=qkv.Causal()), qkv.attend(query, key, value)
    for module, said, want in [
        (Causal(), None, causal),
        (Reading(), None, full),
        (Reading(), True, causal),
        (Causal(), False, full),
        (torch.nn.Module(), None, causal),  # transformers takes silence for yes
    ]:
        torch.testing.assert_close(attention(module, query, key, value, None, is_causal=said)[0], want.transpose(1, 2))


def test_one_query_reads_every_key() -> None:
    query, key, value = tensors(queries=1, keys=7)
    torch.testing.assert_close(
        attention(Causal(), query, key, value, None)[0], qkv.attend(query, key, value).transpose(1, 2)
    )


def test_a_mask_that_is_longer_than_the_keys() -> None:
    query, key, value = tensors()
    mask = torch.ones(1, 1, 5, 8, dtype=torch.bool).tril()
    torch.testing.assert_close(
        attention(Causal(), query, key, value, mask)[0],
        qkv.attend(query, key, value, mask=qkv.Causal()).transpose(1, 2),
    )


def test_everything_at_once() -> None:
    query, key, value = tensors(batch=2)
    sinks, bias = torch.randn(4), torch.randn(1, 4, 5, 5)
    mask = torch.rand(2, 1, 5, 5) > 0.3
    options: dict[str, Any] = {"scale": 0.3, "softcap": 2.0, "sink": sinks, "bias": bias}
    want = qkv.attend(query, key, value, mask=mask, **options)
    names = {"scaling": 0.3, "softcap": 2.0, "position_bias": bias}
    for sink in ("sinks", "s_aux"):
        found = attention(Reading(), query, key, value, mask, **names, **{sink: sinks})[0]
        torch.testing.assert_close(found, want.transpose(1, 2))


def test_packed_texts() -> None:
    query, key, value = tensors(queries=9, keys=9)
    ends = torch.tensor([0, 4, 9], dtype=torch.int32)
    found = attention(Causal(), query, key, value, None, cu_seq_lens_q=ends, cu_seq_lens_k=ends)[0]
    mask = qkv.Causal() & qkv.Documents([0] * 4 + [1] * 5)
    torch.testing.assert_close(found, qkv.attend(query, key, value, mask=mask).transpose(1, 2))


def test_a_paged_cache_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"^cache: expected none, got a paged one; .* attn_implementation"):
        attention(Causal(), *tensors(), None, cache=object())


def test_autocast_computes_in_its_dtype() -> None:
    query, key, value = tensors()
    with torch.autocast("cpu", torch.bfloat16):
        found = attention(Causal(), query, key.bfloat16(), value, None)[0]
    assert found.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", families("llama", "gemma2", "gpt_oss", "bert", "t5"))
def test_half_precision_is_no_worse_than_eager(name: str, dtype: torch.dtype) -> None:
    wide, given = tiny(name), inputs_for(name)
    exact = output_of(wide(**given))
    model = type(wide)(wide.config).to(dtype).eval()
    model.load_state_dict(wide.state_dict())
    errors = []
    for implementation in ("eager", "qkv"):
        qkv.register()
        model.set_attn_implementation(implementation)
        errors.append(float((output_of(model(**given)).float() - exact).norm() / exact.norm()))
    assert errors[1] <= 1.5 * errors[0] + 1e-3


def test_training_drops_weights_and_learns() -> None:
    qkv.register()
    torch.manual_seed(0)
    model = LlamaForCausalLM._from_config(LlamaConfig(**GROUPED, attention_dropout=0.5), attn_implementation="qkv")
    ids = text_ids(9)
    with torch.enable_grad():
        model.train()
        first, second = (model(ids).logits for _ in range(2))
        assert not torch.equal(first, second)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        losses = []
        for _ in range(12):
            loss = model(ids, labels=ids).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    model.eval()
    assert torch.equal(model(ids).logits, model(ids).logits)


def test_checkpointing_computes_the_same_gradients() -> None:
    qkv.register()
    model = LlamaForCausalLM._from_config(LlamaConfig(**GROUPED), attn_implementation="qkv").train()
    found = []
    for checkpointing in (False, True):
        model.zero_grad()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        with torch.enable_grad():
            model(text_ids(9)).logits.square().mean().backward()
        found.append([each.grad.clone() for each in model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


class TestCapture:
    def test_costs_no_second_computation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []
        plain = _huggingface.AttentionCall.observe
        monkeypatch.setattr(
            _huggingface.AttentionCall, "observe", lambda call, **asked: calls.append(asked) or plain(call, **asked)
        )
        monkeypatch.setattr("qkv.recording._excerpt.observe", None)  # what a text of a padded batch would be seen by
        qkv.register()
        model = tiny("llama")
        for keep in ("qkv", "statistics"):
            calls.clear()
            with qkv.capture(model, keep=keep):
                model(text_ids(9, batch=2))
            assert len(calls) == 2
            assert all(("entropy" in asked) == (keep == "statistics") for asked in calls)

    @pytest.mark.parametrize("keep", ["qkv", "statistics"])
    @pytest.mark.parametrize("side", ["left", "right", None])
    def test_statistics_are_of_texts_without_padding(self, keep: Any, side: str | None) -> None:
        model, ids = tiny("llama"), text_ids(9, batch=2)
        mask = torch.ones_like(ids)
        if side:
            mask[1, slice(3) if side == "left" else slice(6, None)] = 0
        with qkv.capture(model, keep=keep, heads=[1, 3]) as capture:
            model(ids, attention_mask=mask)
        with qkv.capture(model, keep="statistics", heads=[1, 3]) as alone:
            model(ids[1:, mask[1].bool()])
        found, want = capture.trace.sequences[1].attentions, alone.trace.attentions
        for one, other in zip(found, want, strict=True):
            asked: dict[str, Any] = {"entropy": True, "received": True, "distance": True, "top_k": 3}
            one, other = one.observe(**asked), other.observe(**asked)
            for name in ("entropy", "received", "distance"):
                np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(one.top_k.indices, other.top_k.indices)

    def test_a_model_on_our_attention_computes_the_same(self) -> None:
        model, given = tiny("gpt_oss"), inputs_for("gpt_oss")
        qkv.register()
        model.set_attn_implementation("qkv")
        plain = output_of(model(**given))
        with qkv.capture(model) as capture:
            seen = output_of(model(**given))
        assert model.config._attn_implementation == "qkv"
        model.set_attn_implementation("eager")
        assert torch.equal(seen, plain)
        assert len(capture.trace.attentions) == 2

    def test_packed_texts_are_refused(self) -> None:
        model, ends = tiny("llama"), torch.tensor([0, 4, 9], dtype=torch.int32)
        with pytest.raises(CaptureError, match="packed sequences"), qkv.capture(model):
            model(text_ids(9), cu_seq_lens_q=ends, cu_seq_lens_k=ends)


def test_without_transformers() -> None:
    code = "import sys; sys.modules['transformers'] = None; import qkv; qkv.register()"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "DependencyError: register: expected transformers 4.57 or newer" in told.stderr
    assert "pip install 'qkv[hf]'" in told.stderr


def test_registering_is_all_that_is_loaded() -> None:
    code = "import sys, qkv; qkv.register; print('torch' in sys.modules, 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == [
        "True",
        "False",
    ]
