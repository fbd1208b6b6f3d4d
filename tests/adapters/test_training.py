"""Training Hugging Face models on our attention: gradients, steps, dropout, checkpointing, and what is kept."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

import qkv
from qkv.adapters._call import AttentionCall
from qkv.adapters._huggingface import attention
from tiny_models import GROUPED, families, output_of, text_ids, tiny

FAMILIES = families("bert", "llama", "t5", "gemma2", "gpt_oss", "gpt2", "bart")
TRAITS = {"t5": "relative_attention_bias", "gpt_oss": "sinks"}
"""Parameters of an attention that is more than projections."""


@pytest.fixture(autouse=True)
def training() -> Iterator[None]:
    qkv.register()
    torch.manual_seed(0)
    with torch.enable_grad():
        yield


def batch(name: str) -> tuple[dict[str, Tensor], Tensor]:
    """Two texts, one shorter, and which outputs count."""
    ids = text_ids(9, batch=2)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    given = {"input_ids": ids, "attention_mask": mask}
    if name not in ("t5", "bart"):
        return given, mask.bool()
    given["decoder_input_ids"] = text_ids(7, batch=2, seed=1)
    return given, torch.ones(2, 7, dtype=torch.bool)


def loss_of(model: Any, name: str) -> Tensor:
    given, counted = batch(name)
    return output_of(model(**given))[counted].tanh().square().mean()


def trained(name: str, implementation: str, dtype: torch.dtype = torch.float32) -> Any:
    model = copy.deepcopy(tiny(name)).to(dtype)
    if hasattr(model, "set_experts_implementation"):  # the default one has no float64
        model.set_experts_implementation("eager")
    model.set_attn_implementation(implementation)
    return model


def gradients(model: Any, name: str) -> dict[str, Tensor]:
    model.zero_grad()
    loss_of(model, name).backward()
    return {path: each.grad.clone() for path, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_are_as_exact_as_those_of_eager(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, found = (gradients(trained(name, implementation), name) for implementation in ("eager", "qkv"))
    softmax = torch.nn.functional.softmax
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda scores, dim, dtype=None: softmax(scores, dim))
    exact = gradients(trained(name, "eager", torch.float64), name)
    assert found.keys() == plain.keys() == exact.keys()
    largest = max(float(want.norm()) for want in exact.values())
    for path, want in exact.items():
        size = float(want.norm())
        if size < 1e-9 * largest:  # the bias of keys: no gradient but rounding
            size = largest
        error, allowed = (float((each[path] - want).norm()) / size for each in (found, plain))
        assert error <= 2 * allowed + 2e-6, path
    if name in TRAITS:
        assert any(TRAITS[name] in path and found[path].any() for path in found)


@pytest.mark.parametrize("name", FAMILIES)
def test_training_goes_the_way_of_eager(name: str) -> None:
    losses = []
    for implementation in ("eager", "qkv"):
        model = trained(name, implementation).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            for dropout in ("dropout", "dropout_prob", "attention_dropout", "attn_dropout"):
                if isinstance(getattr(module, dropout, None), float):
                    setattr(module, dropout, 0.0)
        optimizer = torch.optim.SGD(model.parameters(), 0.02)
        steps = []
        for _ in range(5):
            loss = loss_of(model, name)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.append(loss.item())
        losses.append(steps)
    torch.testing.assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]), rtol=1e-4, atol=0)
    assert losses[1][-1] < losses[1][0]


@pytest.mark.parametrize("name", families("llama", "bert", "t5"))
def test_checkpointing_drops_the_same_weights_again(name: str) -> None:
    model = trained(name, "qkv").train()
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(3)
        found.append(gradients(model, name))
    for path, gradient in found[0].items():
        torch.testing.assert_close(found[1][path], gradient, msg=path)


def test_dropout_follows_torchs_generator() -> None:
    query, key, value = (torch.randn(1, 2, 6, 8, requires_grad=True) for _ in range(3))
    module = torch.nn.Module()
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(attention(module, query, key, value, None, dropout=0.5)[0])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    torch.manual_seed(1)
    seed = int(torch.randint(2**63 - 1, ()))
    want = qkv.attend(query, key, value, mask=qkv.Causal(), scale=8**-0.5, dropout=0.5, seed=seed)
    assert torch.equal(outputs[0], want.transpose(1, 2))
    one, other = (torch.autograd.grad(each.square().sum(), query)[0] for each in (outputs[0], want))
    assert torch.equal(one, other)


def test_weights_and_statistics_know_nothing_of_dropout() -> None:
    query, key, value = (torch.randn(1, 2, 6, 8, requires_grad=True) for _ in range(3))
    call = AttentionCall(query, key, value, scale=1.0)
    dropped = AttentionCall(query, key, value, scale=1.0, dropout=0.5)
    one, other = (each.observe(entropy=True) for each in (call, dropped))
    assert not torch.equal(one.output, other.output)
    torch.testing.assert_close(one.lse, other.lse)
    torch.testing.assert_close(one.entropy, other.entropy)
    assert not other.entropy.requires_grad


@pytest.mark.parametrize("keep", ["qkv", "statistics"])
def test_a_captured_step_is_the_same_step(keep: Any) -> None:
    model = LlamaForCausalLM._from_config(LlamaConfig(**GROUPED), attn_implementation="qkv").train()
    want = gradients(model, "llama")
    with qkv.capture(model, keep=keep) as capture:
        found = gradients(model, "llama")
    assert len(capture.trace.attentions) == 2
    for path, gradient in want.items():
        assert torch.equal(found[path], gradient), path


def test_nothing_of_the_size_of_all_pairs_is_kept_for_the_backward_pass() -> None:
    length = 600
    sizes: dict[str, Any] = {**GROUPED, "vocab_size": 8, "max_position_embeddings": length}
    model = MistralForCausalLM._from_config(MistralConfig(**sizes, sliding_window=50), attn_implementation="qkv")
    mask = torch.ones(1, length, dtype=torch.int64)
    mask[0, :7] = 0
    largest = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(torch.ones(1, length, dtype=torch.int64), attention_mask=mask).logits.square().mean()
    loss.backward()
    assert 0 < largest < length * length / 4


@pytest.mark.parametrize("name", families("llama", "t5", "gpt_oss"))
def test_on_a_device_that_the_kernel_does_not_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained(name, "qkv")
    want, given = gradients(model, name), batch(name)[0]
    with torch.no_grad():
        weights = model(**given, output_attentions=True)
    monkeypatch.setattr("qkv.attention._arrays.kernel_reads", lambda tensor: False)
    found = gradients(model, name)
    for path, gradient in want.items():
        torch.testing.assert_close(found[path], gradient, rtol=1e-4, atol=1e-5, msg=path)
    with torch.no_grad(), qkv.capture(model, keep="statistics") as capture:
        there = model(**given, output_attentions=True)
    field = "encoder_attentions" if name == "t5" else "attentions"
    torch.testing.assert_close(getattr(there, field), getattr(weights, field), rtol=1e-4, atol=1e-5)
    assert capture.trace.attentions
