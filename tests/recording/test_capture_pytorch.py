"""Capture of plain PyTorch modules, and what is refused."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qkv
from qkv.errors import CaptureError

CLOSE: dict[str, float] = {"rtol": 1e-5, "atol": 1e-5}


def mha(**options: Any) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    return nn.MultiheadAttention(16, 4, batch_first=True, **options).eval()


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def padding(batch: int, length: int) -> Tensor:
    """Every text but the first is two tokens shorter."""
    blocked = torch.zeros(batch, length, dtype=torch.bool)
    blocked[1:, -2:] = True
    return blocked


class TestMultiheadAttention:
    @pytest.mark.parametrize("average", [True, False])
    @pytest.mark.parametrize("needed", [True, False])
    @pytest.mark.parametrize("padded", [True, False])
    def test_output_and_weights(self, needed: bool, average: bool, padded: bool) -> None:
        layer, x = mha(), noise(2, 5, 16)
        options = {"key_padding_mask": padding(2, 5) if padded else None, "average_attn_weights": average}
        want, weights = layer(x, x, x, need_weights=needed, **options)
        _, each = layer(x, x, x, key_padding_mask=options["key_padding_mask"], average_attn_weights=False)
        with qkv.capture(layer) as capture:
            got, seen = layer(x, x, x, need_weights=needed, **options)
        np.testing.assert_allclose(got, want, **CLOSE)
        assert (seen is None) == (weights is None)
        if needed:
            np.testing.assert_allclose(seen, weights, **CLOSE)
        for index, sequence in enumerate(capture.trace.sequences):
            length = 3 if padded and index else 5
            assert len(sequence.sides["input"]) == length
            (attention,) = sequence.attentions
            np.testing.assert_allclose(attention.weights(), each[index, :, :length, :length], **CLOSE)

    @pytest.mark.parametrize("kind", ["bool", "float", "bool per head"])
    @pytest.mark.parametrize("needed", [True, False])
    def test_masks(self, kind: str, needed: bool) -> None:
        layer, x = mha(), noise(2, 5, 16)
        blocked = torch.ones(5, 5, dtype=torch.bool).triu(1)
        mask = {
            "bool": blocked,
            "float": noise(5, 5, seed=3).masked_fill(blocked, float("-inf")),
            "bool per head": torch.stack(
                [blocked if head % 2 else ~torch.eye(5, dtype=torch.bool) for head in range(8)]
            ),
        }[kind]
        want, weights = layer(x, x, x, attn_mask=mask, average_attn_weights=False)
        with qkv.capture(layer) as capture:
            got, seen = layer(x, x, x, attn_mask=mask, need_weights=needed, average_attn_weights=False)
        np.testing.assert_allclose(got, want, **CLOSE)
        if needed:
            np.testing.assert_allclose(seen, weights, **CLOSE)
        for index, sequence in enumerate(capture.trace.sequences):
            np.testing.assert_allclose(sequence.attentions[0].weights(), weights[index], **CLOSE)
        structure = capture.trace.attentions[0].mask_structure
        assert structure.causal == (kind != "bool per head")
        assert (structure.array is not None) == (kind == "bool per head")

    def test_a_causal_hint(self) -> None:
        layer, x = mha(), noise(1, 5, 16)
        mask = nn.Transformer.generate_square_subsequent_mask(5)
        want, _ = layer(x, x, x, attn_mask=mask, need_weights=False)
        with qkv.capture(layer) as capture:
            got, _ = layer(x, x, x, attn_mask=mask, need_weights=False, is_causal=True)
        np.testing.assert_allclose(got, want, **CLOSE)
        assert capture.trace.attentions[0].causal

    @pytest.mark.parametrize("needed", [True, False])
    def test_without_a_batch(self, needed: bool) -> None:
        layer, x = mha(), noise(5, 16)
        blocked = padding(2, 5)[1]
        want, weights = layer(x, x, x, key_padding_mask=blocked)
        with qkv.capture(layer) as capture:
            got, seen = layer(x, x, x, key_padding_mask=blocked, need_weights=needed)
        np.testing.assert_allclose(got, want, **CLOSE)
        if needed:
            assert seen.shape == (5, 5)
            np.testing.assert_allclose(seen, weights, **CLOSE)
        assert capture.trace.attentions[0].weights().shape == (4, 3, 3)

    def test_another_text_of_other_sizes(self) -> None:
        layer, x, y, z = mha(kdim=6, vdim=10), noise(2, 3, 16), noise(2, 7, 6), noise(2, 7, 10)
        want, weights = layer(x, y, z, average_attn_weights=False)
        with qkv.capture(layer) as capture:
            got, _ = layer(x, y, z)
        np.testing.assert_allclose(got, want, **CLOSE)
        first, second = capture.trace.sequences
        assert {side: len(tokens) for side, tokens in first.sides.items()} == {"target": 3, "input": 7}
        np.testing.assert_allclose(second.attentions[0].weights(), weights[1], **CLOSE)
        assert second.attentions[0].kind == "cross"

    def test_added_keys(self) -> None:
        layer, x = mha(add_bias_kv=True, add_zero_attn=True), noise(2, 5, 16)
        want, weights = layer(x, x, x, average_attn_weights=False)
        with qkv.capture(layer) as capture:
            got, seen = layer(x, x, x, average_attn_weights=False)
        np.testing.assert_allclose(got, want, **CLOSE)
        np.testing.assert_allclose(seen, weights, **CLOSE)
        np.testing.assert_allclose(capture.trace.sequences[1].attentions[0].weights(), weights[1], **CLOSE)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_an_encoder_leaves_its_fast_path_and_goes_back() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 3).eval()
    x, blocked = noise(2, 5, 16), padding(2, 5)
    want = model(x, src_key_padding_mask=blocked)
    with qkv.capture(model) as capture:
        assert not torch.backends.mha.get_fastpath_enabled()
        got = model(x, src_key_padding_mask=blocked)
    assert torch.backends.mha.get_fastpath_enabled()
    np.testing.assert_allclose(got[0], want[0], **CLOSE)
    np.testing.assert_allclose(got[1, :3], want[1, :3], **CLOSE)
    assert [len(sequence.sides["input"]) for sequence in capture.trace.sequences] == [5, 3]
    assert [(each.stack, each.layer) for each in capture.trace.attentions] == [("encoder", n) for n in range(3)]


def test_a_decoder_over_a_memory() -> None:
    torch.manual_seed(0)
    model = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), 2).eval()
    target, memory = noise(2, 4, 16), noise(2, 7, 16, seed=2)
    mask = nn.Transformer.generate_square_subsequent_mask(4)
    want = model(target, memory, tgt_mask=mask)
    with qkv.capture(model) as capture:
        got = model(target, memory, tgt_mask=mask)
    np.testing.assert_allclose(got, want, **CLOSE)
    assert len(capture.trace.sequences) == 2
    found = [(each.stack, each.layer, each.queries, each.keys) for each in capture.trace.attentions]
    assert found == [("decoder", 0, 4, 4), ("cross", 0, 4, 7), ("decoder", 1, 4, 4), ("cross", 1, 4, 7)]
    assert capture.trace.attention(1, part="decoder").causal


class Own(nn.Module):
    """Somebody's own module around PyTorch's function."""

    def __init__(self, shape: tuple[int, ...] = (2, 4, 6, 8), key_heads: int = 4, **options: Any) -> None:
        super().__init__()
        self.options = options
        read = shape if len(shape) < 4 else (*shape[:-3], key_heads, *shape[-2:])
        self.inputs = noise(*shape, seed=0), noise(*read, seed=1), noise(*read, seed=2)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.inputs
        return F.scaled_dot_product_attention(query * x, key, value, **self.options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"scale": 0.7},
        {"attn_mask": torch.ones(6, 6, dtype=torch.bool).tril(1)},
        {"attn_mask": noise(6, 6)},
        {"attn_mask": noise(2, 1, 6, 6)},
        {"attn_mask": noise(4, 6, 6)},
        {"attn_mask": torch.ones(2, 1, 1, 6, dtype=torch.bool)},
        {"key_heads": 2, "enable_gqa": True, "is_causal": True},
        {"key_heads": 1},
        {"shape": (3, 6, 8)},
        {"shape": (3, 6, 8), "attn_mask": noise(3, 6, 6)},
        {"shape": (3, 6, 8), "attn_mask": noise(6, 6)},
        {"shape": (6, 8), "is_causal": True},
        {"shape": (2, 3, 4, 6, 8)},
        {"shape": (2, 3, 4, 6, 8), "attn_mask": noise(2, 3, 1, 6, 6)},
        {"shape": (2, 3, 4, 6, 8), "attn_mask": noise(2, 1, 4, 6, 6)},
    ],
    ids=lambda options: ", ".join(f"{n} {tuple(v.shape) if isinstance(v, Tensor) else v}" for n, v in options.items()),
)
def test_the_function_in_a_module_of_ones_own(options: dict[str, Any]) -> None:
    model, x = Own(**options), torch.ones(1)
    want = model(x)
    with qkv.capture(model) as capture:
        got = model(x)
    np.testing.assert_allclose(got, want, **CLOSE)
    found = np.stack([s.attentions[0].weights() @ _repeated(s.attentions[0].value, want) for s in capture.trace])
    np.testing.assert_allclose(found.reshape(want.shape), want, rtol=1e-4, atol=1e-5)
    assert capture.trace.attentions[0].causal == options.get("is_causal", False)


def test_one_key_for_a_whole_batch() -> None:
    model = Own()
    model.inputs = (model.inputs[0], model.inputs[1][:1], model.inputs[2][:1])
    want = model(torch.ones(1))
    with qkv.capture(model) as capture:
        got = model(torch.ones(1))
    np.testing.assert_allclose(got, want, **CLOSE)
    assert len(capture.trace.sequences) == 2


def _repeated(value: Any, want: Tensor) -> Any:
    heads = want.shape[-3] if want.ndim > 3 else 1
    return np.repeat(value, heads // len(value), axis=0)


class ByHand(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x @ x.transpose(-1, -2), -1) @ x


class TestRefused:
    def test_softmax_by_hand(self) -> None:
        with pytest.raises(CaptureError, match=r"no attention was seen in ByHand.*writes softmax"), _captured(ByHand()):
            ByHand()(noise(1, 3, 4))

    def test_a_model_that_was_not_called(self) -> None:
        with pytest.raises(CaptureError, match="model was not called inside"), _captured(mha()):
            pass

    def test_a_trace_that_is_asked_for_too_early(self) -> None:
        with pytest.raises(CaptureError, match="nothing has been captured: call the model inside"):
            _ = qkv.capture(mha()).trace

    def test_a_capture_that_is_entered_again(self) -> None:
        layer, x = mha(), noise(1, 3, 16)
        with qkv.capture(layer) as capture:
            layer(x, x, x)
        with pytest.raises(CaptureError, match="was used before"), capture:
            pass

    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    def test_torchscript(self) -> None:
        scripted = torch.jit.trace(nn.Linear(4, 4), torch.ones(1, 4))
        with pytest.raises(CaptureError, match="TorchScript modules run outside Python"):
            qkv.capture(nn.Sequential(scripted))

    def test_compiled(self) -> None:
        with pytest.raises(CaptureError, match=r"what torch.compile made cannot be captured; use the original model"):
            qkv.capture(torch.compile(mha(), backend="eager"))  # type: ignore[arg-type]

    def test_dropout(self) -> None:
        layer, x = mha(dropout=0.5).train(), noise(1, 3, 16)
        with pytest.raises(CaptureError, match=r"call model.eval\(\) first"), _captured(layer):
            layer(x, x, x)

    def test_another_thread(self) -> None:
        layer, x, errors = mha(), noise(1, 3, 16), []

        def run() -> None:
            try:
                layer(x, x, x)
            except CaptureError as error:
                errors.append(error)

        with qkv.capture(layer) as capture:
            layer(x, x, x)
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        assert "in another thread than the one that entered qkv.capture" in str(errors[0])
        assert len(capture.trace.sequences) == 1


def _captured(model: nn.Module) -> Any:
    return qkv.capture(model)


class Fails(nn.Module):
    """Reads a text in two layers, and fails between them when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = mha(), mha()

    def forward(self, x: Tensor, fail: bool = False) -> Tensor:
        x = self.first(x, x, x)[0]
        if fail:
            raise RuntimeError("out of memory")
        read: Tensor = self.second(x, x, x)[0]
        return read


