"""Time and memory over the length, as SVG that reads on light and on dark paper.

Ours is the ink of the weights; others are grey, told apart by their dashes and named at the end of their lines. The
axes are logarithmic, so that a power of N is a straight line.
"""

from __future__ import annotations

from dataclasses import dataclass

from .._figure import Figure, doublings, linear, powers
from .results import Fact, Result


@dataclass(frozen=True)
class Line:
    """One library: its name, points ``(N, y)``, and the dashes of its line."""

    name: str
    points: tuple[tuple[float, float], ...]
    own: bool = False
    dashes: str = ""


def time_figure(results: list[Result]) -> str:
    """Causal float32 attention, and ours within a window, with the most threads that were measured."""
    most = max((result.threads for result in results), default=1)
    rows = [
        result
        for result in results
        if result.threads == most
        and (result.case.dtype, result.case.dim, result.case.batch) == ("float32", 64, 1)
        and result.case.direction == "forward"
        and not result.case.score
        and not result.case.observed
        and not result.case.environment
    ]
    lines = []
    for who, mask, name, own, dashes in (
        ("qkv", "causal", "qkv", True, ""),
        ("qkv", "window", "qkv, window of 256", True, "2 5"),
        ("sdpa", "causal", "PyTorch SDPA", False, ""),
        ("eager", "causal", "PyTorch eager", False, "7 4"),
        ("jax", "causal", "JAX", False, "2 4"),
        ("onnx", "causal", "ONNX Runtime", False, "10 3 2 3"),
    ):
        found = {r.case.queries: r.seconds[who] * 1e3 for r in rows if r.case.mask == mask and who in r.seconds}
        if len(found) > 1:
            lines.append(Line(name, tuple(sorted(found.items())), own, dashes))
    threads = f"{most} thread{'s' * (most > 1)}"
    return draw("Time of a forward pass", f"milliseconds; causal, float32, 8 heads of 64, {threads}", lines)


def memory_figure(facts: list[Fact]) -> str:
    """Work space over N, from the facts of that name."""
    named = {
        "qkv": ("qkv.attend", True, ""),
        "observe": ("qkv.observe", True, "2 5"),
        "sdpa": ("PyTorch SDPA", False, ""),
        "eager": ("PyTorch eager", False, "7 4"),
    }
    lines = []
    for who, (name, own, dashes) in named.items():
        head = f"memory a thread: {who}, N="
        found = [
            (float(f.name[len(head) :]), max(f.found, 0.05))
            for f in facts
            if f.name.startswith(head) and f.found is not None
        ]
        if len(found) > 1:
            lines.append(Line(name, tuple(sorted(found)), own, dashes))
    return draw("Memory beyond inputs and outputs", "MiB a thread; causal, float32, 2 heads of 64", lines)


def draw(title: str, subtitle: str, lines: list[Line]) -> str:
    """A figure with both axes logarithmic; without lines, one that says so."""
    points = [point for line in lines for point in line.points]
    if not points:
        return Figure(title, f"{subtitle}: nothing was measured", linear([]), linear([]), "N, tokens").svg()
    figure = Figure(
        title, subtitle, doublings(x for x, _ in points), powers(y for _, y in points), across_name="N, tokens"
    )
    for line in lines:
        figure.line(
            line.points,
            colour="ink" if line.own else "grey",
            name=line.name,
            dashes=line.dashes,
            width=3.0 if line.own else 1.5,
            dots=True,
        )
    return figure.svg()
