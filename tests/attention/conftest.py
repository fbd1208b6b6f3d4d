"""Fixtures of the array API's tests; random problems are in `attention_cases`."""

from __future__ import annotations

import jaxtyping
import pytest


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the run-time type checker, which would answer before our own messages do."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
