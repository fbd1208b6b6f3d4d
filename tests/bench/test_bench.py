"""The benchmark itself: rows that are well formed, results that are checked, and a page made of what was found."""

from __future__ import annotations

import os
import signal
import xml.etree.ElementTree as xml
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from qkv.attention._native import multiply_most
from qkv.bench import CASES, Case, Fact, Options, Result, agreement, clock, peers, run, runner, worker
from qkv.bench.agreement import Disagreement
from qkv.bench.cases import EVERYTHING, choose
from qkv.bench.figures import draw, memory_figure, time_figure
from qkv.bench.machine import Multiplying
from qkv.bench.problem import make
from qkv.bench.runner import linearity, scaling
from qkv.bench.table import BEGIN, END, check_document, duration, line, markdown, write_document
from qkv.cli._app import app
from qkv.errors import ArgumentError, KernelError

TINY = Case("tests", 70, 16, heads=4, key_heads=2, mask="causal", goal=2.0, peers=("eager",))


def found(case: Case, ours: float, theirs: float, threads: int = 1) -> Result:
    """A row with those seconds."""
    seconds = {"qkv": ours, **dict.fromkeys(case.judges, theirs)}
    return Result(case, threads, seconds, dict.fromkeys(case.judges, theirs / ours))


def test_rows_are_well_formed() -> None:
    ids = [f"{case.id} {dict(case.environment)} {case.judge}" for case in CASES]
    assert len(ids) == len(set(ids))
    for case in CASES:
        assert case.contenders[0] == "qkv"
        assert set(case.judges) <= set(case.contenders)
        assert case.heads % case.key_heads == 0
        assert hasattr(torch, case.dtype)
        assert set(case.observed) <= set(EVERYTHING)


def test_every_claim_has_its_row() -> None:
    groups = {case.group for case in CASES if case.goal is not None}
    assert groups == {
        *("forward", "masks", "short", "decoding", "training", "sentences"),
        *("observing", "observing by hand", "AVX2"),
    }
    together = [case for case in CASES if case.observed == EVERYTHING and case.judge == "plain"]
    assert [round(1 / case.goal, 2) for case in together if case.goal] == [1.15, 1.2]


def test_rows_are_chosen_by_a_piece_of_their_name() -> None:
    assert {case.dtype for case in choose("forward: bfloat16", quick=False)} == {"bfloat16"}
    assert {case.queries for case in choose("*N4096*causal", quick=False)} == {4096}
    quick = choose("", quick=True)
    assert max(max(case.queries, case.keys) for case in quick) <= 1024
    kept = [case for case in quick if case.group == "forward" and case.dtype == "float32" and case.dim == 64]
    assert [case.goal for case in kept] == [2.4, 2.6]


@pytest.mark.parametrize(
    "case",
    [
        TINY,
        replace(TINY, mask="array", score="bias"),
        replace(TINY, mask="full", score="alibi", dtype="bfloat16"),
        replace(TINY, mask="window", score="softcap", judge="plain"),
        replace(TINY, mask="documents", key_heads=4, dtype="float64"),
        replace(TINY, batch=2, key_heads=4, direction="both"),
        replace(TINY, key_heads=4, direction="backward", judge="best"),
        replace(TINY, queries=1, keys=300, mask="full"),
        replace(TINY, key_heads=4, observed=EVERYTHING, judge="eager"),
        replace(TINY, observed={"top_k": 8}, judge="plain", peers=()),
    ],
    ids=lambda case: case.name,
)
def test_a_row_is_measured_and_agrees(case: Case) -> None:
    result = clock.measure(case, 1, 0.001)
    assert set(result.seconds) | set(result.missing) == set(case.contenders)
    assert set(result.missing) <= {"sdpa"}, result.missing
    assert all(seconds > 0 for seconds in result.seconds.values())
    assert result.ratio is not None
    assert result.errors["qkv"] < 0.01
    assert Result.from_json(result.to_json()) == result


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_a_wrong_result_is_no_result(direction: str) -> None:
    problem = make(replace(TINY, key_heads=4, direction=direction))
    right = peers.prepare("sdpa", problem, 1)()
    wrong = right * 1.001 if direction == "forward" else [part * 1.001 for part in right]
    agreement.check(problem, right, {"sdpa": right})
    with pytest.raises(Disagreement, match=r"tests: float32 .*: our error is 1\.00e-03, PyTorch's .*e-0[78]"):
        agreement.check(problem, wrong, {"sdpa": right})


