"""The page's contract is the one that Python declares."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from qkv.views import typescript

COMMITTED = Path(__file__).parents[2] / "web/src/contract.ts"


def test_the_committed_file_equals_the_generated_text() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == typescript.generate(), (
        "run `python -m qkv.views.typescript > web/src/contract.ts`"
    )


@pytest.mark.parametrize(
    ("python", "wanted"),
    [
        ("float", "number"),
        ("float | None", "number | null"),
        ("list[list[HeadFigures]]", "HeadFigures[][]"),
        ("list[int | None]", "(number | null)[]"),
        ("dict[str, list[bool]]", "Record<string, boolean[]>"),
        ("Literal['one', 'two']", '"one" | "two"'),
        ("Literal['one']", '"one"'),
    ],
)
def test_annotations(python: str, wanted: str) -> None:
    assert typescript._type(ast.parse(python, mode="eval").body) == wanted


def test_an_annotation_without_translation_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"set\[int\].*no translation into TypeScript"):
        typescript._type(ast.parse("set[int]", mode="eval").body)


def test_words_beside_a_field_stand_before_it() -> None:
    assert "  /** (N,) bits */\n  entropy: number[];\n" in typescript.generate()
