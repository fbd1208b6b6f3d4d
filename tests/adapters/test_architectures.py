"""Hugging Face models of many architectures, on our attention and on their own: outputs, weights, caches, gradients."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import transformers
from architectures import ALL, DECODERS, ENCODERS, WITHOUT_TOKENS, inputs, model

import qkv
from tiny_models import DECODERS as TRAITS
from tiny_models import ENCODERS as PLAIN_ENCODERS
from tiny_models import WITHOUT_TOKENS as PATCHES
from tiny_models import output_of, text_ids

OLD = transformers.__version__.startswith("4.")
UNTOLD = {
    "gpt2",
    "gpt_bigcode",
    "gpt_neox",
    "opt",
    "persimmon",
    "vit",
    "audio_spectrogram_transformer",
    "deit",
    "dinov2",
}
UNTOLD |= {"siglip_vision", "videomae", "bert"}
"""Models that in transformers 4 do not say in the call that weights are asked for."""
TEXTS = [name for name in ALL if name not in {*WITHOUT_TOKENS, *PATCHES}]
WRITERS = [(name, cache) for name in ALL if name in {*DECODERS, *TRAITS} for cache in ("dynamic", "static")]
if OLD:
    WRITERS.remove(("deepseek_v2", "static"))  # transformers 4 cannot: its values are narrower than its keys


@contextmanager
def attending(made: Any, implementation: str) -> Iterator[Any]:
    qkv.register()
    made.set_attn_implementation(implementation)
    try:
        yield made
    finally:
        made.set_attn_implementation("eager")


def exact(made: Any, given: dict[str, torch.Tensor]) -> torch.Tensor:
    """The output of the same model in float64, with transformers' own attention, whose softmax would be in float32."""
    wide, softmax = copy.deepcopy(made).double(), torch.nn.functional.softmax
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "softmax", lambda scores, dim, dtype=None: softmax(scores, dim))
        return output_of(wide(**{name: x.double() if x.is_floating_point() else x for name, x in given.items()}))


def error(found: torch.Tensor, want: torch.Tensor) -> float:
    return float((found.double() - want).norm() / want.norm())


def check_as_good(found: torch.Tensor, plain: torch.Tensor, want: torch.Tensor) -> None:
    """As near to the exact result as the model's own attention, but for luck in rounding, which layers magnify."""
    assert torch.isfinite(found).all()
    assert error(found, want) <= 2 * error(plain, want) + 5e-7


@pytest.mark.parametrize("name", ALL)
def test_outputs_are_as_exact_as_with_the_models_own_attention(name: str) -> None:
    made, given = model(name), inputs(name, batch=4)
    plain = output_of(made(**given))
    with attending(made, "qkv"):
        found = output_of(made(**given))
    check_as_good(found, plain, exact(made, given))


@pytest.mark.parametrize("name", [name for name in ALL if not (OLD and name in UNTOLD)])
def test_weights_are_returned_when_asked_for(name: str) -> None:
    made, given = model(name), inputs(name)
    want = made(**given, output_attentions=True)
    with attending(made, "qkv"):
        found = made(**given, output_attentions=True)
    fields = [field for field in want if "attentions" in field and getattr(want, field)]
    assert fields
    for field in fields:
        for one, other in zip(getattr(found, field), getattr(want, field), strict=True):
            torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", TEXTS)
def test_a_padded_batch(name: str, side: str) -> None:
    made, given = model(name), inputs(name, batch=3)
    mask = torch.ones_like(given["input_ids"])
    mask[1, slice(4) if side == "left" else slice(5, None)] = 0
    given["attention_mask"] = mask
    plain, want = output_of(made(**given)), exact(made, given)
    with attending(made, "qkv"):
        found = output_of(made(**given))
    assert torch.isfinite(found).all(), "padded rows are finite too"
    rows = mask.bool() if found.shape[1] == mask.shape[1] else torch.ones(found.shape[:2], dtype=torch.bool)
    check_as_good(found[rows], plain[rows], want[rows])


@pytest.mark.parametrize(("name", "cache"), WRITERS)
def test_writing_with_a_cache(name: str, cache: str) -> None:
    made = model(name)
    ids = text_ids(7, batch=2)
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    options: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False, "output_logits": True}
    options |= {"return_dict_in_generate": True, "eos_token_id": None, "pad_token_id": 0}
    if cache == "static":
        options["cache_implementation"] = "static"
    want = made.generate(ids, **options)
    with attending(made, "qkv"):
        found = made.generate(ids, **options)
    torch.testing.assert_close(torch.stack(found.logits), torch.stack(want.logits), rtol=1e-3, atol=1e-3)
    assert torch.equal(found.sequences, want.sequences)


@pytest.mark.parametrize(
    "name", [name for name in ALL if name in {*ENCODERS, *PLAIN_ENCODERS, *TRAITS, "bart", "t5", "vit"}]
)
def test_gradients(name: str) -> None:
    made, given = model(name), inputs(name)

    def gradients() -> dict[str, torch.Tensor]:
        made.zero_grad()
        with torch.enable_grad():
            output_of(made(**given)).square().mean().backward()
        return {path: each.grad.clone() for path, each in made.named_parameters() if each.grad is not None}

    want = gradients()
    with attending(made, "qkv"):
        found = gradients()
    made.zero_grad()
    assert found.keys() == want.keys()
    for path, gradient in want.items():
        torch.testing.assert_close(found[path], gradient, rtol=5e-4, atol=5e-5, msg=path)
