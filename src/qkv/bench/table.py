"""What a run found, in words: a line of the terminal, and the generated part of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from .._replacing import replacing
from ..errors import ArgumentError
from .cases import PEERS
from .machine import processor
from .results import Fact, Result

BEGIN, END = "<!-- measured: written by qkv bench -->", "<!-- end of what was measured -->"
NAMES = {
    "sdpa": "SDPA",
    "eager": "eager",
    "flex": "Flex",
    "jax": "JAX",
    "onnx": "ONNX RT",
    "plain": "plain forward",
    "best": "better of SDPA, eager",
}
_PACKAGES = {"torch": "PyTorch", "jax": "JAX", "onnxruntime": "ONNX Runtime"}


def heading() -> str:
    """The machine and the versions: the processor, never the machine's name."""
    import qkv
    from qkv.attention._backends import _native

    versions = [f"qkv {qkv.__version__}"]
    for package, name in _PACKAGES.items():
        try:
            versions.append(f"{name} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return f"{processor()}, {_native.isa()}; {', '.join(versions)}"


def line(result: Result) -> str:
    """One row for the terminal, below 80 columns for most."""
    ours = duration(result.seconds.get("qkv"))
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ' '}"
    name = result.case.name
    if result.case.environment:
        name += " avx2"
    return f"{threads} {name:<34} {ours:>9} {_ratio(result):>7}  {_verdict(result)}".rstrip()


def fact_line(fact: Fact) -> str:
    return f"{fact.name:<52} {_found(fact):>10}  {_fact_verdict(fact)}".rstrip()


def markdown(results: list[Result], facts: list[Fact]) -> str:
    """Everything between the document's markers."""
    parts = [f"Measured on: {heading()}.", ""]
    judged = [result for result in results if result.case.goal is not None]
    met = sum(result.met is True for result in judged) + sum(fact.met is True for fact in facts)
    beyond = sum(bool(row.limit and row.case.goal and row.limit < row.case.goal) for row in judged)
    allowed = f" {beyond} are beyond what this machine can multiply or read." if beyond else ""
    parts += [f"**{met} of {len(judged) + len(_claims(facts))} goals are met.**{allowed}", ""]
    for group in dict.fromkeys(result.case.group for result in results):
        rows = [result for result in results if result.case.group == group]
        parts += [f"### {group[0].upper()}{group[1:]}", "", *_rows(rows), "", *_notes(rows)]
    if facts:
        parts += ["### Memory, size and scaling", "", "| what | found | goal | |", "|---|--:|--:|---|"]
        for fact in facts:
            claim = fact in _claims(facts)
            goal = f"{'at least' if fact.least else 'at most'} {fact.goal:g} {fact.unit}" if claim else ""
            parts.append(f"| {fact.name} | {_found(fact)} | {goal} | {_fact_verdict(fact) if claim else ''} |")
    return "\n".join(parts).rstrip() + "\n"


def _claims(facts: list[Fact]) -> list[Fact]:
    """What is said of us; other libraries' memory is there to compare with."""
    return [fact for fact in facts if not any(f": {name}," in fact.name for name in PEERS)]


def _rows(rows: list[Result]) -> Iterator[str]:
    """A table with a column for each library that took part in one of its rows."""
    shown = [name for name in (*PEERS, "plain") if any(name in row.case.contenders for row in rows)]
    titles = ["case", "threads", "qkv", *(NAMES[name] for name in shown), "ratio", "limit", "goal", ""]
    yield "| " + " | ".join(titles) + " |"
    yield "|---|" + "--:|" * (len(titles) - 2) + "---|"
    for row in rows:
        cells = [row.case.name, str(row.threads), duration(row.seconds.get("qkv"))]
        cells += [duration(row.seconds.get(name)) if name in row.case.contenders else "" for name in shown]
        goal = ""
        if row.case.goal is not None:
            goal = f"{_goal(row)} ({NAMES[row.case.judge]})"
        yield "| " + " | ".join([*cells, _ratio(row), _limit(row), goal, _verdict(row, short=True)]) + " |"


