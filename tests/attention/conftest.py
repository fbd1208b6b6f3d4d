"""Fixtures of the array API's tests; random problems are in `attention_cases`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the run-time type checker, which would answer before our own messages do."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="module", autouse=True)  # pytest ends a package only with the session
def _poisoned() -> Iterator[None]:
    """Memory that is allocated to be filled holds NaN before (every bit is set), so that what is not written shows."""
    empty, empty_tensor = np.empty, torch.empty

    def poisoned(*arguments: Any, **options: Any) -> Any:
        array = empty(*arguments, **options)
        if array.dtype != object and array.flags.c_contiguous:
            array.reshape(-1).view(np.uint8)[...] = 0xFF
        return array

    def poisoned_tensor(*arguments: Any, **options: Any) -> Any:
        tensor = empty_tensor(*arguments, **options)
        return tensor.fill_(float("nan")) if tensor.is_floating_point() and not tensor.is_meta else tensor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "empty", poisoned)
        patch.setattr(torch, "empty", poisoned_tensor)
        yield
