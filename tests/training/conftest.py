"""Tiny models run fastest in one thread, on a machine whose other cores are busy above all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from made_corpus import one_thread


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield
