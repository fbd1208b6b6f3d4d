"""Capture while a model writes: prompt and continuation are one text, as if it had been read at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import StaticCache

import qkv
from qkv.errors import CaptureError
from qkv.trace import _store
from tiny_models import DECODERS, ENCODER_DECODERS, families, inputs_for, returned_weights, text_ids, tiny

CLOSE: dict[str, float] = {"rtol": 5e-5, "atol": 5e-5}
GREEDY: dict[str, Any] = {"do_sample": False, "eos_token_id": None}


@pytest.mark.parametrize("name", DECODERS)
def test_a_continued_text_is_one_text(name: str) -> None:
    model, ids = tiny(name), text_ids(7)
    alone = model.generate(ids, max_new_tokens=5, **GREEDY)
    with qkv.capture(model) as capture:
        written = model.generate(ids, max_new_tokens=5, **GREEDY)
    assert written.tolist() == alone.tolist()
    read = written[:, :-1]  # nothing has read the last token
    (sequence,) = capture.trace.sequences
    assert [token.id for token in sequence.sides["input"]] == read[0].tolist()
    assert [token.generated for token in sequence.sides["input"]] == [False] * 7 + [True] * 4
    expected = model(read, output_attentions=True)
    whole = _captured(model, read)
    for attention, at_once in zip(sequence.attentions, whole, strict=True):
        assert attention.weights().shape == (4, 11, 11)
        np.testing.assert_allclose(attention.weights(), returned_weights(expected, "decoder", attention.layer), **CLOSE)
        assert attention.mask_structure.window == at_once.mask_structure.window
        assert attention.mask_structure.array is None
        assert attention.causal


def _captured(model: Any, ids: torch.Tensor) -> list[Any]:
    with qkv.capture(model) as capture:
        model(ids)
    return capture.trace.attentions


@pytest.mark.parametrize("name", families(*ENCODER_DECODERS))
def test_an_encoder_decoder_writes_its_target(name: str) -> None:
    model, ids = tiny(name), text_ids(7)
    with qkv.capture(model) as capture:
        written = model.generate(ids, max_new_tokens=5, num_beams=1, **GREEDY)
    (sequence,) = capture.trace.sequences
    assert [token.id for token in sequence.sides["input"]] == ids[0].tolist()
    assert [token.id for token in sequence.sides["target"]] == written[0, :-1].tolist()
    assert [token.generated for token in sequence.sides["target"]] == [False] + [True] * 4
    assert not any(token.generated for token in sequence.sides["input"])
    expected = model(ids, decoder_input_ids=written[:, :-1], output_attentions=True)
    assert len(sequence.attentions) == 6
    for attention in sequence.attentions:
        want = returned_weights(expected, attention.stack, attention.layer)
        np.testing.assert_allclose(attention.weights(), want, err_msg=repr(attention), **CLOSE)


def test_whisper_writes_what_it_hears() -> None:
    model, inputs = tiny("whisper"), inputs_for("whisper")
    features = inputs["input_features"]
    with qkv.capture(model) as capture:
        encoded = model.model.encoder(features)
        step = model(encoder_outputs=encoded, decoder_input_ids=text_ids(1), use_cache=True)
        model(encoder_outputs=encoded, decoder_input_ids=text_ids(1, seed=5), past_key_values=step.past_key_values)
    (sequence,) = capture.trace.sequences
    assert [len(tokens) for tokens in sequence.sides.values()] == [8, 2]
    both = torch.cat([text_ids(1), text_ids(1, seed=5)], 1)
    expected = model(features, decoder_input_ids=both, output_attentions=True)
    for attention in sequence.attentions:
        want = returned_weights(expected, attention.stack, attention.layer)
        np.testing.assert_allclose(attention.weights(), want, **CLOSE)


@pytest.mark.parametrize("name", ["gpt2", "mistral", "gemma2"])
def test_a_batch_with_padding_on_the_left(name: str) -> None:
    model, ids = tiny(name), text_ids(6, batch=2)
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    with qkv.capture(model) as capture:
        written = model.generate(ids, attention_mask=mask, max_new_tokens=6, **GREEDY)
    for index, sequence in enumerate(capture.trace.sequences):
        read = written[index, :-1][2 * index :]
        assert [token.id for token in sequence.sides["input"]] == read.tolist()
        assert sum(token.generated for token in sequence.sides["input"]) == 5
        expected = model(read[None], output_attentions=True)
        for attention in sequence.attentions:
            want = returned_weights(expected, "decoder", attention.layer)
            np.testing.assert_allclose(attention.weights(), want, **CLOSE)
            assert attention.mask_structure.array is None


def test_texts_of_a_batch_stop_at_different_times() -> None:
    model, ids = tiny("llama"), text_ids(5, batch=2)
    free = model.generate(ids, max_new_tokens=8, **GREEDY)[:, 5:]
    first, second = free.tolist()
    stop = next(token for token in first[1:5] if token not in second)
    with qkv.capture(model) as capture:
        model.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=stop, pad_token_id=0)
    short, long = capture.trace.sequences
    assert [t.id for t in short.sides["input"]][5:] == first[: first.index(stop) + 1]
    assert [t.id for t in long.sides["input"]][5:] == second[:-1]
    for sequence in (short, long):
        expected = model(torch.tensor([[t.id for t in sequence.sides["input"]]]), output_attentions=True)
        for attention in sequence.attentions:
            want = returned_weights(expected, "decoder", attention.layer)
            np.testing.assert_allclose(attention.weights(), want, **CLOSE)


def test_several_calls_are_several_texts() -> None:
    model = tiny("llama")
    with qkv.capture(model) as capture:
        model.generate(text_ids(4), max_new_tokens=3, **GREEDY)
        model.generate(text_ids(6, seed=1), max_new_tokens=2, **GREEDY)
        model(text_ids(3, seed=2))
    assert [len(sequence.sides["input"]) for sequence in capture.trace.sequences] == [6, 7, 3]
    assert [len(sequence.attentions) for sequence in capture.trace.sequences] == [2, 2, 2]


def test_a_conversation_goes_on_in_its_cache() -> None:
    """A cache that the capture saw being filled may be read on, several tokens at a time."""
    model, ids = tiny("gemma2"), text_ids(10)
    with qkv.capture(model) as capture:
        cache = model(ids[:, :6], use_cache=True).past_key_values
        model(ids[:, 6:9], past_key_values=cache)
        model(ids[:, 9:], past_key_values=cache)
    (sequence,) = capture.trace.sequences
    assert [token.id for token in sequence.sides["input"]] == ids[0].tolist()
    expected = model(ids, output_attentions=True)
    for attention in sequence.attentions:
        want = returned_weights(expected, "decoder", attention.layer)
        np.testing.assert_allclose(attention.weights(), want, **CLOSE)


def test_a_step_that_fails_leaves_no_half_read_token() -> None:
    model, ids = tiny("llama"), text_ids(6)
    capture = qkv.capture(model)
    with pytest.raises(ZeroDivisionError):
        _fail_in_second_layer(capture, model, ids)
    (sequence,) = capture.trace.sequences
    assert [token.id for token in sequence.sides["input"]] == ids[0, :5].tolist()
    assert [(each.queries, each.keys) for each in sequence.attentions] == [(5, 5), (5, 5)]


def _fail_in_second_layer(capture: Any, model: Any, ids: torch.Tensor) -> None:
    with capture:
        cache = model(ids[:, :5], use_cache=True).past_key_values
        hook = model.model.layers[1].register_forward_pre_hook(lambda module, args: 1 / 0)
        try:
            model(ids[:, 5:], past_key_values=cache)
        finally:
            hook.remove()


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_statistics_while_writing(name: str) -> None:
    model, ids = tiny(name), text_ids(7)
    with qkv.capture(model) as full, qkv.capture(model, keep="statistics") as short:
        model.generate(ids, max_new_tokens=5, **GREEDY)
    for whole, kept in zip(full.trace.attentions, short.trace.attentions, strict=True):
        want = whole.observe(entropy=True, received=True, distance=True, max_score=True, top_k=4, block_map=(1, 1))
        got = kept.observe(entropy=True, received=True, distance=True, max_score=True, top_k=4)
        for statistic in ("entropy", "received", "distance", "max_score"):
            np.testing.assert_allclose(
                getattr(got, statistic), getattr(want, statistic), rtol=1e-4, atol=1e-5, err_msg=statistic
            )
        np.testing.assert_array_equal(got.top_k.indices, want.top_k.indices)
        np.testing.assert_allclose(kept.tensors["block_map"], want.block_map, rtol=1e-4, atol=1e-5)


def test_what_generate_writes_goes_to_disk(tmp_path: Any) -> None:
    model, ids = tiny("mistral"), text_ids(7)
    with qkv.capture(model) as memory, qkv.capture(model, to=tmp_path / "written") as disk:
        model.generate(ids, max_new_tokens=5, **GREEDY)
    again = qkv.trace.open_trace(tmp_path / "written.qkv")
    assert again.complete
    for trace in (disk.trace, again):
        assert trace.sequences[0].text() == memory.trace.sequences[0].text()
        for one, other in zip(trace.attentions, memory.trace.attentions, strict=True):
            np.testing.assert_array_equal(one.weights(), other.weights())
            assert one.mask_structure.window == (3, 0)


def test_texts_that_stop_at_different_times_are_on_disk_as_in_memory(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ids = tiny("llama"), text_ids(5, batch=2)
    stop = int(model.generate(ids, max_new_tokens=1, **GREEDY)[0, 5])
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": stop, "pad_token_id": 0}
    files = []
    write = _store.write
    monkeypatch.setattr(_store, "write", lambda path, arrays: files.append(path.name) or write(path, arrays))
    with qkv.capture(model) as memory, qkv.capture(model, to=tmp_path / "two.qkv") as disk:
        model.generate(ids, **options)
    assert len(memory.trace.sequences[0].sides["input"]) == 6
    for one, other in zip(memory.trace.sequences, disk.trace.sequences, strict=True):
        assert one.sides == other.sides
        for mine, its in zip(one.attentions, other.attentions, strict=True):
            np.testing.assert_array_equal(mine.weights(), its.weights())
    layers = [name.removesuffix(".safetensors")[:20] for name in files]
    assert [layers.count(name) for name in sorted({*layers})] == [2] * 4  # the prompt at once, the whole at the end


class TestRefused:
    def test_beams(self) -> None:
        model = tiny("llama")
        with pytest.raises(CaptureError, match=r"num_beams: expected 1 .* got 3"), qkv.capture(model):
            model.generate(text_ids(4), max_new_tokens=3, num_beams=3)
        assert "generate" not in vars(model)

    def test_assistants(self) -> None:
        model = tiny("llama")
        with pytest.raises(CaptureError, match="assistant_model, prompt_lookup"), qkv.capture(model):
            model.generate(text_ids(4), max_new_tokens=3, prompt_lookup_num_tokens=2)

    def test_a_cache_that_was_filled_before(self) -> None:
        model, ids = tiny("llama"), text_ids(6)
        cache = model(ids[:, :5], use_cache=True).past_key_values
        with pytest.raises(CaptureError, match=r"6 keys for 1 queries.*before the prompt is read"), qkv.capture(model):
            model(ids[:, 5:], past_key_values=cache)

    def test_a_static_cache(self) -> None:
        model, ids = tiny("llama"), text_ids(5)
        cache = StaticCache(config=model.config, max_cache_len=16)
        with pytest.raises(CaptureError, match=r"default \(dynamic\) cache"), qkv.capture(model):
            model(ids, past_key_values=cache, use_cache=True)

    def test_a_cache_that_was_reordered(self) -> None:
        model, ids = tiny("llama"), text_ids(5, batch=2)
        with pytest.raises(CaptureError, match="keys in the cache are not those"), qkv.capture(model):
            _read_reordered(model, ids)


def _read_reordered(model: Any, ids: torch.Tensor) -> None:
    cache = model(ids[:, :4], use_cache=True).past_key_values
    cache.reorder_cache(torch.tensor([1, 0]))
    model(ids[:, 4:], past_key_values=cache)