class TestFailure:
    def test_what_was_complete_stays(self) -> None:
        model, x = Fails().eval(), noise(1, 5, 16)
        capture = qkv.capture(model)
        with pytest.raises(RuntimeError, match="out of memory"):
            self.run(capture, model, x)
        trace = capture.trace
        assert [len(sequence.attentions) for sequence in trace.sequences] == [2, 1]
        assert trace.sequences[1].attentions[0].weights().shape == (4, 5, 5)

    def run(self, capture: Any, model: Any, x: Tensor) -> None:
        with capture:
            model(x)
            model(x, fail=True)

    def test_a_trace_on_disk_says_that_it_was_cut_off(self, tmp_path: Any) -> None:
        model, x = Fails().eval(), noise(1, 5, 16)
        with pytest.raises(RuntimeError, match="out of memory"):
            self.run(qkv.capture(model, to=tmp_path / "cut.qkv"), model, x)
        trace = qkv.open_trace(tmp_path / "cut.qkv")
        assert not trace.complete
        assert len(trace.attentions) == 2

    def test_one_goes_on_after_a_failure(self) -> None:
        model, x = Fails().eval(), noise(1, 5, 16)
        with qkv.capture(model) as capture:
            with pytest.raises(RuntimeError, match="out of memory"):
                model(x, fail=True)
            want = model(x)
        assert len(capture.trace.sequences[-1].attentions) == 2
        np.testing.assert_allclose(model(x), want, **CLOSE)

    def test_nothing_stays_on_the_model(self) -> None:
        model, x = Fails().eval(), noise(1, 5, 16)
        functions = F.scaled_dot_product_attention, F.multi_head_attention_forward
        with pytest.raises(RuntimeError, match="out of memory"):
            self.run(qkv.capture(model), model, x)
        for module in model.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
            assert not module._forward_hooks_always_called
            assert not module._forward_pre_hooks_with_kwargs
            assert "forward" not in vars(module)
        assert torch.backends.mha.get_fastpath_enabled()
        assert functions == (F.scaled_dot_product_attention, F.multi_head_attention_forward)


def test_attention_of_other_models_is_left_alone() -> None:
    captured, other, x = mha(), mha(), noise(1, 3, 16)
    with qkv.capture(captured) as capture:
        other(x, x, x)
        captured(x, x, x)
        other(x, x, x)
    assert len(capture.trace.sequences) == 1


def test_gradients() -> None:
    layer = mha()
    grads = []
    with torch.enable_grad():
        for captured in (False, True):
            x = noise(2, 5, 16).requires_grad_()
            if captured:
                with qkv.capture(layer):
                    layer(x, x, x, key_padding_mask=padding(2, 5), need_weights=False)[0].square().sum().backward()
            else:
                layer(x, x, x, key_padding_mask=padding(2, 5))[0].square().sum().backward()
            grads.append(x.grad)
    np.testing.assert_allclose(grads[1], grads[0], rtol=1e-4, atol=1e-5)
