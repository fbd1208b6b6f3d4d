"""What qkv raises: one base, a few leaves that a caller can act on differently.

Every message names the argument, what was expected, what came, and what to do.
"""

from __future__ import annotations


class QkvError(Exception):
    """The base of every error that qkv raises on purpose."""


class ArgumentError(QkvError, ValueError):
    """An argument has a wrong shape, dtype, device or value."""


class DependencyError(QkvError, ImportError):
    """An optional dependency is missing; the message names the extra that brings it."""


class KernelError(QkvError, RuntimeError):
    """The native kernel cannot run as asked (an instruction set that this processor lacks, say)."""


class ModelError(QkvError):
    """A model is unknown, cannot be fetched or read, or cannot take this input."""


class CaptureError(QkvError):
    """A running model's attention could not be captured."""


class TraceError(QkvError):
    """A trace is unreadable, truncated, tampered with, or lacks what was asked of it."""


class ServerError(QkvError):
    """The explorer's server cannot start (a port in use, say)."""


class TrainingError(QkvError):
    """Training cannot go on (a loss that is not a number, say)."""
