"""Attention for torch modules."""

from . import functional as functional
