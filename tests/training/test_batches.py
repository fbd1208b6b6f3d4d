"""Updates by tokens or sentences: every sentence once a pass, within the budget, whatever the number of processes."""

from __future__ import annotations

import itertools
import platform
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from qkv.training import _batches
from qkv.training._batches import Batches
from qkv.training._collate import IGNORED, Collate
from qkv.training._encoded import NOTHING
from qkv.training._loss import SmoothedLoss
from qkv.training._memory import keep_freed_memory

LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=60).map(np.array)


BY = st.sampled_from(["tokens", "sentences"])


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, tokens=st.integers(1, 200), by=BY, pool=st.integers(1, 3), seed=st.integers(0, 9))
def test_each_pass_has_every_sentence_once(lengths: np.ndarray, tokens: int, by: str, pool: int, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_batches, "POOL", pool)
        batches = Batches(lengths, tokens, 3 * len(lengths), by=by, seed=seed)
        updates = iter(batches)
        for _ in range(3):
            rows: list[int] = []
            while len(rows) < len(lengths):
                update = next(updates)
                rows += update
                if by == "tokens":
                    assert len(update) == 1 or len(update) * lengths[update].max() <= tokens
                else:
                    assert 1 <= len(update) <= batches.sentences
            assert sorted(rows) == list(range(len(lengths)))
        assert sorted(itertools.chain(*batches.one_pass())) == list(range(len(lengths)))


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, tokens=st.integers(1, 200), by=BY, accumulate=st.integers(1, 3), processes=st.integers(1, 3))
def test_shares_make_up_the_same_updates(
    lengths: np.ndarray, tokens: int, by: str, accumulate: int, processes: int
) -> None:
    whole = list(Batches(lengths, tokens, 7, by=by, seed=3))
    kinds = {"by": by, "seed": 3, "accumulate": accumulate, "processes": processes}
    shares = [list(Batches(lengths, tokens, 7, process=process, **kinds)) for process in range(processes)]
    assert all(len(share) == 7 * accumulate for share in shares)
    for number, update in enumerate(whole):
        parts = [share[number * accumulate : (number + 1) * accumulate] for share in shares]
        rows = [row for row in itertools.chain(*itertools.chain(*parts)) if row != NOTHING]
        assert sorted(rows) == sorted(update)
        assert all(part for part in itertools.chain(*parts))


def drawn(rows: int) -> np.ndarray:
    """Many short sentences and a few long ones; the target is a fifth longer."""
    source = 3 + np.random.default_rng(0).geometric(0.08, rows).clip(max=100)
    return np.stack([source, (source * 1.2).astype(int)], axis=1)


@pytest.mark.parametrize("by", ["tokens", "sentences"])
def test_the_seed_and_the_pass_decide_the_order(by: str) -> None:
    lengths = drawn(500)
    one, other = (list(Batches(lengths, 300, 200, by=by, seed=seed)) for seed in (0, 1))
    assert one == list(Batches(lengths, 300, 200, by=by, seed=0))
    assert one != other
    a_pass = len(list(Batches(lengths, 300, 1, by=by, seed=0).one_pass()))
    assert one[:a_pass] != one[a_pass : 2 * a_pass]


def test_little_is_padding_and_nearly_all_updates_are_full() -> None:
    lengths = drawn(40_000)
    batches = Batches(lengths, 2000, 1, seed=0)
    updates = list(batches.one_pass())
    full = sum(len(update) * lengths[update].max() for update in updates)
    assert lengths.max(1).sum() > 0.95 * full
    assert full > 0.95 * 2000 * len(updates)
    assert len(updates) == pytest.approx(batches.updates_a_pass, rel=0.05)


def test_updates_by_sentences_are_as_many_and_alike() -> None:
    lengths = drawn(40_000)
    batches = Batches(lengths, 2000, 1, by="sentences", seed=0)
    updates = list(batches.one_pass())
    assert sorted(map(len, updates))[1:] == [batches.sentences] * (len(updates) - 1)
    assert len(updates) == pytest.approx(batches.updates_a_pass, rel=0.01)
    full = sum(len(update) * lengths[update].max() for update in updates)
    assert lengths.max(1).sum() > 0.9 * full


def test_sentences_of_one_length_come_in_company_of_others() -> None:
    """Sorted all at once, those of one length would fill updates of their own."""
    lengths = drawn(40_000)
    updates = list(Batches(lengths, 2000, 1, seed=0).one_pass())
    alone = sum(len(set(lengths[update].max(1))) == 1 for update in updates)
    assert alone < 0.5 * len(updates)


def test_collate_moves_labels_right_and_pads() -> None:
    rows = [(np.array([7, 8, 3]), np.array([5, 3])), (np.array([9, 3]), np.array([4, 6, 6, 3]))]
    batch = Collate(pad=0, start=2)(rows)
    assert batch["input_ids"].tolist() == [[7, 8, 3], [9, 3, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[5, 3, IGNORED, IGNORED], [4, 6, 6, 3]]
    assert batch["decoder_input_ids"].tolist() == [[2, 5, 3, 0], [2, 4, 6, 6]]
    assert batch["decoder_attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_a_share_without_sentences_counts_nothing() -> None:
    batch = Collate(pad=0, start=2)([(np.empty(0, np.int64), np.empty(0, np.int64))])
    assert batch["attention_mask"].tolist() == [[1]]
    logits = torch.randn(1, 1, 9, requires_grad=True)
    loss = SmoothedLoss(0.1)(type("Output", (), {"logits": logits}), batch["labels"], 12)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_and_its_gradient_are_pytorchs(smoothing: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(3, 50, 70, dtype=torch.float64), torch.randint(0, 70, (3, 50))
    labels[2, 7:] = IGNORED
    ours, theirs = logits.to(dtype).requires_grad_(), logits.to(dtype).double().requires_grad_()
    loss = SmoothedLoss(smoothing)(type("Output", (), {"logits": ours}), labels, 9)
    expected = cross_entropy(
        theirs.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"
    )
    (2 * loss).backward()
    (2 * expected / 9).backward()
    within = 1e-12 if dtype == torch.float64 else 2**-7  # rounded twice
    torch.testing.assert_close(loss.double(), expected / 9, rtol=min(within, 1e-6), atol=0)
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=within, atol=within / 1000)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_its_formula(smoothing: float) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 11, dtype=torch.float64), torch.randint(0, 11, (2, 5))
    labels[1, 3:] = IGNORED
    log_p = logits.log_softmax(-1)
    expected = 0.0
    for row, column in itertools.product(range(2), range(5)):
        if labels[row, column] != IGNORED:
            true = log_p[row, column, labels[row, column]]
            expected -= (1 - smoothing) * true + smoothing * log_p[row, column].mean()
    output = type("Output", (), {"logits": logits})
    assert SmoothedLoss(smoothing)(output, labels).item() == pytest.approx(expected.item() / 8, rel=1e-6)
    assert SmoothedLoss(smoothing)(output, labels, 80).item() == pytest.approx(expected.item() / 80, rel=1e-6)


def test_glibc_keeps_freed_memory() -> None:
    assert keep_freed_memory() == (sys.platform == "linux" and platform.libc_ver()[0] == "glibc")
