"""Masks between transformers and the kernel: the runs that a rule comes to, and the tensor that carries them."""

from __future__ import annotations

import gc
import inspect
from typing import Any

import numpy as np
import pytest
import torch
from transformers import masking_utils as rules

import qkv
from qkv.adapters import _lowering
from qkv.adapters._lowering import lowered
from qkv.adapters._masks import runs_mask
from qkv.adapters._runs import Runs, RunsTensor

NEW = "q_length" in inspect.signature(rules.sdpa_mask).parameters


def asked(queries: int, keys: int, before: int = 0, first_key: int = 0, **options: Any) -> dict[str, Any]:
    """The arguments of a mask function, as the installed transformers gives them."""
    given = {"batch_size": 2, "kv_length": keys, "kv_offset": first_key, "mask_function": rules.causal_mask_function}
    if NEW:
        given |= {"q_length": queries, "q_offset": before, "device": "cpu"}
    else:
        given |= {"cache_position": torch.arange(before, before + queries)}
    return {**given, **options}


def dense(options: dict[str, Any]) -> torch.Tensor:
    """What transformers makes of the same."""
    made = rules.sdpa_mask(**{**options, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})
    return made.expand(2, 1, -1, -1)


PADDING = torch.tensor([[1] * 9, [0, 0, 1, 1, 1, 1, 1, 1, 1]], dtype=torch.bool)
RIGHT = PADDING.flip(1)
TEXTS = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2]]).expand(2, -1)
RULES: dict[str, dict[str, Any]] = {
    "causal": asked(9, 9),
    "causal, padded left": asked(9, 9, attention_mask=PADDING),
    "causal, padded right": asked(9, 9, attention_mask=RIGHT),
    "window": asked(9, 9, mask_function=rules.sliding_window_causal_mask_function(4), local_size=4),
    "window, padded": asked(
        9, 9, mask_function=rules.sliding_window_causal_mask_function(4), local_size=4, attention_mask=PADDING
    ),
    "window in a cache": asked(
        2, 5, before=7, first_key=4, mask_function=rules.sliding_window_causal_mask_function(4), attention_mask=PADDING
    ),
    "chunks": asked(
        9, 9, mask_function=rules.chunked_causal_mask_function(3, torch.zeros(2, dtype=torch.int64)), local_size=3
    ),
    "chunks, padded": asked(
        9,
        9,
        mask_function=rules.chunked_causal_mask_function(3, torch.tensor([0, 2])),
        local_size=3,
        attention_mask=PADDING,
    ),
    "packed": asked(
        9, 9, mask_function=rules.and_masks(rules.causal_mask_function, rules.packed_sequence_mask_function(TEXTS))
    ),
    "continued": asked(3, 9, before=6, attention_mask=PADDING),
    "static cache": asked(3, 12, before=6, attention_mask=PADDING),
    "one token": asked(1, 9, before=8, attention_mask=PADDING),
}
if NEW:
    RULES["everything"] = asked(9, 9, mask_function=rules.bidirectional_mask_function, attention_mask=RIGHT)
    RULES["window on both sides"] = asked(9, 9, mask_function=rules.sliding_window_bidirectional_mask_function(2))
    COUNTED = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 0, 1]]).expand(2, -1)
    for kind, rule in {
        "causal": rules.causal_mask_function,
        "window": rules.sliding_window_causal_mask_function(2),
        "chunks": rules.chunked_causal_mask_function(2, torch.tensor([0, 1])),
    }.items():
        packed = rules.packed_sequence_compatibility_function(rule, COUNTED, TEXTS)
        RULES[f"packed, {kind}"] = asked(9, 9, mask_function=packed)


def check_rule(name: str, options: dict[str, Any]) -> None:
    want = dense(RULES[name])
    mask = runs_mask(**options, allow_is_causal_skip=False)
    assert isinstance(mask, RunsTensor)
    assert mask.runs is not None
    assert mask.shape == want.shape
    assert torch.equal(torch.from_numpy(mask.runs.dense(mask.shape[3]))[:, None].expand(mask.shape), want)


