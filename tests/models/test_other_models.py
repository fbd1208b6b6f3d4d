"""The language models and the vision transformer: equal to transformers' own, blind to the future and to padding."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForImageClassification, AutoModelForMaskedLM

import qkv
from qkv.errors import ArgumentError
from qkv.models import (
    LanguageModel,
    LanguageModelConfig,
    MaskedLanguageModel,
    MaskedLanguageModelConfig,
    Translator,
    TranslatorConfig,
    VisionTransformer,
    VisionTransformerConfig,
)

TEXT: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
IMAGE: dict[str, Any] = {"image_size": 8, "patch_size": 4, "hidden_size": 32, "num_hidden_layers": 2, "num_labels": 5}
GPT: dict[str, Any] = {"positions": "learned", "norm": "layer", "activation": "gelu", "bias": True}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2},
    "gpt": GPT,
    "sinusoidal": {"positions": "sinusoidal"},
}


def sharp(model: Any) -> Any:
    """Weights that make attention far from uniform, the same every time."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.25)
    return model.eval()


def language_model(**options: Any) -> LanguageModel:
    model: LanguageModel = sharp(LanguageModel(LanguageModelConfig(**{**TEXT, **options})))
    return model


def ids(*shape: int, seed: int = 1, most: int = 60) -> Tensor:
    return torch.randint(3, most, shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(model: Any, *inputs: Any, **named: Any) -> Tensor:
    found: Tensor = model(*inputs, **named).logits
    return found


def moved(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Our weights under their names, piece by piece."""
    found = {}
    for name, value in state.items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        found[name] = value
    return found


def test_like_llama_it_is_llama() -> None:
    ours = language_model(num_key_value_heads=2)
    sizes = {**TEXT, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).eval()
    state = moved(
        ours.decoder.state_dict(prefix="model."),
        {
            "around_attention.norm": "input_layernorm",
            "around_feed_forward.norm": "post_attention_layernorm",
            "attention.query": "self_attn.q_proj",
            "attention.key": "self_attn.k_proj",
            "attention.value": "self_attn.v_proj",
            "attention.output": "self_attn.o_proj",
            "feed_forward.up": "mlp.up_proj",
            "feed_forward.gate": "mlp.gate_proj",
            "feed_forward.down": "mlp.down_proj",
        },
    )
    table = ours.get_input_embeddings().weight
    theirs.load_state_dict(state | {"model.embed_tokens.weight": table * 32**0.5, "lm_head.weight": table})
    text = ids(2, 9)
    torch.testing.assert_close(logits(ours, text), logits(theirs, text), rtol=1e-4, atol=1e-4)
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    assert torch.equal(ours.generate(text, **options), theirs.generate(text, **options))


def test_like_bert_it_is_bert() -> None:
    ours: MaskedLanguageModel = sharp(MaskedLanguageModel(MaskedLanguageModelConfig(**TEXT)))
    sizes = {**TEXT, "layer_norm_eps": 1e-5, "type_vocab_size": 1, "tie_word_embeddings": False}
    theirs = transformers.BertForMaskedLM(transformers.BertConfig(**sizes)).eval()
    state = moved(
        ours.encoder.state_dict(),
        {
            "layers.": "bert.encoder.layer.",
            "around_attention.norm": "attention.output.LayerNorm",
            "around_feed_forward.norm": "output.LayerNorm",
            "attention.query": "attention.self.query",
            "attention.key": "attention.self.key",
            "attention.value": "attention.self.value",
            ".attention.output.weight": ".attention.output.dense.weight",
            ".attention.output.bias": ".attention.output.dense.bias",
            "feed_forward.up": "intermediate.dense",
            "feed_forward.down": "output.dense",
        },
    )
    table = ours.get_input_embeddings().weight
    found = ours.state_dict()
    state["bert.embeddings.word_embeddings.weight"] = table * 32**0.5
    state["bert.embeddings.position_embeddings.weight"] = found["positions.weight"]
    state["bert.embeddings.token_type_embeddings.weight"] = torch.zeros(1, 32)
    state["cls.predictions.decoder.weight"] = table
    for kind in ("weight", "bias"):
        state[f"bert.embeddings.LayerNorm.{kind}"] = found[f"norm.{kind}"]
        state[f"cls.predictions.transform.dense.{kind}"] = found[f"head.0.{kind}"]
        state[f"cls.predictions.transform.LayerNorm.{kind}"] = found[f"head.2.{kind}"]
    for name in ("cls.predictions.bias", "cls.predictions.decoder.bias"):
        state[name] = found["output_bias"]
    assert not theirs.load_state_dict(state, strict=False).unexpected_keys
    text, mask = ids(2, 9), torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
    both = [logits(model, text, attention_mask=mask)[mask == 1] for model in (ours, theirs)]
    torch.testing.assert_close(*both, rtol=1e-4, atol=1e-4)


def test_like_vit_it_is_vit() -> None:
    ours: VisionTransformer = sharp(VisionTransformer(VisionTransformerConfig(**IMAGE, num_channels=3)))
    assert ours.config.num_labels == 5
    sizes = {**IMAGE, "intermediate_size": 256, "num_attention_heads": 4, "layer_norm_eps": 1e-5}
    theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes)).eval()
    names = dict(theirs.named_parameters())
    state, found = theirs.state_dict(), ours.state_dict()
    inside = {
        "layernorm_before": "around_attention.norm",
        "layernorm_after": "around_feed_forward.norm",
        "q_proj": "attention.query",
        "query": "attention.query",
        "k_proj": "attention.key",
        "key": "attention.key",
        "v_proj": "attention.value",
        "value": "attention.value",
        "o_proj": "attention.output",
        "attention.output.dense": "attention.output",
        "fc1": "feed_forward.up",
        "intermediate.dense": "feed_forward.up",
        "fc2": "feed_forward.down",
        "output.dense": "feed_forward.down",
    }
    whole = {
        "vit.embeddings.cls_token": found["patches.whole"][None, None],
        "vit.embeddings.position_embeddings": found["positions.weight"][None],
    }
    for kind in ("weight", "bias"):
        whole[f"vit.embeddings.patch_embeddings.projection.{kind}"] = found[f"patches.projection.{kind}"]
        whole[f"vit.layernorm.{kind}"] = found[f"encoder.norm.{kind}"]
        whole[f"classifier.{kind}"] = found[f"head.{kind}"]
    for name in names:
        if name in whole:
            state[name] = whole[name]
            continue
        layer = next(piece for piece in name.split(".") if piece.isdigit())
        part = next(ours_ for theirs_, ours_ in inside.items() if f".{theirs_}." in name)
        state[name] = found[f"encoder.layers.{layer}.{part}.{name.rsplit('.', 1)[1]}"]
    theirs.load_state_dict(state)
    image = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(logits(ours, image), logits(theirs, image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_the_future_changes_no_bit_of_the_past(options: dict[str, Any]) -> None:
    model, text = language_model(**options), ids(2, 9)
    other = torch.cat([text[:, :5], ids(2, 4, seed=3)], 1)
    found, changed = logits(model, text), logits(model, other)
    assert torch.equal(found[:, :5], changed[:, :5])
    assert not torch.equal(found[:, 5], changed[:, 5])


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_step_by_step_is_the_same(options: dict[str, Any]) -> None:
    model, text = language_model(**options).double(), ids(2, 8)
    mask = torch.tensor([[1] * 8, [0] * 2 + [1] * 6])
    whole = logits(model, text, attention_mask=mask)
    output, steps = None, []
    for stop in range(3, 9):
        new = text[:, (0 if output is None else stop - 1) : stop]
        with torch.no_grad():
            past = None if output is None else output.past_key_values
            output = model(new, attention_mask=mask[:, :stop], past_key_values=past, use_cache=True)
        steps.append(output.logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_texts_padded_on_the_left_are_continued_as_alone(options: dict[str, Any]) -> None:
    model, text = language_model(**options), ids(2, 7)
    mask = torch.tensor([[1] * 7, [0] * 3 + [1] * 4])
    written = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    together = model.generate(text, attention_mask=mask, **written)
    for beams in (1, 3):
        together = model.generate(text, attention_mask=mask, num_beams=beams, **written)
        alone = model.generate(text[1:, 3:], num_beams=beams, **written)
        assert torch.equal(together[1, 3:], alone[0])


@pytest.mark.parametrize("side", [slice(0, 4), slice(3, 7), slice(2, 6)], ids=["right", "left", "both"])
def test_padding_changes_nothing(side: slice) -> None:
    for model in (language_model(**GPT), sharp(MaskedLanguageModel(MaskedLanguageModelConfig(**TEXT)))):
        alone, text, mask = ids(1, 4, seed=2), ids(2, 7), torch.ones(2, 7, dtype=torch.long)
        mask[1] = 0
        mask[1, side], text[1, side] = 1, alone[0]
        found = logits(model, text, attention_mask=mask)[1:, side]
        torch.testing.assert_close(found, logits(model, alone), rtol=1e-4, atol=1e-4)


def test_first_losses_are_those_of_guessing() -> None:
    torch.manual_seed(0)
    sizes = {**TEXT, "vocab_size": 4000, "hidden_size": 128}
    text, hidden = ids(8, 20, most=4000), ids(8, 20, most=4000, seed=2)
    for model in (
        LanguageModel(LanguageModelConfig(**sizes)),
        LanguageModel(LanguageModelConfig(**{**sizes, **GPT})),
        MaskedLanguageModel(MaskedLanguageModelConfig(**sizes)),
    ):
        labels = text if isinstance(model, LanguageModel) else hidden
        assert abs(model.eval()(text, labels=labels).loss.item() - math.log(4000)) < 0.1
    images = VisionTransformer(VisionTransformerConfig(**IMAGE)).eval()
    loss = images(torch.randn(64, 1, 8, 8), labels=torch.arange(64) % 5).loss
    assert abs(loss.item() - math.log(5)) < 0.1


def test_more_tokens_and_fewer() -> None:
    torch.manual_seed(0)
    sizes = {**TEXT, "vocab_size": 400}
    translator = TranslatorConfig(vocab_size=400, hidden_size=32, num_attention_heads=4, intermediate_size=48)
    for model in (
        LanguageModel(LanguageModelConfig(**sizes)),
        MaskedLanguageModel(MaskedLanguageModelConfig(**sizes)),
        Translator(translator),
    ):
        text = ids(8, 20, most=400)
        given = {"input_ids": text, "decoder_input_ids": text} if isinstance(model, Translator) else {"input_ids": text}
        if isinstance(model, MaskedLanguageModel):
            torch.nn.init.normal_(model.output_bias, std=0.02)
        before = logits(model.eval(), **given)
        model.resize_token_embeddings(500)
        after = logits(model, **given)
        assert after.shape == (8, 20, 500)
        assert model.config.vocab_size == 500
        torch.testing.assert_close(after[..., :400], before, rtol=1e-6, atol=1e-6)
        new = ids(8, 20, most=500, seed=2)
        loss = model(**{**given, "input_ids": new}, labels=ids(8, 20, most=500, seed=3)).loss
        assert abs(loss.item() - math.log(500)) < 0.1
        loss.backward()
        model.resize_token_embeddings(400)
        torch.testing.assert_close(logits(model, **given), before, rtol=1e-6, atol=1e-6)


def test_capture_sees_them_as_they_are() -> None:
    text = ids(1, 6)
    models: list[tuple[Any, Tensor, str]] = [
        (language_model(num_key_value_heads=2), text, "decoder"),
        (sharp(MaskedLanguageModel(MaskedLanguageModelConfig(**TEXT))), text, "encoder"),
        (sharp(VisionTransformer(VisionTransformerConfig(**IMAGE))), torch.randn(1, 1, 8, 8), "encoder"),
    ]
    for model, given, part in models:
        with torch.no_grad():
            expected = model(given, output_attentions=True)
        with qkv.capture(model) as capture:
            assert torch.equal(logits(model, given), expected.logits)
        records = capture.trace.attentions
        assert [(each.part, each.layer) for each in records] == [(part, 0), (part, 1)]
        torch.testing.assert_close(
            torch.from_numpy(records[1].weights(head=2)), expected.attentions[1][0, 2], rtol=1e-5, atol=1e-6
        )


def test_saved_and_loaded_they_are_the_same(tmp_path: Path) -> None:
    for number, (model, auto, given) in enumerate(
        [
            (language_model(), AutoModelForCausalLM, ids(2, 6)),
            (language_model(**GPT), AutoModelForCausalLM, ids(2, 6)),
            (sharp(MaskedLanguageModel(MaskedLanguageModelConfig(**TEXT))), AutoModelForMaskedLM, ids(2, 6)),
            (
                sharp(VisionTransformer(VisionTransformerConfig(**IMAGE))),
                AutoModelForImageClassification,
                torch.randn(2, 1, 8, 8),
            ),
        ]
    ):
        model.save_pretrained(tmp_path / str(number))
        loaded = auto.from_pretrained(tmp_path / str(number)).eval()
        assert type(loaded) is type(model)
        assert torch.equal(logits(loaded, given), logits(model, given))


def test_parts_of_a_batch_add_up_to_its_loss() -> None:
    model, text = language_model(), ids(4, 6)
    labels = text.clone()
    labels[0, 2:] = -100
    count = (labels[:, 1:] != -100).sum()
    whole = model(text, labels=labels).loss
    parts = sum(
        model(text[part], labels=labels[part], num_items_in_batch=count).loss for part in (slice(0, 1), slice(1, 4))
    )
    torch.testing.assert_close(parts, whole)


def test_hugging_faces_trainer_trains_them(tmp_path: Path) -> None:
    text = ids(8, 6)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    )
    images = [{"pixel_values": torch.randn(1, 8, 8), "labels": torch.tensor(row % 5)} for row in range(8)]
    texts = [{"input_ids": row, "labels": row} for row in text]
    for model, rows in (
        (LanguageModel(LanguageModelConfig(**TEXT)), texts),
        (MaskedLanguageModel(MaskedLanguageModelConfig(**TEXT)), texts),
        (VisionTransformer(VisionTransformerConfig(**IMAGE)), images),
    ):
        before = [parameter.clone() for parameter in model.parameters()]
        result = transformers.Trainer(model=model, args=arguments, train_dataset=rows).train()
        assert math.isfinite(result.training_loss)
        changed = [not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True)]
        assert sum(changed) > len(changed) / 2


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ArgumentError, match='positions: expected "rotary", "learned" or "sinusoidal", got \'none\''):
        LanguageModel(LanguageModelConfig(**TEXT, positions="none"))
    with pytest.raises(ArgumentError, match="patch_size: expected a number that divides image_size 8, got 3"):
        VisionTransformer(VisionTransformerConfig(**{**IMAGE, "patch_size": 3}))
    with pytest.raises(ArgumentError, match=r"pixel_values: expected shape \(batch, 1, 8, 8\), got \(1, 1, 8, 9\)"):
        VisionTransformer(VisionTransformerConfig(**IMAGE))(torch.randn(1, 1, 8, 9))
