"""What ``qkv look`` prints: the text in ink, every head in grids, the heads worth a look, and the links of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qkv.views.notable import Notable, notable, resting

from ._grid import Grid, print_grids
from ._terminal import counted, ink, ink_bar, palette

if TYPE_CHECKING:
    from qkv.views.answers import Answers
    from qkv.views.contract import Overview, Selection, Stack, Token

_WHOLE = 160
"""Tokens up to which the text is printed whole."""
_AROUND = 24
"""Tokens printed on each side of the query and the key of a longer text."""
_READS = 5
_LEAST_SHOWN = 0.005

_SIGNS = {
    **{code: chr(0x2400 + code) for code in range(32)},  # the control pictures, ␛ for escape
    **dict.fromkeys(range(0x7F, 0xA0), "␡"),
    ord("\r"): "",
    ord("\n"): "↵",
    ord("\t"): "⇥",
}

_HABITS = {
    "induction": "continues what was said before (induction)",
    "previous": "reads the previous token",
    "next": "reads the next token",
}


def print_summary(screen: Console, answers: Answers, top: int) -> None:
    """Print what the page opens on, in 80 columns."""
    overview = answers.overview()
    opening = overview["opening"]
    _print_title(screen, overview)
    if not answers.trace.complete:
        screen.print("The capture was cut off; these are the layers that were complete.")
    screen.print()
    _print_reading(screen, answers, opening)
    for stack in overview["stacks"]:
        screen.print()
        _print_heads(screen, stack, len(overview["stacks"]) > 1)
    screen.print()
    _print_notable(screen, overview)
    if top:
        screen.print()
        _print_links(screen, answers, opening, top)
        _print_alignment(screen, answers)


def _print_title(screen: Console, overview: Overview) -> None:
    stacks = [
        (f"{stack['name']} " if len(overview["stacks"]) > 1 else "")
        + f"{counted(len(stack['layers']), 'layer')} × {counted(len(stack['heads']), 'head')}"
        for stack in overview["stacks"]
    ]
    tokens = " and ".join(counted(len(side["tokens"]), "token") for side in overview["sides"])
    screen.print(Text.assemble((overview["title"], "bold"), (" · " + " · ".join([*stacks, tokens]), palette().quiet)))


def _print_reading(screen: Console, answers: Answers, opening: Selection) -> None:
    """The text as the opening's query reads it."""
    colours = palette()
    queries, keys = _sides(answers, opening["stack"])
    row = answers.row(opening["stack"], opening["layer"], opening["head"], opening["query"])
    own = answers.stacks[opening["stack"]].first.kind == "self"
    query = _name(queries, opening["query"])
    where = f"Layer {opening['layer']} · head {opening['head']}: what "
    screen.print(Text.assemble((where, colours.quiet), (query, f"bold {colours.query}"), (" reads", colours.quiet)))
    if not own:
        _print_written(screen, queries, opening["query"])

    def inked(position: int) -> Text:
        shown = ink(visible(keys[position]["text"]), row["weights"][position])
        if own and position == opening["query"]:
            shown.stylize("underline")
        return shown

    screen.print(_line(keys, _excerpts(len(keys), opening["query"] if own else opening["key"], opening["key"]), inked))
    reads = Text()
    for link in row["links"][:_READS]:
        if link["weight"] < _LEAST_SHOWN:
            break
        reads.append("   " if reads else "")
        reads.append(_name(keys, link["key"]), style=colours.key)
        reads.append(f" {link['weight']:.2f}")
    screen.print(reads)
    if opening["stack"] == "encoder" and "cross" in answers.stacks:
        _print_written(screen, _sides(answers, "cross")[0])


def _print_written(screen: Console, tokens: list[Token], query: int | None = None) -> None:
    """What the model wrote, as a line; without special tokens, unless one is the query."""
    colours = palette()
    kept = [position for position, token in enumerate(tokens) if position == query or not token["special"]]
    if not any(tokens[position]["text"] for position in kept):
        return
    at = kept.index(query) if query in kept else 0

    def marked(position: int) -> Text:
        asks = kept[position] == query
        return Text(visible(tokens[kept[position]]["text"]), f"bold {colours.query}" if asks else "")

    line = _line([tokens[position] for position in kept], _excerpts(len(kept), at, at), marked)
    screen.print(Text.assemble(("written: ", colours.quiet), line))


def _line(tokens: list[Token], parts: Iterable[tuple[int, int]], shown: Callable[[int], Text]) -> Text:
    """These parts of a text as running text, each token as ``shown`` draws it."""
    quiet = palette().quiet
    line = Text()
    for start, stop in parts:
        line.append("… " if start and not line else "", style=quiet)
        for position in range(start, stop):
            token = tokens[position]
            # A special token is no part of the text: it stands apart from it.
            apart = token["space"] or token["special"] or tokens[position - 1]["special"]
            line.append(" " if apart and position > start else "")
            line.append_text(shown(position))
        line.append(" … " if stop < len(tokens) else "", style=quiet)
    return line


