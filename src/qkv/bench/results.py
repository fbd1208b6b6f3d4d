"""What a run found, as plain data: the table and the figures are made from it, and it travels between processes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from .cases import Case


@dataclass
class Result:
    """One row with one number of threads.

    Attributes:
        seconds: the fastest run of each contender.
        ratios: the median, over neighbouring runs, of each contender's time over ours; for the judge "best", the
            smaller of two such medians.
        missing: why a contender has no time.
        errors: relative error against float64 of ours and the judges.
        note: what else was measured.
        share: of what the machine can multiply, or where the row rotates, read.
    """

    case: Case
    threads: int
    seconds: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    note: str = ""
    share: float | None = None

    @property
    def ratio(self) -> float | None:
        """The judge's time over ours; None where either is missing."""
        found = [self.ratios[name] for name in self.case.judges if name in self.ratios]
        return min(found) if found else None

    @property
    def limit(self) -> float | None:
        """The ratio of somebody who used all of what the machine can multiply or read; None beside ourselves."""
        return None if self.ratio is None or not self.share or self.case.judge == "plain" else self.ratio / self.share

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none or nothing was measured."""
        return None if self.ratio is None or self.case.goal is None else self.ratio >= self.case.goal

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Result:
        fields = json.loads(line)
        return cls(case_from(fields.pop("case")), **fields)


def case_from(fields: dict[str, object]) -> Case:
    """A case out of its JSON."""
    return Case(**{**fields, "peers": tuple(fields["peers"])})  # type: ignore[arg-type]


@dataclass
class Fact:
    """What is measured otherwise than by a clock beside another library.

    Attributes:
        found, goal: numbers in `unit`.
        least: whether `found` has to reach the goal, or to stay below it.
    """

    name: str
    found: float | None
    goal: float
    unit: str
    least: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.found is None:
            return None
        return self.found >= self.goal if self.least else self.found <= self.goal
