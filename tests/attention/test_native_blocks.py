"""Blocks of which a mask allows all, some or nothing, and what is done to scores while they are in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import qkv

QUERIES, KEYS, HEADS, DIM = 70, 700, 2, 16
BLOCK = 128
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def arrays(dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(1, HEADS, n, DIM, generator=generator).to(dtype) for n in (QUERIES, KEYS, KEYS)]


def by_blocks() -> np.ndarray:
    """For each query some blocks of keys, the same for a few queries in a row; every query sees the last keys."""
    seen = np.random.default_rng(4).random((QUERIES, -(-KEYS // BLOCK))) < 0.4
    seen[32:64] = seen[32]
    seen[:, -1] = True
    return seen.repeat(BLOCK, 1)[:, :KEYS]


def terms(of: Callable[[np.ndarray], Any] = np.asarray) -> dict[str, dict[str, Any]]:
    """`of` makes the arrays of the framework at hand."""
    random = np.random.default_rng(5)
    bias = random.standard_normal((HEADS, QUERIES, KEYS), dtype=np.float32)
    bias[:, :, 150:160] = -np.inf
    some = random.random((1, QUERIES, KEYS)) < 0.3
    some[..., 0] = True

    def across(array: np.ndarray) -> Any:
        return of(np.ascontiguousarray(np.swapaxes(array, -1, -2))).swapaxes(-1, -2)

    return {
        "array": {"mask": of(some)},
        "array across": {"mask": across(some)},
        "blocks": {"mask": of(by_blocks())},
        "window": {"mask": qkv.Window(200, 0)},
        "bias": {"bias": of(bias)},
        "bias across": {"bias": across(bias)},
        "biases": {"bias": qkv.ALiBi(of(np.float32([0.5, 0.01]))) + of(bias) + of(bias[:, ::-1].copy())},
        "slopes": {"bias": qkv.ALiBi(of(np.float32([0.5, 0.01])))},
        "table": {"bias": qkv.RelativeBias(of(bias[:, 0, :65]))},
        "softcap": {"softcap": 2.0},
        "everything": {"mask": of(some), "bias": qkv.KeyBias(of(bias[0, 0])) + of(bias), "softcap": 5.0},
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", terms())
def test_in_registers_as_in_memory(name: str, dtype: torch.dtype) -> None:
    """Statistics take scores through memory, and give the same bits; both are what float64 gives."""
    query, key, value = arrays(dtype)
    given = terms(torch.from_numpy)[name]
    output = qkv.attend(query, key, value, **given)
    assert torch.equal(output, qkv.observe(query, key, value, **given, entropy=True, top_k=3).output)
    wide = [array.double().numpy() for array in (query, key, value)]
    exact = qkv.weights(*wide[:2], **terms()[name]) @ wide[2]
    step = {torch.float32: 2e-6, torch.float64: 2e-15, torch.bfloat16: 0.02}[dtype]
    np.testing.assert_allclose(output.double().numpy(), exact, rtol=0, atol=step * 4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mask_that_allows_everything_changes_no_bit(dtype: torch.dtype) -> None:
    query, key, value = arrays(dtype)
    everything = np.ones((QUERIES, KEYS), bool)
    assert torch.equal(qkv.attend(query, key, value, mask=torch.from_numpy(everything)), qkv.attend(query, key, value))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_block_that_only_neighbours_see_changes_no_bit(dtype: torch.dtype) -> None:
    """It is passed over where no query of a tile sees it, and gone through with weights of 0 where another does."""
    query, key, value = arrays(dtype)
    alone = np.broadcast_to(by_blocks()[40], (QUERIES, KEYS)).copy()
    company = alone.copy()
    company[41] = True
    key[..., ~torch.from_numpy(alone[40]), :], value[..., ~torch.from_numpy(alone[40]), :] = np.inf, np.nan
    masks = [torch.from_numpy(mask) for mask in (alone, company)]
    found, beside = (qkv.observe(query, key, value, mask=mask, entropy=True) for mask in masks)
    assert found.output.isfinite().all()
    assert torch.equal(found.output[:, :, 40], beside.output[:, :, 40])
    assert torch.equal(found.lse[:, :, 40], beside.lse[:, :, 40])
    plain = [qkv.attend(query, key, value, mask=mask)[:, :, 40] for mask in masks]
    assert torch.equal(*plain)


@pytest.mark.parametrize("dtype", DTYPES)
def test_received_of_keys_that_nobody_sees_is_zero(dtype: torch.dtype) -> None:
    """What is kept of every block until the end is written for those that a mask leaves nothing of, too."""
    query, key, value = arrays(dtype)
    mask = np.zeros((QUERIES, KEYS), bool)
    mask[:, 2 * BLOCK : 3 * BLOCK] = True
    found = qkv.observe(query, key, value, mask=torch.from_numpy(mask), received=True, block_map=32)
    received = found.received.numpy()
    assert not received[..., : 2 * BLOCK].any()
    assert not received[..., 3 * BLOCK :].any()
    np.testing.assert_allclose(received.sum(-1), QUERIES, rtol=1e-5)
    np.testing.assert_allclose(found.block_map.sum((-1, -2)), QUERIES, rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keys", [1, 31, 128])
def test_one_block_as_the_first_of_two(keys: int, dtype: torch.dtype) -> None:
    """Where all keys are one block, outputs are summed along the dimensions: in the same order, so to the same bits."""
    query, key, value = arrays(dtype)
    value[0, 0, 3, 5] = torch.inf
    value[0, 1, 0] = torch.nan
    mask = np.random.default_rng(6).random((QUERIES, keys)) < 0.6
    mask[7] = False
    alone = qkv.attend(query, key[..., :keys, :], value[..., :keys, :], mask=torch.from_numpy(mask))
    hidden = torch.from_numpy(np.pad(mask, ((0, 0), (0, BLOCK + 1 - keys))))
    among = qkv.attend(query, key[..., : BLOCK + 1, :], value[..., : BLOCK + 1, :], mask=hidden)
    torch.testing.assert_close(alone, among, rtol=0, atol=0, equal_nan=True)
