"""Every example in a docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import qkv

MODULES = ["qkv", *(module.name for module in pkgutil.walk_packages(qkv.__path__, "qkv."))]
RUN_AS_PROGRAMS = {"qkv.__main__"}


@pytest.mark.parametrize("name", sorted(set(MODULES) - RUN_AS_PROGRAMS))
def test_docstring_examples(name: str) -> None:
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_docstrings_hold_examples() -> None:
    """The walk above really finds examples: the five functions of the array API each have one."""
    finder = doctest.DocTestFinder()
    for name in ("attend", "observe", "weights", "steps", "steps_from_inputs"):
        examples = [test for test in finder.find(getattr(qkv, name), name, module=False, globs={}) if test.examples]
        assert examples, f"qkv.{name} has no example"
