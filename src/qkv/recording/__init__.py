"""Capture: from any running torch model to a trace."""

from __future__ import annotations

from ._capture import Capture as Capture
from ._capture import capture as capture
from ._read import read as read