@pytest.mark.parametrize("name", RULES)
def test_runs_are_the_mask_that_transformers_would_make(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no pair of positions is asked about."""
    monkeypatch.setattr("qkv.adapters._masks._found", None)
    check_rule(name, RULES[name])


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("pairs", [1, 20, 1 << 22])
def test_a_rule_of_the_models_own_is_asked(name: str, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qkv.adapters._masks.ASKED", pairs)
    rule = RULES[name]["mask_function"]
    check_rule(name, {**RULES[name], "mask_function": lambda *indices: rule(*indices)})


def test_texts_that_come_back_are_no_runs() -> None:
    rule = rules.packed_sequence_mask_function(torch.tensor([[0, 1, 0, 1]]).expand(2, -1))
    options = asked(4, 4, mask_function=rule)
    mask = runs_mask(**options, allow_is_causal_skip=False)
    assert not isinstance(mask, RunsTensor)
    assert torch.equal(mask, dense(options))


def test_what_leaves_gaps_stays_booleans() -> None:
    holes = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1]], dtype=torch.bool)
    options = asked(4, 4, attention_mask=holes)
    mask = runs_mask(**options)
    assert not isinstance(mask, RunsTensor)
    assert torch.equal(mask, dense(options))


@pytest.mark.parametrize(
    "options",
    [asked(9, 9), asked(9, 9, attention_mask=torch.ones(2, 9, dtype=torch.bool)), asked(1, 9, before=8), asked(1, 1)],
)
def test_nothing_is_said_where_the_module_says_it(options: dict[str, Any]) -> None:
    assert runs_mask(**options) is None
    assert runs_mask(**options, allow_is_causal_skip=False) is not None


@pytest.mark.parametrize("options", [asked(2, 9, before=7), asked(9, 9, attention_mask=PADDING)])
def test_what_the_module_cannot_say_is_said(options: dict[str, Any]) -> None:
    assert runs_mask(**options) is not None


@pytest.mark.parametrize("rule", [rules.causal_mask_function, rules.sliding_window_causal_mask_function(4096)])
def test_a_long_mask_takes_no_memory(rule: Any) -> None:
    mask = runs_mask(**asked(200_000, 200_000, mask_function=rule), allow_is_causal_skip=False)
    assert isinstance(mask, RunsTensor)
    assert mask.shape == (2, 1, 200_000, 200_000)


class TestRunsTensor:
    def mask(self) -> RunsTensor:
        return RunsTensor(Runs.causal(3, 4), 2, 4)

    def test_is_booleans_for_those_who_do_not_know_it(self) -> None:
        want = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=torch.bool).expand(2, 1, 3, 4)
        assert torch.equal(self.mask().clone(), want)
        assert torch.equal(self.mask()[:, :, :, :2], want[..., :2])
        assert torch.equal(~self.mask(), ~want)
        assert torch.equal(torch.where(self.mask(), 0.0, 1.0), torch.where(want, 0.0, 1.0))
        assert repr(self.mask()) == "RunsTensor(shape=(2, 1, 3, 4), device=cpu)"

    def test_keeps_its_runs_where_nobody_looks(self) -> None:
        mask = self.mask()
        assert mask.detach().runs is not None
        assert mask.dtype == torch.bool
        assert mask.ndim == 4
        assert lowered(mask).runs is mask.runs

    def test_a_change_counts(self) -> None:
        mask = self.mask()
        mask[:, :, 2] = False
        mask[:, :, 0, :2].fill_(True)
        assert mask.runs is None
        found = lowered(mask).runs
        assert found is not None
        assert found.of(1)[1].tolist() == [2, 2, 0]


class TestLowering:
    def test_booleans_become_runs(self) -> None:
        found = lowered(torch.ones(2, 1, 4, 4, dtype=torch.bool).tril())
        assert found.allowed is None
        assert found.bias is None
        assert found.runs is not None
        assert found.runs.is_causal(4)

    def test_padding_over_all_queries_is_one_row(self) -> None:
        found = lowered(PADDING[:, None, None])
        assert found.runs is not None
        wide = found.runs.for_queries(5)
        assert wide.start.shape == (2, 5)
        assert wide.of(1)[0].tolist() == [2] * 5

    @pytest.mark.parametrize("lowest", [torch.finfo(torch.float32).min, -torch.inf, -1e9, -65504.0])
    def test_additive_masks(self, lowest: float) -> None:
        mask = torch.zeros(1, 1, 3, 3).masked_fill(~torch.ones(3, 3, dtype=torch.bool).tril(), lowest)
        found = lowered(mask)
        assert found.bias is None
        assert found.runs is not None
        assert found.runs.is_causal(3)
        mask[0, 0, 2, 1] = 0.5
        found = lowered(mask)
        assert found.bias is not None
        assert found.bias[0, 0].tolist() == [[0, 0, 0], [0, 0, 0], [0, 0.5, 0]]

    def test_heads_of_their_own(self) -> None:
        allowed = torch.tensor([True, False]).expand(2, 2).reshape(1, 2, 1, 2)
        found = lowered(allowed)
        assert found.runs is None
        assert found.allowed is allowed

    def test_everything_is_nothing(self) -> None:
        for mask in (None, torch.zeros(1, 1, 3, 3), torch.ones(3, 3, dtype=torch.int64)):
            found = lowered(mask)
            assert (found.runs, found.allowed, found.bias) == (None, None, None)

    def test_is_remembered_while_the_mask_lives_and_is_what_it_was(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []
        plain = _lowering._lower
        monkeypatch.setattr(_lowering, "_lower", lambda mask: calls.append(1) or plain(mask))
        mask = torch.rand(1, 2, 5, 5) > 0.5
        assert lowered(mask).allowed is mask
        assert lowered(mask).allowed is mask
        assert len(calls) == 1
        mask.fill_(True)
        assert lowered(mask).allowed is None
        assert len(calls) == 2

    def test_no_mask_is_kept_alive(self) -> None:
        mask = torch.rand(1, 2, 5, 5) > 0.5
        lowered(mask)
        del mask
        gc.collect()
        assert all(known() is None or known().shape != (1, 2, 5, 5) for known, *_ in _lowering._remembered)


def test_runs_are_a_mask_of_qkv() -> None:
    runs = Runs(np.array([[0, 1, 2]]), np.array([[1, 1, 9]]))
    want = [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]]
    assert runs.matrix(3, 4).astype(int).tolist() == want
    assert (runs & qkv.Causal()).matrix(3, 4).astype(int).tolist() == want
    x = np.eye(4)
    weights = qkv.weights(x[:3], x, mask=runs)
    assert (weights > 0).astype(int).tolist() == want
    assert Runs.found_in(np.array([[[True, False, True]]])) is None
