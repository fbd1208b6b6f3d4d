"""What the terminal draws: grids that fit, in colour and without, and a summary in 80 columns."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from qkv.cli._grid import Grid, print_grids
from qkv.cli._summary import _excerpts, print_summary, visible
from qkv.cli._terminal import palette
from qkv.trace import MaskStructure, Sequence, Token, Trace
from qkv.views.answers import Answers
from random_trace import WORDS, Shape, record, tokens, trace


def screen(colour: bool = False, width: int = 80) -> Console:
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="truecolor" if colour else None,
        highlight=False,
    )


def drawn(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def grid(layers: int, heads: int, title: str = "first") -> Grid:
    values = [[(layer + head) / max(1, layers + heads - 2) for head in range(heads)] for layer in range(layers)]
    return Grid(title, values, 1.0, "to 1.00")


@pytest.mark.parametrize(("layers", "heads"), [(6, 12), (30, 9), (32, 32), (1, 1)])
@pytest.mark.parametrize("width", [80, 40])
def test_grids_fit(layers: int, heads: int, width: int) -> None:
    console = screen(width=width)
    print_grids(console, range(layers), range(heads), [grid(layers, heads, str(at)) for at in range(5)])
    lines = drawn(console)
    assert max(map(cell_len, lines)) <= width
    titles = [word for line in lines for word in line.split() if word in list("01234") and heads != 1]
    assert heads == 1 or titles.count("4") >= 1


def test_more_is_more_ink() -> None:
    console = screen()
    print_grids(console, [3, 7], [0, 1, 2], [Grid("entropy", [[0, 0.1, 0.3], [0.5, 0.7, 1]], 1, "to 1.0 bits")])
    assert drawn(console) == [
        "   entropy",
        "   012",
        "3   ·░",
        "7  ▒▓█",
        "   to 1.0 bits",
    ]


def test_colour_pairs_many_layers() -> None:
    console = screen(colour=True)
    print_grids(console, range(31), range(4), [grid(31, 4)])
    lines = drawn(console)
    assert len(lines) == 2 + 16 + 1
    assert all(line.count("▀") == 4 for line in lines[2:18])


def test_colour_gives_few_layers_a_line_each() -> None:
    console = screen(colour=True)
    print_grids(console, range(6), range(4), [grid(6, 4)])
    assert len(drawn(console)) == 2 + 6 + 1


def test_a_figure_that_is_nowhere_draws_nothing() -> None:
    assert Grid("first", [[0.0]], 0.0, "").ink(0, 0) == 0


def summary(traced: Trace, top: int = 10, **options: object) -> str:
    console = screen()
    print_summary(console, Answers(traced, **options), top)  # type: ignore[arg-type]
    assert max(map(cell_len, drawn(console))) <= 80
    return "\n".join(drawn(console))


def test_summary_of_an_encoder() -> None:
    text = summary(trace([record(layer=layer) for layer in range(3)]), layer=1, head=2)
    assert text.startswith("Random · 3 layers × 4 heads · 11 tokens\n\nLayer 1 · head 2: what ")
    assert "[CLS] quick brown fox" in text
    assert "of 12 heads" in text
    assert "→" in text
    assert "entropy" in text
    assert "previous" in text
    assert "next" in text
    assert "induction" not in text


def test_summary_of_a_decoder_leaves_out_what_it_cannot_read() -> None:
    layers = [record(layer=layer, part="decoder", mask=MaskStructure(causal=True)) for layer in range(2)]
    text = summary(trace(layers), induction={("decoder", 1, 3): 0.92})
    assert "next" not in text
    assert "L1 H3  continues what was said before (induction)  0.92" in text


def test_summary_of_three_stacks() -> None:
    layers = [
        record(Shape(12, 12)),
        record(Shape(7, 7), part="decoder-target", mask=MaskStructure(causal=True)),
        record(Shape(7, 12), kind="cross", part="decoder"),
    ]
    text = summary(trace(layers, kind="encoder-decoder"))
    assert "encoder 1 layer × 4 heads · decoder 1 layer × 4 heads · cross 1 layer × 4 heads" in text.replace("\n", " ")
    assert "12 tokens and 7 tokens" in text.replace("\n", " ")


WRITTEN = [Token(0, "<s>", special=True), Token(1, "Un", word=0), Token(2, "chat", space=True, word=1)]
WRITTEN += [Token(3, "on", word=1), Token(4, ".", word=2)]


def translation(*stacks: str) -> Trace:
    made = {
        "encoder": record(Shape(12, 12), spread=9.0),
        "decoder": record(Shape(5, 5), part="decoder-target", mask=MaskStructure(causal=True)),
        "cross": record(Shape(5, 12), kind="cross", part="decoder-target"),
    }
    found = trace([made[name] for name in stacks], kind="encoder-decoder")
    sides = {"input": tokens(12, special_ends=True), "target": WRITTEN}
    return Trace(found.model, [Sequence(sides, found.attentions)])  # type: ignore[arg-type]


def test_what_was_written_is_a_line_over_what_is_read() -> None:
    lines = summary(translation("cross")).splitlines()
    place = lines.index("written: Un chaton.")
    assert lines[place - 1].startswith("Layer 0 · head ")
    assert lines[place + 1].startswith("[CLS] quick brown")


def test_what_was_written_is_there_when_the_input_reads_itself() -> None:
    traced = translation("encoder", "cross")
    assert Answers(traced).overview()["opening"]["stack"] == "encoder"
    assert summary(traced).count("written: Un chaton.") == 1


def test_the_query_has_its_colour_where_it_was_written() -> None:
    answers = Answers(translation("cross"))
    answers.overview()["opening"]["query"] = 2
    console = screen(colour=True)
    print_summary(console, answers, 0)
    (line,) = [line for line in drawn(console) if "written: " in line]
    blue = "\x1b[1;38;2;{};{};{}m".format(*bytes.fromhex(palette().query[1:]))
    assert f"Un {blue}chat\x1b[0mon." in line


def test_a_long_writing_is_excerpted_about_its_query() -> None:
    traced = trace([record(Shape(400, 12), kind="cross", part="decoder-target")])
    answers = Answers(traced)
    answers.overview()["opening"]["query"] = 200
    console = screen()
    print_summary(console, answers, 0)
    text = " ".join(drawn(console))
    (written,) = re.findall(r"written: … (.*?) …", text)
    assert len(written.split()) == 49
    assert written.split()[24] == WORDS[200 % len(WORDS)]


def test_nothing_written_is_no_line() -> None:
    traced = trace([record(Shape(5, 12), kind="cross", part="decoder-target")])
    sides = {**traced.sequences[0].sides, "target": [Token(-1, "")] * 5}
    assert "written" not in summary(Trace(traced.model, [Sequence(sides, traced.attentions)]))


def test_summary_without_links() -> None:
    assert "strongest links" not in summary(trace([record()]), top=0)


def test_a_long_text_is_excerpted() -> None:
    assert list(_excerpts(160, 5, 100)) == [(0, 160)]
    assert list(_excerpts(4000, 2000, 1000)) == [(976, 1025), (1976, 2025)]
    assert list(_excerpts(4000, 30, 2)) == [(0, 55)]
    assert list(_excerpts(4000, 3999, 3999)) == [(3975, 4000)]
    text = summary(trace([record(Shape(400, 400), part="decoder", mask=MaskStructure(causal=True))]))
    assert "…" in text


def test_no_token_breaks_a_line() -> None:
    assert visible("a\r\n\tb") == "a↵⇥b"
    texts = ["\n", "", "[bold]", "苹果", "e\u0301", ":smile:", "\x1b[31m", "\x9b31m", "y", "z", "w"]
    odd = [Token(at, text, word=at) for at, text in enumerate(texts)]
    layer = record()
    text = summary(Trace(trace([layer]).model, [Sequence({"input": odd}, [layer])]))
    assert "[bold]" in text
    assert ":smile:" in text
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "␛[31m" in text


def test_positions_without_tokens_are_numbered() -> None:
    layer = record()
    text = summary(Trace(trace([layer]).model, [Sequence({"input": []}, [layer])]))
    assert "#" in text
    assert tokens(0) == []
