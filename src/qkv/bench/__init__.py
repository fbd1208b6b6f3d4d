"""How fast, and how much memory: every claim on speed, measured beside other libraries in one run.

``qkv bench`` runs the rows of `cases` and prints them; with ``--write docs`` it renews the table and the figures of
``docs/benchmarks.md``. PyTorch is needed; JAX, ONNX Runtime and a C++ compiler (for FlexAttention) join where they are.
"""

from __future__ import annotations

from .cases import CASES as CASES
from .cases import Case as Case
from .results import Fact as Fact
from .results import Result as Result
from .runner import Options as Options
from .runner import run as run
