"""The rows: what is computed, whom it is compared with, and what it has to reach.

A row names its problem completely. No code looks at a row's name: shapes, masks and goals are data.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Judge = Literal["sdpa", "eager", "best", "plain"]
PEERS = ("sdpa", "eager", "flex", "jax", "onnx")
WINDOW = 256
DOCUMENT = 512
_QUICK = 1024
_PASSES = {"forward": 1.0, "backward": 2.5, "both": 3.5}  # of both products: the backward pass has five

EVERYTHING: dict[str, Any] = {"entropy": True, "max_score": True, "top_k": 8, "received": True, "block_map": 64}


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        group: the heading it stands under.
        queries, keys, dim, batch, heads, key_heads, dtype: of the arrays.
        mask: "full", "causal", "window" (`Window(WINDOW, 0)`), "documents" (packed texts of DOCUMENT), "array"
            (random booleans).
        score: what else is done to the scores: "", "bias" (an array), "alibi", "softcap".
        observed: arguments of `observe`; none is `attend`.
        direction: which passes are timed: "forward", "backward" or "both".
        rotate: take another cache at every call, of four times the last-level cache in all.
        judge: whom the goal compares with: PyTorch's SDPA, its eager attention, the better of both, or our own plain
            forward (`attend` with the same mask bounds, no statistics, nothing read).
        goal: at least so many times faster than the judge; None where the row is for a figure.
        environment: set in the process that measures.
        peers: who takes part beside the judge.
    """

    group: str
    queries: int
    dim: int = 64
    dtype: str = "float32"
    batch: int = 1
    heads: int = 8
    key_heads: int = 0
    keys: int = 0
    mask: str = "full"
    score: str = ""
    observed: Mapping[str, Any] = field(default_factory=dict)
    direction: str = "forward"
    rotate: bool = False
    judge: Judge = "sdpa"
    goal: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    peers: tuple[str, ...] = PEERS

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", self.keys or self.queries)
        object.__setattr__(self, "key_heads", self.key_heads or self.heads)

    @property
    def name(self) -> str:
        """What is computed, in a few words: unique among the rows."""
        heads = f"H{self.heads}" + (f"/{self.key_heads}" if self.key_heads != self.heads else "")
        parts = [self.dtype, f"B{self.batch}" if self.batch > 1 else "", heads if heads != "H8" else ""]
        parts += [f"N{self.queries}", f"M{self.keys}" if self.keys != self.queries else "", f"D{self.dim}"]
        observed = "everything" if self.observed == EVERYTHING else " ".join(self.observed)
        parts += [self.mask, self.score, observed, self.direction if self.direction != "forward" else ""]
        return " ".join(part for part in parts if part)

    @property
    def id(self) -> str:
        """What `--rows` is matched with."""
        return f"{self.group}: {self.name}"

    @property
    def contenders(self) -> tuple[str, ...]:
        """Who runs, ours first."""
        judges = {"best": ("sdpa", "eager")}.get(self.judge, (self.judge,))
        return ("qkv", *dict.fromkeys((*judges, *self.peers)))

    @property
    def judges(self) -> tuple[str, ...]:
        return ("sdpa", "eager") if self.judge == "best" else (self.judge,)

    @property
    def operations(self) -> float:
        """Additions and multiplications of the products that nobody can do without, over the pairs that may attend."""
        match self.mask:
            case "causal":
                pairs = self.queries * (self.queries + 1) / 2
            case "window":
                width = min(WINDOW + 1, self.queries)
                pairs = width * (width + 1) / 2 + (self.queries - width) * width
            case "documents":
                pairs = self.queries * DOCUMENT
            case _:
                pairs = self.queries * self.keys
        return 4.0 * pairs * self.dim * self.batch * self.heads * _PASSES[self.direction]

    def quick(self) -> Case:
        """The same at a length that takes milliseconds, with no goal where it is then another problem."""
        if max(self.queries, self.keys) <= _QUICK:
            return replace(self, peers=())
        shorter = {"queries": min(self.queries, _QUICK), "keys": min(self.keys, _QUICK)}
        return replace(self, **shorter, goal=None, peers=())  # type: ignore[arg-type]