def _print_heads(screen: Console, stack: Stack, named: bool) -> None:
    figures = stack["figures"]

    def grid(title: str, name: str, unit: str = "", full: float | None = None) -> Grid:
        values = [[float(head[name] or 0.0) for head in row] for row in figures]  # type: ignore[literal-required]
        most = max(max(row) for row in values)
        number = f"{most:.2f}" if full else f"{most:.1f}{unit}"
        return Grid(title, values, full or most, f"to {number}")

    # Shares are on one scale, so that grids can be compared; entropy and distance each on their own.
    grids = [grid("entropy", "entropy", " bits"), grid("first", "first", full=1.0)]
    if stack["name"] != "cross":
        grids.append(grid("previous", "previous", full=1.0))
        if not stack["causal"]:
            grids.append(grid("next", "next", full=1.0))
        grids.append(grid("distance", "distance"))
    probed = any(head["induction"] is not None for row in figures for head in row)
    if probed:
        grids.append(grid("induction", "induction", full=1.0))
    if named:
        screen.print(Text(stack["name"], style="bold"))
    print_grids(screen, stack["layers"], stack["heads"], grids)
    shares = (
        "first" if stack["name"] == "cross" else "first and previous" if stack["causal"] else "first, previous and next"
    )
    words = f"Layers down, heads across; more ink is more. Entropy in bits; mean weight on the {shares} token"
    words += "" if stack["name"] == "cross" else "; mean distance in tokens"
    words += "; induction on random tokens, repeated." if probed else "."
    screen.print(Text(words, style=palette().quiet))


def _print_notable(screen: Console, overview: Overview) -> None:
    colours = palette()
    found = notable(overview)
    if found:
        screen.print(Text("Heads worth a look", style="bold"))
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        for one in found:
            table.add_row(_head_name(one, overview), _HABITS[one.habit], f"{one.weight:.2f}")
        screen.print(table)
    count, heads = resting(overview)
    rest = "rests" if count == 1 else "rest"
    words = f"{count} of {counted(heads, 'head')} {rest} on the first token: over half of the weight."
    screen.print(Text(words, style=colours.quiet))


def _print_links(screen: Console, answers: Answers, opening: Selection, top: int) -> None:
    from qkv.views.top_links import top_links

    colours = palette()
    stack = answers.stacks[opening["stack"]]
    queries, keys = _sides(answers, opening["stack"])
    record = stack.records[opening["layer"]]
    found = top_links(record, opening["head"], stack.query_tokens, stack.key_tokens, top, least=_LEAST_SHOWN)
    if not found:
        return
    where = f"Layer {opening['layer']} · head {opening['head']}: strongest links between words"
    screen.print(Text(where, style="bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    for justify in ("left", "left", "left", "right"):
        table.add_column(no_wrap=True, max_width=24, overflow="ellipsis", justify=justify)
    for link in found:
        table.add_row(
            Text(_name(queries, link.query), style=colours.query),
            Text.assemble(("→ ", colours.quiet), (_name(keys, link.key), colours.key)),
            ink_bar(link.weight, 20),
            f"{link.weight:.2f}",
        )
    screen.print(table)


def _print_alignment(screen: Console, answers: Answers) -> None:
    """Where the written words come from; of texts that are printed whole."""
    if "cross" not in answers.stacks:
        return
    written, read = _sides(answers, "cross")
    if max(len(written), len(read)) > _WHOLE or not (found := answers.alignment()["words"]):
        return
    colours = palette()
    screen.print()
    screen.print(Text("Words as cross-attention aligns them", style="bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    for justify in ("left", "left", "left", "right"):
        table.add_column(no_wrap=True, max_width=24, overflow="ellipsis", justify=justify)
    for one in found:
        table.add_row(
            Text(_joined(written[one["start"] : one["stop"]]), style=colours.query),
            Text.assemble(("← ", colours.quiet), (_joined(read[one["read_start"] : one["read_stop"]]), colours.key)),
            ink_bar(one["weight"], 20),
            f"{one['weight']:.2f}",
        )
    screen.print(table)
    screen.print(Text("Mean over all layers and heads, while the word is written.", style=colours.quiet))


def _sides(answers: Answers, name: str) -> tuple[list[Token], list[Token]]:
    overview = answers.overview()
    sides = {side["name"]: side["tokens"] for side in overview["sides"]}
    stack = next(stack for stack in overview["stacks"] if stack["name"] == name)
    return sides.get(stack["query_side"], []), sides.get(stack["key_side"], [])


def _excerpts(count: int, query: int, key: int) -> Iterator[tuple[int, int]]:
    """The parts of a text to print: all of a short one, else what stands around the query and the key."""
    if count <= _WHOLE:
        yield 0, count
        return
    (low, low_stop), (high, high_stop) = (
        (max(0, at - _AROUND), min(count, at + _AROUND + 1)) for at in sorted((query, key))
    )
    if high <= low_stop:
        yield low, high_stop
    else:
        yield low, low_stop
        yield high, high_stop


def _head_name(one: Notable, overview: Overview) -> Text:
    stack = f"{one.stack} " if len(overview["stacks"]) > 1 else ""
    return Text(f"{stack}L{one.layer} H{one.head}")


def _name(tokens: list[Token], position: int) -> str:
    """A token's text; its position where it has none to show (an image patch)."""
    text = visible(tokens[position]["text"]) if position < len(tokens) else ""
    return text if text.strip() else f"#{position}"


def _joined(pieces: list[Token]) -> str:
    """The word that they are pieces of."""
    return visible("".join(piece["text"] for piece in pieces))


def visible(text: str) -> str:
    """Control characters as signs: no token breaks the line or commands the terminal."""
    return text.translate(_SIGNS)
