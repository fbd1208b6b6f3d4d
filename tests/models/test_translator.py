"""The translator: blind to padding and to the future, the same with a cache, and a model like Hugging Face's own."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM

import qkv
from qkv.bench.equal_models import equal_model
from qkv.errors import ArgumentError
from qkv.models import Translator, TranslatorConfig

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_attention_heads": 4,
}


def made(vocab_size: int = 60, seed: int = 0, **options: Any) -> Translator:
    """A small translator whose attention and scores are far from uniform, without dropout."""
    torch.manual_seed(seed)
    model = Translator(TranslatorConfig(**{"vocab_size": vocab_size, **SIZES, **options})).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def ids(*shape: int, seed: int = 1, most: int = 60) -> Tensor:
    return torch.randint(3, most, shape, generator=torch.Generator().manual_seed(seed))


def logits(model: Translator, **inputs: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(**inputs).logits
    return found


@pytest.mark.parametrize("options", [{}, {"norm_place": "before"}, {"norm": "rms", "activation": "swiglu"}])
def test_the_first_loss_is_that_of_guessing(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    sizes = {**SIZES, "hidden_size": 256, "intermediate_size": 512}
    model = Translator(TranslatorConfig(vocab_size=8000, **sizes, **options)).eval()
    loss = model(input_ids=ids(8, 12, most=8000), labels=ids(8, 10, most=8000, seed=2)).loss
    assert abs(loss.item() - math.log(8000)) < 0.1  # a table of variance 1/d gives 0.7 more, one of variance 1 gives 30


def test_the_future_changes_no_bit_of_the_past() -> None:
    model, source, target = made(), ids(2, 7), ids(2, 9, seed=2)
    other = torch.cat([target[:, :5], ids(2, 4, seed=3)], 1)
    found, changed = (logits(model, input_ids=source, decoder_input_ids=each) for each in (target, other))
    assert torch.equal(found[:, :5], changed[:, :5])
    assert not torch.equal(found[:, 5], changed[:, 5])


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_stands_in_padding_changes_nothing(side: str) -> None:
    model, target = made(), ids(2, 5, seed=2)
    alone = ids(1, 4)
    there = torch.ones(2, 7, dtype=torch.long)
    there[1] = torch.arange(7) < 4 if side == "right" else torch.arange(7) >= 3
    several = ids(2, 7, seed=5)
    several[1, there[1] == 1] = alone[0]
    changed = torch.where(there == 1, several, ids(2, 7, seed=6))
    mask = {"attention_mask": there, "decoder_input_ids": target}
    found, other = (logits(model, input_ids=each, **mask) for each in (several, changed))
    assert torch.equal(found, other)
    expected = logits(model, input_ids=alone, decoder_input_ids=target[1:])
    torch.testing.assert_close(found[1:], expected, rtol=1e-5, atol=1e-5)


def test_padding_of_the_target_changes_nothing() -> None:
    model, source = made(), ids(2, 6)
    text = ids(1, 4, seed=2)
    expected = logits(model, input_ids=source[1:], decoder_input_ids=text)
    for side in (slice(0, 4), slice(3, 7)):
        several, there = ids(2, 7, seed=5), torch.ones(2, 7, dtype=torch.long)
        there[1] = 0
        there[1, side], several[1, side] = 1, text[0]
        found = logits(model, input_ids=source, decoder_input_ids=several, decoder_attention_mask=there)
        torch.testing.assert_close(found[1:, side], expected, rtol=1e-5, atol=1e-5)


def test_step_by_step_is_the_same() -> None:
    model, source, target = made().double(), ids(2, 7), ids(2, 6, seed=2)
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    whole = logits(model, input_ids=source, attention_mask=mask, decoder_input_ids=target)
    with torch.no_grad():
        output = model(input_ids=source, attention_mask=mask, decoder_input_ids=target[:, :2], use_cache=True)
        steps = [output.logits]
        for step in range(2, 6):
            output = model(
                encoder_outputs=(output.encoder_last_hidden_state,),
                attention_mask=mask,
                decoder_input_ids=target[:, step : step + 1],
                past_key_values=output.past_key_values,
            )
            steps.append(output.logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=1e-10, atol=1e-10)


def test_greedy_writes_what_is_likeliest_without_a_cache_too() -> None:
    model, source = made(), ids(3, 6)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [0] * 3 + [1] * 3])
    written = model.generate(source, attention_mask=mask, max_new_tokens=8, do_sample=False)
    again = model.generate(source, attention_mask=mask, max_new_tokens=8, do_sample=False, use_cache=False)
    assert torch.equal(written, again)
    for row in range(3):
        alone = model.generate(source[row : row + 1][:, mask[row] == 1], max_new_tokens=8, do_sample=False)
        assert torch.equal(written[row, : alone.shape[1]], alone[0])


def score(model: Translator, source: Tensor, text: tuple[int, ...]) -> float:
    """The logarithm of the probability that the model writes a text, from the start token on."""
    target = torch.tensor([text])
    log = logits(model, input_ids=source, labels=target).log_softmax(-1)
    return float(log[0].gather(1, target[0, :, None]).sum())


def test_beam_search_finds_what_trying_everything_finds() -> None:
    """With a beam for every text there is, beam search leaves nothing out."""
    tokens, length, end = 5, 3, 2
    for seed in range(4):
        model, source = made(tokens, seed=seed).double(), ids(1, 4, most=5, seed=seed)
        texts = [
            text
            for size in range(1, length + 1)
            for text in itertools.product(range(tokens), repeat=size)
            if end not in text[:-1] and (text[-1] == end or size == length)
        ]
        best = max(texts, key=lambda text: score(model, source, text))
        found = model.generate(
            source, num_beams=tokens**length, max_new_tokens=length, do_sample=False, length_penalty=0.0, pad_token_id=0
        )
        assert tuple(found[0, 1 : 1 + len(best)].tolist()) == best


def test_beams_of_several_texts_are_those_of_each_alone() -> None:
    model, source = made(), ids(3, 6)
    options = {"num_beams": 4, "max_new_tokens": 7, "do_sample": False, "num_return_sequences": 2}
    together = model.generate(source, **options)
    for row in range(3):
        alone = model.generate(source[row : row + 1], **options)
        assert torch.equal(together[2 * row : 2 * row + 2, : alone.shape[1]], alone)


def test_sampling_repeats_with_its_seed() -> None:
    model, source = made(), ids(1, 6)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(model.generate(source, do_sample=True, max_new_tokens=12, min_new_tokens=12))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    model = made(norm="rms", activation="swiglu", norm_place="before", decoder_start_token_id=1)
    model.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), TranslatorConfig)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, Translator)
    assert loaded.config.decoder_start_token_id == 1
    inputs = {"input_ids": ids(2, 7), "decoder_input_ids": ids(2, 5)}
    assert torch.equal(logits(loaded, **inputs), logits(model, **inputs))
    assert sum(parameter.numel() for parameter in loaded.parameters()) == model.num_parameters()


def test_parts_of_a_batch_add_up_to_its_loss_and_gradient() -> None:
    model, source, labels = made(), ids(4, 6), ids(4, 5, seed=2)
    labels[0, 2:], labels[1, 4:] = -100, -100
    count = (labels != -100).sum()
    model(input_ids=source, labels=labels).loss.backward()
    whole = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    parts = [slice(0, 1), slice(1, 4)]
    losses = [model(input_ids=source[part], labels=labels[part], num_items_in_batch=count).loss for part in parts]
    sum(losses).backward()
    for parameter, expected in zip(model.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)


def test_labels_are_moved_right_behind_the_start() -> None:
    model = made(pad_token_id=0, decoder_start_token_id=1)
    labels = torch.tensor([[5, 6, 2], [7, 2, -100]])
    assert model.prepare_decoder_input_ids_from_labels(labels).tolist() == [[1, 5, 6], [1, 7, 2]]
    assert labels.tolist() == [[5, 6, 2], [7, 2, -100]]
    given = logits(model, input_ids=ids(2, 4), labels=labels)
    assert torch.equal(
        given, logits(model, input_ids=ids(2, 4), decoder_input_ids=torch.tensor([[1, 5, 6], [1, 7, 2]]))
    )


def test_weights_are_returned_without_another_path() -> None:
    model, source, target = made(), ids(2, 6), ids(2, 5, seed=2)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    inputs = {"input_ids": source, "attention_mask": mask, "decoder_input_ids": target}
    with torch.no_grad():
        output = model(**inputs, output_attentions=True)
    assert torch.equal(output.logits, logits(model, **inputs))
    assert [len(each) for each in (output.encoder_attentions, output.decoder_attentions, output.cross_attentions)] == [
        2
    ] * 3
    assert output.cross_attentions[0].shape == (2, 4, 5, 6)
    assert not output.cross_attentions[0][1, :, :, 4:].any()
    assert not output.decoder_attentions[1].triu(1).any()
    torch.testing.assert_close(output.cross_attentions[1].sum(-1), torch.ones(2, 4, 5))


def test_capture_sees_every_attention() -> None:
    model, source = made(), ids(2, 6)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    with torch.no_grad():
        expected = model(input_ids=source, attention_mask=mask, decoder_input_ids=ids(2, 5), output_attentions=True)
    with qkv.capture(model) as capture, torch.no_grad():
        found = model(input_ids=source, attention_mask=mask, decoder_input_ids=ids(2, 5))
    assert torch.equal(found.logits, expected.logits)
    for text, length in enumerate((6, 4)):
        records = capture.trace.sequences[text].attentions
        assert [(each.part, each.kind, each.layer) for each in records] == [
            ("encoder", "self", 0),
            ("encoder", "self", 1),
            ("decoder", "self", 0),
            ("decoder", "cross", 0),
            ("decoder", "self", 1),
            ("decoder", "cross", 1),
        ]
        assert records[0].query.shape == (4, length, 8)
        cross = records[5].weights(head=1)
        torch.testing.assert_close(
            torch.from_numpy(cross), expected.cross_attentions[1][text, 1, :, :length], rtol=1e-5, atol=1e-6
        )


def test_capture_follows_generate() -> None:
    model, source = made(), ids(1, 6)
    expected = model.generate(source, max_new_tokens=5, do_sample=False)
    with qkv.capture(model) as capture:
        assert torch.equal(model.generate(source, max_new_tokens=5, do_sample=False), expected)
    kinds = {(each.part, each.kind): each.query.shape[1] for each in capture.trace.attentions}
    assert kinds == {("encoder", "self"): 6, ("decoder", "self"): 5, ("decoder", "cross"): 5}


def test_capture_lets_gradients_through() -> None:
    model, inputs = made(), {"input_ids": ids(2, 6), "labels": ids(2, 5)}
    model(**inputs).loss.backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    with qkv.capture(model):
        loss = model(**inputs).loss
    loss.backward()
    assert all(torch.equal(parameter.grad, each) for parameter, each in zip(model.parameters(), expected, strict=True))


def test_half_precision_stays_close() -> None:
    model, inputs = made().train(), {"input_ids": ids(2, 6), "labels": ids(2, 5)}
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**inputs)
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(("place", "updates"), [("before", 60), ("after", 100)])
def test_it_learns_ten_sentences_by_heart(place: str, updates: int) -> None:
    """Without a warm-up, norms after the sums need a few more updates."""
    torch.manual_seed(0)
    model = Translator(TranslatorConfig(vocab_size=60, **SIZES, norm_place=place, dropout=0.0)).train()
    source, target = ids(10, 6), ids(10, 6, seed=2)
    target[:, -1] = 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(updates):
        optimizer.zero_grad()
        model(input_ids=source, labels=target).loss.backward()
        optimizer.step()
    written = model.eval().generate(source, max_new_tokens=6, do_sample=False)
    assert torch.equal(written[:, 1:], target)


@pytest.mark.parametrize("place", ["after", "before"])
def test_the_papers_model_is_that_of_transformers(place: str) -> None:
    model = made(norm_place=place)
    theirs = equal_model(model)
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    inputs = {"input_ids": ids(2, 7), "attention_mask": mask, "decoder_input_ids": ids(2, 5, seed=2)}
    with torch.no_grad():
        torch.testing.assert_close(logits(model, **inputs), theirs(**inputs).logits, rtol=1e-4, atol=1e-4)
    for options in ({"num_beams": 1}, {"num_beams": 4}):
        both = [
            each.generate(ids(2, 7), attention_mask=mask, max_new_tokens=8, do_sample=False, **options)
            for each in (model, theirs)
        ]
        assert torch.equal(*both)


def test_what_does_not_fit_is_said() -> None:
    model = made()
    with pytest.raises(ArgumentError, match="decoder_input_ids: expected the target so far, or labels"):
        model(input_ids=ids(1, 4))
    with pytest.raises(ArgumentError, match="input_ids: expected the source, or encoder_outputs"):
        model(decoder_input_ids=ids(1, 4))
    with pytest.raises(ArgumentError, match=r"attention_mask: expected shape \(1, 4\).*got \(1, 3\)"):
        model(input_ids=ids(1, 4), decoder_input_ids=ids(1, 4), attention_mask=torch.ones(1, 3))
    with pytest.raises(ArgumentError, match="past_key_values: expected a cache that grows"):
        model.generate(ids(1, 4), max_new_tokens=3, cache_implementation="static")
