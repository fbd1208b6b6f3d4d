"""Layers: equal to PyTorch's with their state dicts, blind to padding and to the future, the same step by step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import qkv
from qkv.errors import ArgumentError
from qkv.nn import (
    AdditiveAttention,
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderLayer,
    FeedForward,
    KeyValueCache,
    LearnedPositions,
    MultiHeadAttention,
    Residual,
    RMSNorm,
    Rotary,
    SinusoidalPositions,
    T5Positions,
    Transformer,
)

DIM, HEADS, HIDDEN = 24, 3, 40
LENGTHS = [7, 4, 1]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def double(module: nn.Module) -> nn.Module:
    """The module in float64, with parameters that are not zeros and ones, without dropout."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double().eval()


def padding(lengths: list[int]) -> Tensor:
    """PyTorch's mask: True is padding."""
    return torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]


def future(length: int) -> Tensor:
    return torch.triu(torch.ones(length, length, dtype=torch.bool), 1)


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("source_dim", [None, 10])
def test_multi_head_attention_loads_pytorchs(source_dim: int | None) -> None:
    theirs = double(nn.MultiheadAttention(DIM, HEADS, kdim=source_dim, vdim=source_dim, batch_first=True))
    ours = double(MultiHeadAttention(DIM, HEADS, source_dim=source_dim))
    ours.load_state_dict(theirs.state_dict())
    x, source = random(3, 5, DIM), random(3, 7, source_dim or DIM)
    expected, weights = theirs(x, source, source, key_padding_mask=padding(LENGTHS), average_attn_weights=False)
    mask = qkv.Padding(LENGTHS)
    assert_close(ours(x, source, mask=mask), expected)
    assert_close(ours.weights(x, source, mask=mask), weights)


def test_observing_changes_no_bit() -> None:
    attention, x = MultiHeadAttention(DIM, HEADS).eval(), torch.randn(2, 9, DIM)
    output, seen = attention.observe(x, mask=qkv.Causal(), entropy=True, top_k=2)
    assert torch.equal(output, attention(x, mask=qkv.Causal()))
    assert seen.entropy.shape == (2, HEADS, 9)


def test_weights_are_selected_as_qkv_weights_selects() -> None:
    attention, x = double(MultiHeadAttention(DIM, HEADS)), random(2, 5, DIM)
    whole = attention.weights(x, mask=qkv.Causal())
    assert whole.shape == (2, HEADS, 5, 5)
    last = attention.weights(x, rows=-1, columns=slice(1, 4), mask=qkv.Causal())
    assert_close(last, whole[:, :, -1, 1:4])
    assert_close(
        attention.weights(x, rows=[0, 3], columns=torch.tensor([2]), mask=qkv.Causal()), whole[:, :, [0, 3], 2:3]
    )


@torch.no_grad()
def test_weights_of_a_step_come_from_its_projections() -> None:
    attention, x, cache = double(MultiHeadAttention(DIM, HEADS)), random(2, 5, DIM), KeyValueCache()
    attention.project(x[:, :4], cache=cache)
    query, key, _ = attention.project(x[:, 4:], cache=cache)
    assert_close(qkv.weights(query, key)[:, :, 0], attention.weights(x, rows=-1))


def test_the_layers_that_others_define_are_at_hand() -> None:
    assert qkv.nn.LayerNorm is nn.LayerNorm
    assert qkv.nn.ALiBi is qkv.ALiBi


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_loads_pytorchs(norm_first: bool, activation: str) -> None:
    options = {"dim_feedforward": HIDDEN, "activation": activation, "norm_first": norm_first, "batch_first": True}
    layer = nn.TransformerEncoderLayer(DIM, HEADS, **options)
    norm = nn.LayerNorm(DIM) if norm_first else None
    theirs = double(nn.TransformerEncoder(layer, 2, norm=norm, enable_nested_tensor=False))
    place = "before" if norm_first else "after"
    ours = double(Encoder(2, DIM, HEADS, HIDDEN, activation=activation, norm_place=place))
    ours.load_state_dict(theirs.state_dict())
    x = random(3, 7, DIM)
    found = ours(x, mask=qkv.Padding(LENGTHS))
    expected = theirs(x, src_key_padding_mask=padding(LENGTHS))
    for row, length in enumerate(LENGTHS):
        assert_close(found[row, :length], expected[row, :length])


