"""The heads worth a look: those that do one plain thing, and how plainly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .contract import HeadFigures, Overview, StackName

Habit = Literal["previous", "next", "induction"]

THRESHOLD = 0.5
"""A head has a habit when it spends at least half of its weight on it. Induction, measured over a probe, needs less."""

INDUCTION_THRESHOLD = 0.3


@dataclass(frozen=True)
class Notable:
    """A head, what it habitually reads, and the mean weight that it spends on it."""

    stack: StackName
    layer: int
    head: int
    habit: Habit
    weight: float


def notable(overview: Overview, most: int = 4) -> list[Notable]:
    """Return the heads that repeat a pattern, read the previous or the next token: the strongest ``most`` of each."""
    found: list[Notable] = []
    for habit in ("induction", "previous", "next"):
        heads = [
            Notable(stack["name"], layer, head, habit, weight)
            for stack in overview["stacks"]
            for layer, row in zip(stack["layers"], stack["figures"], strict=True)
            for head, figures in zip(stack["heads"], row, strict=True)
            if (weight := _figure(figures, habit)) >= (INDUCTION_THRESHOLD if habit == "induction" else THRESHOLD)
        ]
        found += sorted(heads, key=lambda one: -one.weight)[:most]
    return found


def resting(overview: Overview) -> tuple[int, int]:
    """Return how many heads put over half of their weight on the first token, and how many heads there are."""
    shares = [figures["first"] for stack in overview["stacks"] for row in stack["figures"] for figures in row]
    return sum(share > THRESHOLD for share in shares), len(shares)


def _figure(figures: HeadFigures, habit: Habit) -> float:
    value = figures[habit]
    return 0.0 if value is None else value