def _notes(rows: Iterable[Result]) -> list[str]:
    """Why a cell is a dash, each reason once; and what else was measured."""
    reasons = dict.fromkeys(
        f"{NAMES.get(name, name)} ({row.case.dtype}{', ' + row.case.score if row.case.score else ''}): {why}"
        for row in rows
        for name, why in row.missing.items()
    )
    noted = [f"{row.case.name}, {row.threads} thread{'s' * (row.threads > 1)}: {row.note}" for row in rows if row.note]
    lines = [f"- {note}." for note in noted] + [f"- –: {reason}." for reason in reasons]
    return [*lines, ""] if lines else []


def duration(seconds: float | None) -> str:
    """Three digits; a dash for what was not measured."""
    if seconds is None:
        return "–"
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def _ratio(result: Result) -> str:
    """Times faster than the judge; beside our own plain forward, how much longer."""
    if result.ratio is None:
        return "–"
    if _extra(result):
        return f"{100 / result.ratio - 100:+.0f}%"
    return f"{result.ratio:.2f}×"


def _limit(result: Result) -> str:
    return f"{result.limit:.2f}×" if result.limit else ""


def _goal(result: Result) -> str:
    goal = result.case.goal
    assert goal is not None
    return f"+{100 / goal - 100:.0f}%" if _extra(result) else f"{goal:g}×"


def _extra(result: Result) -> bool:
    return result.case.judge == "plain" and bool(result.case.observed)


def _verdict(result: Result, *, short: bool = False) -> str:
    """Met, or by how much it is not."""
    if result.case.goal is None:
        return ""
    goal = "" if short else f" ({_goal(result)})"
    if result.met is None:
        reason = result.missing.get("qkv") or next((result.missing.get(name, "") for name in result.case.judges), "")
        return f"not measured: {reason}"
    if result.met:
        return f"met{goal}"
    assert result.ratio is not None
    if _extra(result):
        return f"not met{goal}: {100 / result.ratio - 100 / result.case.goal:.0f} points above"
    if result.limit and result.limit < result.case.goal:
        return f"not met{goal}: this machine allows {_limit(result)}"
    return f"not met{goal}: {100 - 100 * result.ratio / result.case.goal:.0f}% below"


def _found(fact: Fact) -> str:
    return "–" if fact.found is None else f"{fact.found:.3g} {fact.unit}"


def _fact_verdict(fact: Fact) -> str:
    if fact.met is None:
        return "not measured"
    if fact.met:
        return "met"
    assert fact.found is not None
    return f"not met: {abs(fact.found / fact.goal - 1):.0%} {'below' if fact.least else 'above'}"


def check_document(folder: Path) -> None:
    """Raises before the long work where its result has no place."""
    file = folder / "benchmarks.md"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if BEGIN not in text or END not in text:
        raise ArgumentError(f"--write {folder}: there is no benchmarks.md with the lines {BEGIN!r} and {END!r}")


def write_document(folder: Path, results: list[Result], facts: list[Fact]) -> None:
    """Renew the part between the markers, and the figures."""
    from .figures import memory_figure, time_figure

    check_document(folder)
    file = folder / "benchmarks.md"
    before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    pictures = "![Time of a forward pass](figures/time-over-n.svg)\n\n![Memory](figures/memory-over-n.svg)\n"
    text = f"{before}{BEGIN}\n\n{markdown(results, facts)}\n{pictures}\n{END}{after}"
    figures = {"time-over-n.svg": time_figure(results), "memory-over-n.svg": memory_figure(facts)}
    (folder / "figures").mkdir(exist_ok=True)
    for path, content in [(folder / "figures" / name, figure) for name, figure in figures.items()] + [(file, text)]:
        with replacing(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