def test_a_wrong_statistic_is_no_result() -> None:
    problem = make(replace(TINY, key_heads=4, observed=EVERYTHING, judge="eager"))
    seen, by_hand = peers.prepare("qkv", problem, 1)(), peers.prepare("eager", problem, 1)()
    agreement.check(problem, seen, {"eager": by_hand})
    by_hand["received"] = by_hand["received"] + 0.01
    with pytest.raises(Disagreement, match="received differs"):
        agreement.check(problem, seen, {"eager": by_hand})


def test_a_library_that_computes_something_else_has_no_time() -> None:
    problem = make(TINY)
    right = peers.prepare("sdpa", problem, 1)()
    assert agreement.off(problem, "onnx", right.numpy(), 1e-7) is None
    assert agreement.off(problem, "onnx", right.numpy() * 1.01, 1e-7) == pytest.approx(0.01, rel=0.01)


def test_nan_does_not_agree() -> None:
    problem = make(TINY)
    right = peers.prepare("sdpa", problem, 1)()
    with pytest.raises(Disagreement):
        agreement.check(problem, right * float("nan"), {"sdpa": right})


def test_a_library_that_is_not_there_or_fails_is_a_dash_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = peers.prepare

    def some(name: str, *rest: Any) -> Any:
        if name == "jax":
            raise peers.Unavailable("not installed")
        if name == "onnx":
            raise ValueError("no such operator\nat line 3")
        return prepare(name, *rest)

    monkeypatch.setattr(clock, "prepare", some)
    result = clock.measure(replace(TINY, peers=("jax", "onnx")), 1, 0.001)
    assert result.missing == {"jax": "not installed", "onnx": "ValueError: no such operator"}
    page = markdown([result], [])
    assert "- –: JAX (float32): not installed." in page
    assert "- –: ONNX RT (float32): ValueError: no such operator." in page


