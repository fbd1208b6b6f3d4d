"""Which layers a text went through: records sorted into stacks, and found by the names that a front uses."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from qkv.errors import ArgumentError, TraceError
from qkv.trace import Attention, Sequence, Token

from .contract import StackName

NAMES: tuple[StackName, ...] = ("encoder", "decoder", "cross")


@dataclass(frozen=True, eq=False)
class Layers:
    """The layers of one kind that a text went through, and the heads that every one of them holds."""

    name: StackName
    records: dict[int, Attention]
    heads: tuple[int, ...]
    query_tokens: list[Token]
    key_tokens: list[Token]

    @property
    def first(self) -> Attention:
        """The lowest layer."""
        return next(iter(self.records.values()))


def stacks(
    sequence: Sequence, layers: Collection[int] | None = None, heads: Collection[int] | None = None
) -> dict[StackName, Layers]:
    """Return the stacks of ``sequence`` by name, or what is left of them with only these ``layers`` and ``heads``.

    Raises:
        TraceError: nothing is left.
    """
    found: dict[StackName, Layers] = {}
    for name in NAMES:
        records: dict[int, Attention] = {}
        for record in sequence.attentions:
            if record.stack == name and (layers is None or record.layer in layers):
                records.setdefault(record.layer, record)
        # Where layers hold different heads a grid of layers by heads has room only for the common ones.
        common = set[int].intersection(*(set(record.heads) for record in records.values())) if records else set[int]()
        shown = tuple(sorted(head for head in common if heads is None or head in heads))
        if records and shown:
            first = next(iter(records.values()))
            found[name] = Layers(
                name,
                dict(sorted(records.items())),
                shown,
                sequence.sides.get(first.query_side, []),
                sequence.sides.get(first.key_side, []),
            )
    if not found:
        asked = [f"{name} {_listed(sorted(chosen))}" for name, chosen in (("layer", layers), ("head", heads)) if chosen]
        raise TraceError(f"{', '.join(asked) or 'attention'} is not in this trace; it holds {_contents(sequence)}")
    return found


def stack_of(stacks: dict[StackName, Layers], stack: str) -> Layers:
    """Return a stack by its name.

    Raises:
        TraceError: there is no such stack; the message names those that there are.
    """
    for name, layers in stacks.items():
        if name == stack:
            return layers
    raise TraceError(f"stack {stack[:40]!r} is not in this trace; it holds {_listed(stacks)}")


def layer_of(stacks: dict[StackName, Layers], stack: str, layer: int) -> Attention:
    """Return the record of one layer.

    Raises:
        TraceError: there is no such stack or layer; the message names those that there are.
    """
    records = stack_of(stacks, stack).records
    if layer not in records:
        raise TraceError(f"layer {layer} of the {stack} is not in this trace; it holds layers {_listed(records)}")
    return records[layer]


def check_index(name: str, index: int, size: int) -> int:
    """Return ``index`` where it is one of ``size`` tokens."""
    if not 0 <= index < size:
        raise ArgumentError(f"{name}: expected an index from 0 to {size - 1}, got {index}")
    return index


def _listed(values: Collection[object]) -> str:
    return ", ".join(map(str, values))


def _contents(sequence: Sequence) -> str:
    """What a text went through, in words: "encoder layers 0 to 5, heads 0 to 11"."""
    parts = []
    for name in NAMES:
        records = [record for record in sequence.attentions if record.stack == name]
        if records:
            layers = sorted({record.layer for record in records})
            heads = sorted({head for record in records for head in record.heads})
            parts.append(f"{name} {_span('layer', layers)}, {_span('head', heads)}")
    return "; ".join(parts) or "no attention"


def _span(noun: str, numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"{noun} {numbers[0]}"
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{noun}s {numbers[0]} to {numbers[-1]}"
    return f"{noun}s {_listed(numbers)}"
