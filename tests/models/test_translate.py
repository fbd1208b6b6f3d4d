"""`translate` writes what `generate` writes, on its own way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_translator import ids, made
from torch import Tensor

from qkv.errors import ArgumentError, ModelError
from qkv.models import Translator

LAYERS: dict[str, Any] = {
    "after": {},
    "before": {"norm_place": "before"},
    "rms": {"norm": "rms", "activation": "swiglu", "bias": False},
}
PADDED: dict[str, Tensor | None] = {
    "whole": None,
    "right": (torch.arange(7) < torch.tensor([7, 3, 5, 1])[:, None]).long(),
    "left": (torch.arange(7) >= torch.tensor([0, 4, 2, 6])[:, None]).long(),
    "either": torch.tensor([[0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0], [1] * 7]),
    "holes": torch.tensor([[1, 0, 1, 1, 0, 1, 1], [1, 1, 1, 0, 0, 0, 0], [0, 1, 0, 0, 1, 1, 0], [1] * 7]),
}


def ending(model: Translator, seed: int) -> Translator:
    """A model that ends texts now and then, at different lengths."""
    torch.manual_seed(seed)
    table = model.get_input_embeddings().weight
    with torch.no_grad():
        table[2] = 1.5 * torch.randn_like(table[2])
    return model


def texts(written: Tensor) -> list[list[int]]:
    """Without what follows the end: transformers' beam search fills up with the end itself where padding is token 0."""
    return [row[: row.index(2) + 1] if 2 in row else row for row in written.tolist()]


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("mask", PADDED.values(), ids=PADDED)
@pytest.mark.parametrize("beams", [1, 2, 4])
def test_it_writes_what_generate_writes(layers: dict[str, Any], mask: Tensor | None, beams: int) -> None:
    lengths = set()
    for seed in range(3):
        model, source = ending(made(20, seed=seed, **layers), seed), ids(4, 7, most=20, seed=seed)
        expected = model.generate(
            source, attention_mask=mask, num_beams=beams, max_new_tokens=12, do_sample=False, length_penalty=1.0
        )
        found = model.translate(source, mask, beams=beams, max_new_tokens=12)
        assert texts(found) == texts(expected)
        lengths |= set(map(len, texts(found)))
    assert len(lengths) > 1


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
def test_the_penalty_of_length_is_generates(penalty: float) -> None:
    for seed in range(4):
        model, source = ending(made(20, seed=seed), seed), ids(3, 5, most=20, seed=seed)
        options = {"max_new_tokens": 10, "length_penalty": penalty}
        expected = model.generate(source, num_beams=3, do_sample=False, **options)
        assert texts(model.translate(source, beams=3, **options)) == texts(expected)


def test_its_scores_are_those_of_the_model() -> None:
    from qkv.models._stepping import Stepper

    model, source, target = made().double(), ids(2, 6), ids(2, 5, seed=2)
    with torch.no_grad():
        expected = model(input_ids=source, decoder_input_ids=target)
        read = expected.encoder_last_hidden_state
        stepper = Stepper(model.decoder, model.encoder.embedding, read, None, 1, 5)
        hidden = [stepper.step(target[:, step]) for step in range(5)]
        found = torch.stack([model.encoder.embedding.scores(each) for each in hidden], 1)
        torch.testing.assert_close(found, expected.logits, rtol=1e-10, atol=1e-10)
        for step, each in enumerate(hidden):
            values, tokens = stepper.likeliest(each, 7)
            best = expected.logits[:, step].log_softmax(-1).topk(7)
            assert torch.equal(tokens, best.indices)
            torch.testing.assert_close(values, best.values, rtol=1e-10, atol=1e-10)


def test_what_it_writes_and_grows_can_be_trained_on() -> None:
    model, source = made(20, hidden_size=16, num_attention_heads=2), ids(1, 3, most=20)
    model.decoder.positions.compute(2)  # a table that has to grow
    written = model.translate(source, max_new_tokens=6)
    model(input_ids=source, labels=written).loss.backward()


def test_many_texts_of_different_lengths_are_read_in_groups() -> None:
    model, source = ending(made(20), 0), ids(21, 9, most=20)
    mask = (torch.arange(9) < torch.randint(1, 10, (21, 1), generator=torch.Generator().manual_seed(3))).long()
    whole = model.encoder(source, mask)[0]
    found = model._read(source, mask)
    torch.testing.assert_close(found[mask == 1], whole[mask == 1], rtol=1e-5, atol=1e-5)
    expected = model.generate(source, attention_mask=mask, max_new_tokens=8, do_sample=False)
    assert texts(model.translate(source, mask, max_new_tokens=8)) == texts(expected)


def test_weights_that_are_no_numbers_are_named() -> None:
    model = made(20)
    with torch.no_grad():
        model.get_input_embeddings().weight[:] = float("nan")
    with pytest.raises(ModelError, match="translate: the model's scores are not numbers"):
        model.translate(ids(1, 3, most=20), max_new_tokens=3)


def test_half_precision_too() -> None:
    model, source = ending(made(20).bfloat16(), 0), ids(3, 5, most=20)
    assert model.translate(source, beams=3, max_new_tokens=6).shape[0] == 3


def test_what_does_not_fit_is_said() -> None:
    model = made(20)
    with pytest.raises(ArgumentError, match="beams: expected 1 or more, got 0"):
        model.translate(ids(1, 3, most=20), beams=0)
    with pytest.raises(ArgumentError, match="beams: expected at most 10, half of the tokens"):
        model.translate(ids(1, 3, most=20), beams=11)
    with pytest.raises(ArgumentError, match="max_new_tokens: expected 1 or more, got 0"):
        model.translate(ids(1, 3, most=20), max_new_tokens=0)
    with pytest.raises(ArgumentError, match=r"translate: expected a model that is not being trained; call .eval\(\)"):
        model.train().translate(ids(1, 3, most=20))