def test_a_library_that_kills_the_process_costs_its_own_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a worker that dies where the eager attention would run."""

    def ask(child: Any, case: Case, skip: dict[str, str], threads: int) -> tuple[Result | None, str]:
        if "eager" not in skip:
            os.kill(child.pid, signal.SIGKILL)
            return None, "eager"
        return Result(case, threads, {"qkv": 1.0}, missing=dict(skip)), ""

    monkeypatch.setattr(runner, "_ask", ask)
    (result,) = runner._measured([TINY], 1, 0.001)
    assert result.missing == {"eager": "crashed"}

    monkeypatch.setattr(runner, "_ask", lambda child, *rest: (os.kill(child.pid, signal.SIGKILL), (None, ""))[1])
    (result,) = runner._measured([TINY], 1, 0.001)  # the rows before it are worth more
    assert "memory" in result.missing["qkv"]
    assert result.ratio is None

    monkeypatch.setattr(runner, "_ask", lambda child, *rest: (os.kill(child.pid, signal.SIGKILL), (None, "qkv"))[1])
    with pytest.raises(KernelError, match="the process that measured it died"):
        list(runner._measured([TINY], 1, 0.001))


def test_ratios_and_verdicts() -> None:
    assert found(TINY, 1.0, 2.5).met is True
    assert line(found(TINY, 0.002, 0.005)).endswith("2 ms   2.50×  met (2×)")
    assert line(found(TINY, 0.002, 0.003)).endswith("1.50×  not met (2×): 25% below")
    extra = replace(TINY, observed={"entropy": True}, judge="plain", goal=1 / 1.08)
    assert line(found(extra, 1.05, 1.0)).endswith("+5%  met (+8%)")
    assert line(found(extra, 1.2, 1.0)).endswith("+20%  not met (+8%): 12 points above")
    best = replace(TINY, judge="best")
    assert Result(best, 1, {"qkv": 1.0}, {"sdpa": 5.0, "eager": 1.5}).ratio == 1.5
    assert "not measured: too new" in line(Result(TINY, 1, missing={"qkv": "too new"}))


def test_durations() -> None:
    assert [duration(x) for x in (None, 4.56e-6, 0.01234, 5.0)] == ["–", "4.56 µs", "12.3 ms", "5 s"]


def test_facts_that_follow_from_rows() -> None:
    long = Case("forward", 4096)
    (fact,) = scaling([found(long, 1.9, 4.0, 1), found(long, 1.0, 4.0, 2)])
    assert (fact.found, fact.met) == (1.9, True)
    windows = [
        found(Case("over N", length, mask="window"), seconds, 1.0) for length, seconds in ((8192, 1.0), (16384, 2.5))
    ]
    (fact,) = linearity(windows)
    assert (fact.found, fact.met) == (2.5, False)


def results() -> list[Result]:
    rows = [found(Case("over N", n, mask="causal"), n * n / 1e9, n * n / 4e8) for n in (256, 1024, 4096)]
    return [found(TINY, 0.002, 0.003), *rows, found(Case("over N", 512, mask="window"), 0.001, 0.002)]


FACTS = [
    Fact("memory a thread: qkv, N=1024", 0.5, 32.0, "MiB"),
    Fact("memory a thread: qkv, N=131072", 9.0, 32.0, "MiB"),
    Fact("memory a thread: eager, N=1024", 40.0, 32.0, "MiB"),
    Fact("memory a thread: eager, N=8192", 900.0, 32.0, "MiB"),
    Fact("the compiled kernel", 12.0, 10.0, "MB"),
]


def test_the_document_is_renewed_between_its_marks(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_document(tmp_path, results(), FACTS)
    text = document.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "**2 of 4 goals are met.**" in text  # other libraries' memory is no goal of ours
    assert "| the compiled kernel | 12 MB | at most 10 MB | not met: 20% above |" in text
    assert "| memory a thread: eager, N=8192 | 900 MiB |  |  |" in text
    assert os.uname().nodename not in text
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"time-over-n.svg", "memory-over-n.svg"}


def test_a_document_without_marks_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"there is no benchmarks\.md with the lines"):
        check_document(tmp_path)


def test_figures_hold_a_line_for_each_library() -> None:
    for figure, names in (
        (time_figure(results()), ["qkv", "PyTorch SDPA"]),
        (memory_figure(FACTS), ["qkv.attend", "PyTorch eager"]),
    ):
        root = xml.fromstring(figure)
        texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert [name for name in names if name in texts] == names
        assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == len(names)
        assert "prefers-color-scheme: dark" in figure
    assert "nothing was measured" in draw("title", "subtitle", [])


def test_the_command_runs_in_processes_of_its_own() -> None:
    result = CliRunner().invoke(app, ["bench", "--quick", "--rows", "sentences: float32*N20", "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert "float32 B64 H4 N20 D64 full both" in result.stdout
    assert result.stdout.count("\n") == 2


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    for arguments, message in (
        (["--rows", "nothing like it"], "names no row; `qkv bench --list` shows their names"),
        (["--threads", "4096"], "--threads 4096: this process may use"),
        (["--write", str(tmp_path), "--quick"], "--write renews a whole table: leave out --rows and --quick"),
        (["--write", str(tmp_path)], "there is no benchmarks.md with the lines"),
    ):
        result = CliRunner().invoke(app, ["bench", *arguments])
        assert isinstance(result.exception, ArgumentError)
        assert message in str(result.exception)


def test_the_rows_are_listed() -> None:
    listed = CliRunner().invoke(app, ["bench", "--list"]).stdout.splitlines()
    assert listed == [case.id for case in CASES]


def test_run_tells_each_row() -> None:
    told: list[Result] = []
    results, facts = run(Options(rows="short: float32", threads=(1,), quick=True), told=told.append)
    assert told == results
    assert [result.case.group for result in results] == ["short"]
    assert not facts
    assert worker.__doc__


def test_a_goal_beyond_the_machine_is_told_from_one_that_is_missed() -> None:
    case = Case("forward", 1024, goal=2.0)
    beyond, missed = (
        Result(case, 1, seconds={"qkv": 1.0, "sdpa": 1.2}, ratios={"sdpa": 1.2}, share=share) for share in (0.8, 0.4)
    )
    assert beyond.limit == pytest.approx(1.5)
    assert "this machine allows 1.50×" in line(beyond)
    assert "40% below" in line(missed)
    text = markdown([beyond, missed], [])
    assert "1 are beyond what this machine can multiply or read" in text


@pytest.mark.parametrize("mask", ["full", "causal", "window", "documents"])
def test_operations_are_those_of_the_pairs_that_may_attend(mask: str) -> None:
    case = Case("masks", 1024, mask=mask)
    problem = make(case)
    allowed = problem.allowed
    if allowed is None:
        allowed = torch.ones(1024, 1024, dtype=torch.bool)
        allowed = allowed.tril() if mask == "causal" else allowed
    assert case.operations == 4 * int(allowed.sum()) * 64 * 8
    assert replace(case, direction="both").operations == 3.5 * case.operations


def test_as_many_instructions_are_twice_the_operations_in_half_the_bytes() -> None:
    assert multiply_most("float32", 10) == 2 * multiply_most("float64", 10) == 10 / 7 * multiply_most("float32", 7) > 0
    assert Multiplying(2, "bfloat16")() > 0
