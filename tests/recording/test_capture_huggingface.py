"""Capture of Hugging Face models: what they compute, what they would have returned, and how they are left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import qkv
from qkv.errors import ArgumentError, CaptureError, TraceError
from tiny_models import (
    DECODERS,
    ON_INTERFACE,
    TWO_TEXTS,
    UNSEEN,
    families,
    inputs_for,
    output_of,
    returned_weights,
    text_ids,
    tiny,
)

CLOSE: dict[str, float] = {"rtol": 2e-5, "atol": 2e-5}


@pytest.mark.parametrize("name", ON_INTERFACE)
def test_output_and_weights_are_those_of_the_eager_model(name: str) -> None:
    model, inputs = tiny(name), inputs_for(name)
    expected = model(**inputs, output_attentions=True)
    with qkv.capture(model) as capture:
        seen = model(**inputs)
    np.testing.assert_allclose(output_of(seen), output_of(expected), **CLOSE)
    stacks = {"encoder", "decoder", "cross"} if name in TWO_TEXTS else {"decoder" if name in DECODERS else "encoder"}
    assert {attention.stack for attention in capture.trace.attentions} == stacks
    for attention in capture.trace.attentions:
        want = returned_weights(expected, attention.stack, attention.layer)
        np.testing.assert_allclose(attention.weights(), want, err_msg=repr(attention), **CLOSE)
    for stack in stacks:
        assert [each.layer for each in capture.trace.attentions if each.stack == stack] == [0, 1]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", families("llama", "bert", "t5"))
def test_the_model_is_left_as_it_was(name: str, implementation: str) -> None:
    model, inputs = tiny(name, implementation), inputs_for(name)
    expected = output_of(model(**inputs))
    before = _state(model)
    with qkv.capture(model):
        assert _state(model) != before
        model(**inputs)
    assert _state(model) == before
    with pytest.raises(ZeroDivisionError):
        _fail_while_captured(model, inputs)
    assert _state(model) == before
    assert torch.equal(output_of(model(**inputs)), expected)
    model.set_attn_implementation("eager")


def _fail_while_captured(model: Any, inputs: Any) -> None:
    with qkv.capture(model):
        model(**inputs)
        _ = 1 / 0


def _state(model: Any) -> list[Any]:
    hooks = [(len(each._forward_hooks), len(each._forward_pre_hooks)) for each in model.modules()]
    return [model.config._attn_implementation, "generate" in vars(model), hooks]


@pytest.mark.parametrize("name", families("gpt2", "bart"))
def test_nested_captures_both_see_everything(name: str) -> None:
    model, inputs = tiny(name), inputs_for(name)
    before = _state(model)
    with qkv.capture(model) as outer:
        with qkv.capture(model) as inner:
            model(**inputs)
        model(**inputs)
    assert _state(model) == before
    assert (len(outer.trace.sequences), len(inner.trace.sequences)) == (2, 1)
    for one, other in zip(outer.trace.attentions, inner.trace.attentions, strict=True):
        assert (one.path, one.layer, one.stack) == (other.path, other.layer, other.stack)
        np.testing.assert_array_equal(one.weights(), other.weights())


def test_a_capture_of_a_part_sees_that_part_alone() -> None:
    model = tiny("bart")
    with qkv.capture(model.model.encoder) as capture:
        model(**inputs_for("bart"))
    assert {attention.stack for attention in capture.trace.attentions} == {"encoder"}


@pytest.mark.parametrize("name", ["llama", "gpt_oss", *families("t5")])
def test_a_captured_model_returns_its_weights_when_asked(name: str) -> None:
    model, inputs = tiny(name), inputs_for(name)
    expected = model(**inputs, output_attentions=True)
    with qkv.capture(model):
        seen = model(**inputs, output_attentions=True)
    for field in ("attentions", "encoder_attentions", "decoder_attentions", "cross_attentions"):
        for got, want in zip(getattr(seen, field, None) or (), getattr(expected, field, None) or (), strict=True):
            np.testing.assert_allclose(got, want, **CLOSE)
    assert any("attentions" in field for field in seen)


class TestStructure:
    def of(self, name: str, length: int = 9) -> list[Any]:
        model = tiny(name)
        with qkv.capture(model) as capture:
            model(**inputs_for(name, length))
        return capture.trace.attentions

    def test_causal(self) -> None:
        for attention in self.of("gpt2"):
            assert attention.causal
            assert isinstance(attention.mask, qkv.Causal)
            assert attention.bias is None

    def test_window(self) -> None:
        for attention in self.of("mistral"):
            assert attention.causal
            assert attention.mask_structure.window == (3, 0)
            assert attention.mask_structure.array is None

    def test_window_and_softcap(self) -> None:
        sliding, full = self.of("gemma2")
        assert sliding.mask_structure.window == (3, 0)
        assert full.mask_structure.window is None
        assert full.causal
        assert sliding.softcap == full.softcap == 5.0
        assert sliding.scale == pytest.approx(16**-0.5)

    def test_sinks(self) -> None:
        first, second = self.of("gpt_oss")
        model = tiny("gpt_oss").model
        for attention, layer in zip((first, second), model.layers, strict=True):
            np.testing.assert_array_equal(attention.sink, layer.self_attn.sinks)
            assert (attention.weights().sum(-1) < 1).all()

    def test_t5_has_a_table_of_biases_and_no_scale(self) -> None:
        for attention in (each for name in families("t5") for each in self.of(name)):
            assert attention.scale == 1.0
            assert (attention.bias_structure.table is not None) == (attention.kind == "self")
            assert attention.bias_structure.array is None
            assert attention.causal == (attention.stack == "decoder")

    def test_an_encoder_reads_everything(self) -> None:
        for attention in [*self.of("bert"), *self.of("vit")]:
            assert attention.mask is None
            assert not attention.causal

    def test_one_token_of_a_decoder_is_causal(self) -> None:
        assert all(attention.causal for attention in self.of("llama", length=1))

    def test_sides(self) -> None:
        model = tiny("bart")
        with qkv.capture(model) as capture:
            model(**inputs_for("bart"))
        sides = capture.trace.sequences[0].sides
        assert [token.id for token in sides["input"]] == text_ids(9)[0].tolist()
        assert [token.id for token in sides["target"]] == text_ids(6, seed=1)[0].tolist()
        cross = capture.trace.attention(1, "cross")
        assert (cross.query_side, cross.key_side, cross.queries, cross.keys) == ("target", "input", 6, 9)

    def test_grouped_keys_are_kept_once(self) -> None:
        first, _ = self.of("llama")
        assert (first.query.shape, first.key.shape) == ((4, 9, 8), (2, 9, 8))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", families("gpt2", "llama", "mistral", "gpt_oss", "bert", "t5", "bart"))
def test_a_padded_batch_is_texts_without_padding(name: str, side: str) -> None:
    model = tiny(name)
    ids = text_ids(8, batch=2)
    mask = torch.ones_like(ids)
    mask[1, slice(3) if side == "left" else slice(5, None)] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if name in TWO_TEXTS:
        inputs["decoder_input_ids"] = text_ids(4, batch=2, seed=3)
    expected = model(**inputs, output_attentions=True)
    with qkv.capture(model) as capture:
        seen = model(**inputs)
    assert len(capture.trace.sequences) == 2
    for index, sequence in enumerate(capture.trace.sequences):
        real = mask[index].bool().numpy()
        assert [token.id for token in sequence.sides["input"]] == ids[index][mask[index] == 1].tolist()
        rows = real if name not in TWO_TEXTS else np.ones(4, bool)
        np.testing.assert_allclose(output_of(seen)[index][rows], output_of(expected)[index][rows], **CLOSE)
        for attention in sequence.attentions:
            want = returned_weights(expected, attention.stack, attention.layer, index)
            want = want[:, real] if attention.query_side == "input" else want
            want = want[:, :, real] if attention.key_side == "input" else want
            np.testing.assert_allclose(attention.weights(), want, **CLOSE)
            assert attention.mask_structure.array is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", families("llama", "bert", "t5"))
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    model = type(tiny(name))(tiny(name).config).eval().to(dtype)
    model.load_state_dict(tiny(name).state_dict())
    model.set_attn_implementation("eager")
    inputs = inputs_for(name)
    expected = model(**inputs, output_attentions=True)
    with qkv.capture(model) as capture:
        seen = model(**inputs)
    assert output_of(seen).dtype == dtype
    step = torch.finfo(dtype).eps
    error = (output_of(seen) - output_of(expected)).float().abs().max()
    assert error < 16 * step * output_of(expected).float().abs().max()
    for attention in capture.trace.attentions:
        want = returned_weights(expected, attention.stack, attention.layer)
        # scores of magnitude s are only known to s * eps in a half-precision model
        np.testing.assert_allclose(attention.weights(), want, atol=16 * step)


class TestSelection:
    def captured(self, **options: Any) -> Any:
        model = tiny("llama")
        with qkv.capture(model, **options) as capture:
            model(**inputs_for("llama"))
        return capture.trace

    def test_layers(self) -> None:
        trace = self.captured(layers=[1])
        assert [attention.layer for attention in trace.attentions] == [1]
        np.testing.assert_array_equal(trace.weights(1), self.captured().weights(1))

    @pytest.mark.parametrize("heads", [[2], [0, 3], [1, 2, 3], [3, 0]])
    def test_heads(self, heads: list[int]) -> None:
        trace, everything = self.captured(heads=heads), self.captured()
        for head in heads:
            np.testing.assert_allclose(trace.weights(0, head), everything.weights(0, head), rtol=1e-6, atol=1e-7)
        assert trace.attentions[0].heads == tuple(heads)
        assert trace.attentions[0].head_count == 4

    def test_heads_of_sinks_and_biases(self) -> None:
        for name in families("gpt_oss", "t5"):
            model, inputs = tiny(name), inputs_for(name)
            expected = model(**inputs, output_attentions=True)
            with qkv.capture(model, heads=[3, 1]) as capture:
                model(**inputs)
            for attention in capture.trace.attentions:
                want = returned_weights(expected, attention.stack, attention.layer)
                np.testing.assert_allclose(attention.weights(), want[[3, 1]], **CLOSE)

    def test_a_layer_that_does_not_exist(self) -> None:
        with pytest.raises(CaptureError, match=r"layers: expected layers that the model has \(0, 1\), got \[7\]"):
            self.captured(layers=[0, 7])

    def test_a_head_that_does_not_exist(self) -> None:
        with pytest.raises(ArgumentError, match=r"heads: .* has 4 heads \(0 to 3\), got \[4\]"):
            self.captured(heads=[4])

    @pytest.mark.parametrize(
        ("argument", "value"),
        [("layers", []), ("layers", [-1]), ("heads", 3), ("heads", ["0"]), ("keep", "all"), ("dtype", "int8")],
    )
    def test_wrong_options(self, argument: str, value: object) -> None:
        with pytest.raises(ArgumentError, match=f"^{argument}: expected"):
            self.captured(**{argument: value})

    def test_a_model_that_is_none(self) -> None:
        with pytest.raises(ArgumentError, match=r"model: expected a torch.nn.Module, got str"):
            qkv.capture("bert")  # type: ignore[arg-type]

    @pytest.mark.parametrize(("dtype", "stored"), [("float16", "float16"), ("float32", "float32")])
    def test_storage(self, dtype: Any, stored: str) -> None:
        trace, everything = self.captured(dtype=dtype), self.captured()
        assert trace.attentions[0].key.dtype == stored
        assert trace.attentions[0].lse.dtype == "float32"
        np.testing.assert_allclose(trace.weights(1), everything.weights(1), atol=5e-3)

    def test_storage_in_bfloat16_is_widened_when_read(self) -> None:
        trace, everything = self.captured(dtype="bfloat16"), self.captured()
        want = torch.from_numpy(everything.attentions[0].key).bfloat16().float()
        np.testing.assert_array_equal(trace.attentions[0].key, want)


@pytest.mark.parametrize("name", families("gemma2", "gpt_oss", "bart", "t5"))
def test_statistics_alone_are_those_that_observe_computes(name: str) -> None:
    model, inputs = tiny(name), inputs_for(name)
    with qkv.capture(model) as full, qkv.capture(model, keep="statistics") as short:
        model(**inputs)
    for whole, kept in zip(full.trace.attentions, short.trace.attentions, strict=True):
        names = ("entropy", "max_score", "received", "distance")
        want = whole.observe(**dict.fromkeys(names, True), top_k=8, block_map=(1, 1))
        got = kept.observe(**dict.fromkeys(names, True), top_k=8)
        for statistic in names:
            np.testing.assert_allclose(getattr(got, statistic), getattr(want, statistic), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(kept.lse, whole.lse, rtol=1e-6)
        np.testing.assert_array_equal(got.top_k.indices, want.top_k.indices)
        np.testing.assert_allclose(got.top_k.weights, want.top_k.weights, rtol=1e-5, atol=1e-6)
        with pytest.raises(TraceError, match="statistics only"):
            kept.weights()


@pytest.mark.parametrize("name", families("gemma2", "gpt_oss", "bert", "t5"))
def test_gradients_are_the_eager_models(name: str) -> None:
    model, inputs = tiny(name), inputs_for(name)

    def gradients(captured: bool) -> dict[str, torch.Tensor]:
        model.zero_grad()
        with torch.enable_grad():
            if captured:
                with qkv.capture(model) as capture:
                    output_of(model(**inputs)).square().mean().backward()
                assert len(capture.trace.attentions) >= 2
            else:
                output_of(model(**inputs)).square().mean().backward()
        return {path: each.grad.clone() for path, each in model.named_parameters() if each.grad is not None}

    expected, found = gradients(captured=False), gradients(captured=True)
    model.zero_grad()
    assert expected.keys() == found.keys()
    for path, gradient in expected.items():
        np.testing.assert_allclose(found[path], gradient, rtol=2e-4, atol=2e-5, err_msg=path)


def test_dropout_is_refused() -> None:
    model = type(tiny("bert"))(tiny("bert").config).train()
    with pytest.raises(CaptureError, match=r"call model.eval\(\) first"), qkv.capture(model):
        model(**inputs_for("bert"))


@pytest.mark.parametrize("name", UNSEEN)
def test_attention_by_hand_is_not_seen_and_said_so(name: str) -> None:
    model = tiny(name)
    message = f"no attention was seen in {type(model).__name__}.*by hand.*output_attentions=True"
    with pytest.raises(CaptureError, match=message), qkv.capture(model):
        model(**inputs_for(name))