@pytest.mark.parametrize("norm_first", [False, True])
def test_decoder_loads_pytorchs(norm_first: bool) -> None:
    layer = nn.TransformerDecoderLayer(DIM, HEADS, HIDDEN, norm_first=norm_first, batch_first=True)
    theirs = double(nn.TransformerDecoder(layer, 2, norm=nn.LayerNorm(DIM) if norm_first else None))
    ours = double(Decoder(2, DIM, HEADS, HIDDEN, norm_place="before" if norm_first else "after"))
    ours.load_state_dict(theirs.state_dict())
    x, source = random(3, 5, DIM), random(3, 7, DIM)
    expected = theirs(x, source, tgt_mask=future(5), memory_key_padding_mask=padding(LENGTHS))
    assert_close(ours(x, source, source_mask=qkv.Padding(LENGTHS)), expected)


def test_transformer_loads_pytorchs() -> None:
    theirs = double(nn.Transformer(DIM, HEADS, 2, 2, HIDDEN, batch_first=True))
    ours = double(Transformer(DIM, HEADS, HIDDEN, encoder_layers=2, decoder_layers=2, final_norm=True))
    ours.load_state_dict(theirs.state_dict())
    source, target = random(3, 7, DIM), random(3, 5, DIM)
    assert_close(ours(source, target), theirs(source, target, tgt_mask=future(5)))


@pytest.mark.parametrize("make", [Encoder, Decoder], ids=["encoder", "decoder"])
def test_padding_changes_nothing(make: Callable[..., nn.Module]) -> None:
    model = make(2, DIM, HEADS, HIDDEN, **({"cross": False} if make is Decoder else {})).eval()
    x = torch.randn(3, 7, DIM)
    other = torch.where(padding(LENGTHS)[..., None], torch.randn(3, 7, DIM) * 100, x)
    found, changed = (model(each, mask=qkv.Padding(LENGTHS)) for each in (x, other))
    for row, length in enumerate(LENGTHS):
        assert torch.equal(found[row, :length], changed[row, :length])


def test_what_may_read_nothing_is_finite() -> None:
    attention = double(MultiHeadAttention(DIM, HEADS, bias=False))
    output = attention(random(2, 4, DIM), mask=qkv.Padding([4, 0]))
    assert torch.equal(output[1], torch.zeros_like(output[1]))


def test_decoder_does_not_see_the_future() -> None:
    model = Decoder(2, DIM, HEADS, HIDDEN).eval()
    x, source = torch.randn(1, 9, DIM), torch.randn(1, 4, DIM)
    other = torch.cat([x[:, :5], torch.randn(1, 4, DIM)], 1)
    assert torch.equal(model(x, source)[:, :5], model(other, source)[:, :5])