def _forward() -> Iterator[Case]:
    for dtype, full, causal in (("float32", 2.4, 2.6), ("bfloat16", 4.5, 5.0)):
        for dim in (64, 128):
            for length in (1024, 4096):
                for mask, goal in (("full", full), ("causal", causal)):
                    yield Case("forward", length, dim, dtype, mask=mask, goal=goal, peers=_peers(mask, length))
    for dtype, goal in (("float16", 3.0), ("float64", 1.5)):
        for mask in ("full", "causal"):
            yield Case("forward", 1024, 64, dtype, mask=mask, goal=goal, peers=_peers(mask, 1024))


def _masks() -> Iterator[Case]:
    for dtype, goal in (("float32", 70.0), ("bfloat16", 100.0)):
        yield Case("masks", 8192, 64, dtype, mask="window", goal=goal, peers=("flex",))
    yield Case("masks", 8192, 64, mask="documents", goal=40.0, peers=("flex",))
    for mask, score in (("array", ""), ("full", "bias"), ("full", "alibi"), ("full", "softcap")):
        yield Case("masks", 2048, 64, mask=mask, score=score, judge="plain", goal=0.8)


def _short() -> Iterator[Case]:
    for dtype, goal in (("float32", 2.4), ("bfloat16", 2.0)):
        yield Case("short", 128, 64, dtype, batch=32, judge="best", goal=goal)


def _decoding() -> Iterator[Case]:
    for dtype, goal in (("float32", 4.0), ("bfloat16", 30.0)):
        yield Case("decoding", 1, 128, dtype, heads=32, key_heads=8, keys=8192, rotate=True, goal=goal)


def _training() -> Iterator[Case]:
    for mask, goal in (("full", 2.4), ("causal", 2.6)):
        yield Case("training", 4096, mask=mask, direction="backward", goal=goal, peers=())
        yield Case("training", 4096, mask=mask, direction="both", goal=2.4, peers=())
    for dim in (64, 128):
        yield Case("training", 4096, dim, "bfloat16", mask="causal", direction="backward", goal=2.0, peers=())
    for dtype in ("float32", "bfloat16"):
        for length in (20, 32):
            sentences = Case(
                "sentences", length, 64, dtype, batch=64, heads=4, direction="both", judge="best", goal=1.5
            )
            yield replace(sentences, peers=("jax",))


def _observing() -> Iterator[Case]:
    for mask, each, together in (("full", 1.08, 1.15), ("causal", 1.12, 1.20)):
        for name, value in EVERYTHING.items():
            yield Case("observing", 4096, mask=mask, observed={name: value}, judge="plain", goal=1 / each, peers=())
        yield Case("observing", 4096, mask=mask, observed=EVERYTHING, judge="plain", goal=1 / together, peers=())
    for length in (4096, 8192):
        yield Case("observing by hand", length, observed=EVERYTHING, judge="eager", goal=10.0, peers=())


def _narrow() -> Iterator[Case]:
    narrow = {"QKV_ISA": "avx2", "ATEN_CPU_CAPABILITY": "avx2"}
    for mask in ("full", "causal"):
        yield Case("AVX2", 1024, mask=mask, goal=1.2, environment=narrow, peers=())


def _curves() -> Iterator[Case]:
    for length in (256, 512, 2048, 8192, 16384):
        yield Case("over N", length, mask="causal", peers=("eager", "jax", "onnx") if length <= 2048 else ())
    for length in (1024, 2048, 4096, 16384):
        yield Case("over N", length, mask="window", judge="plain", peers=())


def _peers(mask: str, length: int) -> tuple[str, ...]:
    """Everybody at the lengths where that takes seconds; a compiled FlexAttention has to be built for each row."""
    flex = ("flex",) if mask == "causal" and length == 1024 else ()
    return ("eager", *flex, "jax", "onnx")


CASES: tuple[Case, ...] = (
    *_forward(),
    *_masks(),
    *_short(),
    *_decoding(),
    *_training(),
    *_observing(),
    *_narrow(),
    *_curves(),
)


def choose(pattern: str, *, quick: bool) -> list[Case]:
    """The rows whose id contains ``pattern`` (``*`` and ``?`` as in file names); quick: short ones, each once."""
    chosen = [case for case in CASES if fnmatch.fnmatch(case.id.lower(), f"*{pattern.lower()}*")]
    if not quick:
        return chosen
    shorter: dict[str, Case] = {}
    for case in chosen:
        if case.group != "over N":
            quick_one = case.quick()
            key = f"{quick_one.id} {quick_one.judge} {dict(quick_one.environment)}"
            shorter.setdefault(key, quick_one)  # one that was short already comes first, and has its goal
    return list(shorter.values())