@pytest.mark.parametrize("rotary", [None, Rotary(DIM // HEADS)], ids=["plain", "rotary"])
@pytest.mark.parametrize("key_heads", [HEADS, 1])
def test_step_by_step_is_the_same(rotary: Rotary | None, key_heads: int) -> None:
    model = double(Decoder(2, DIM, HEADS, HIDDEN, key_heads=key_heads, rotary=rotary))
    x, source = random(2, 6, DIM), random(2, 4, DIM)
    mask = qkv.Padding([4, 2])
    cache = model.new_cache()
    steps = [model(x[:, :2], source, source_mask=mask, cache=cache)]
    steps += [model(x[:, i : i + 1], source_mask=mask, cache=cache) for i in range(2, 6)]
    assert_close(torch.cat(steps, 1), model(x, source, source_mask=mask))


def test_cache_reordered_goes_on_with_those_rows() -> None:
    model = double(Decoder(1, DIM, HEADS, HIDDEN))
    x, source = random(2, 4, DIM), random(2, 3, DIM)
    cache = model.new_cache()
    model(x[:, :3], source, cache=cache)
    for layer in cache:
        layer.reorder(torch.tensor([1, 1]))
    step = model(x[:, 3:], cache=cache)
    both = torch.cat([x[[1, 1], :3], x[:, 3:]], 1)
    assert_close(step, model(both, source[[1, 1]])[:, 3:])


def test_decoder_that_needs_a_source_says_so() -> None:
    with pytest.raises(ArgumentError, match="source: expected what the decoder reads, got None"):
        Decoder(1, DIM, HEADS)(torch.randn(1, 2, DIM))


def test_rotary_depends_on_the_distance_alone() -> None:
    rotary, query, key = Rotary(8).double(), random(1, 1, 8), random(1, 1, 8)
    products = [(rotary(query, torch.tensor([p])) * rotary(key, torch.tensor([p - 3]))).sum() for p in (3, 10, 500)]
    torch.testing.assert_close(products[0], products[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(products[0], products[2], rtol=1e-4, atol=1e-4)


def test_rotary_is_llamas() -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    config = LlamaConfig(hidden_size=32, num_attention_heads=2, num_key_value_heads=2)
    query, positions = torch.randn(1, 2, 6, 16), torch.arange(6)
    cos, sin = LlamaRotaryEmbedding(config)(query, positions[None])
    expected, _ = apply_rotary_pos_emb(query, query, cos, sin)
    torch.testing.assert_close(Rotary(16)(query, positions), expected)


def test_rms_norm_is_pytorchs() -> None:
    x = random(3, DIM)
    torch.testing.assert_close(RMSNorm(DIM).double()(x), nn.functional.rms_norm(x, (DIM,), eps=1e-6))


def test_t5_positions_are_hugging_faces() -> None:
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    config = T5Config(d_model=16, d_kv=4, num_heads=2, relative_attention_num_buckets=8)
    theirs = T5Attention(config, has_relative_attention_bias=True)
    ours = T5Positions(2, 8)
    ours.load_state_dict(theirs.relative_attention_bias.state_dict())
    expected = theirs.compute_bias(20, 20)[0].detach().double()
    torch.testing.assert_close(torch.tensor(ours().matrix(20, heads=2)), expected)


def test_sinusoids_grow() -> None:
    short, long = SinusoidalPositions(6, length=4), SinusoidalPositions(6, length=64)
    x = torch.zeros(1, 30, 6)
    assert torch.equal(short(x), long(x))
    assert torch.equal(short(x[:, :2], first=9), long(x)[:, 9:11])


def test_learned_positions_end() -> None:
    with pytest.raises(ArgumentError, match="x: expected at most 4 positions, got 5"):
        LearnedPositions(6, length=4)(torch.zeros(1, 5, 6))


def test_additive_attention_masks() -> None:
    attention = AdditiveAttention(4, 4, 8)
    x = torch.randn(1, 3, 4)
    _, weights = attention(x, x, x, mask=qkv.Causal())
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 3))
    assert torch.equal(weights[0].triu(1), torch.zeros(3, 3))
    output, nothing = attention(x, x, x, mask=torch.zeros(3, 3, dtype=torch.bool))
    assert not output.any()
    assert not nothing.any()


@pytest.mark.parametrize("mask", [qkv.Padding([3, 1]), qkv.Documents([[0, 0, 1], [0, 1, 1]]), ~qkv.ExceptSelf()])
def test_additive_attention_masks_each_text_by_itself(mask: qkv.Mask) -> None:
    attention, x = AdditiveAttention(4, 4, 8).double(), random(2, 3, 4)
    output, weights = attention(x, x, x, mask=mask)
    dense = torch.from_numpy(mask.matrix(3, batch=(2,)).copy()).expand(2, 1, 3, 3)[:, 0]
    assert not weights[~dense].any()
    for row, allowed in enumerate(dense):
        for query, keys in enumerate(allowed):
            alone, _ = attention(x[[row], query : query + 1], x[[row]][:, keys], x[[row]][:, keys])
            assert_close(output[row, query], alone[0, 0])


def test_additive_attention_masks_where_its_scores_are() -> None:
    attention, x = AdditiveAttention(4, 4, 8).to("meta"), torch.randn(2, 3, 4, device="meta")
    output, _ = attention(x, x, x, mask=qkv.Padding([3, 1]))
    assert output.device.type == "meta"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiHeadAttention(10, 3), "heads: expected a number that divides dim 10, got 3"),
        (lambda: MultiHeadAttention(12, 4, key_heads=3), "key_heads: expected a number that divides heads 4, got 3"),
        (lambda: FeedForward(8, activation="tanh"), "activation: expected"),
        (lambda: Residual(8, place="between"), r'^place \(norm_place of a layer\): expected "before" or "after", got'),
        (lambda: Encoder(1, 8, 2, norm_place="between"), "norm_place of a layer.*, got 'between'"),
        (lambda: EncoderLayer(8, 2, norm="batch"), 'norm: expected "layer" or "rms"'),
        (lambda: Rotary(3), "head_dim: expected an even number, got 3"),
    ],
)
def test_bad_sizes_are_named(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize("layer", [EncoderLayer(DIM, HEADS), DecoderLayer(DIM, HEADS, cross=False)])
def test_gradients_reach_every_parameter(layer: nn.Module) -> None:
    layer(torch.randn(2, 5, DIM)).square().sum().backward()
    assert all(
        p.grad is not None and bool(p.grad.any()) for name, p in layer.named_parameters() if "key.bias" not in name
    )


def test_dropout_is_of_training_alone() -> None:
    layer, x = EncoderLayer(DIM, HEADS, dropout=0.5), torch.randn(2, 5, DIM)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
