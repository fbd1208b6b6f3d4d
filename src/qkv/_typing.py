"""Shape annotations, free of cost.

jaxtyping is imported only by type checkers and under ``QKV_CHECK_SHAPES=1`` (the test run sets it), where every
annotated call is checked. Otherwise the names exist but stand for nothing: annotations are never evaluated.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or os.environ.get("QKV_CHECK_SHAPES") == "1":
    from jaxtyping import Bool as Bool
    from jaxtyping import Float as Float
    from jaxtyping import Int as Int
    from jaxtyping import Shaped as Shaped
else:
    Bool = Float = Int = Shaped = Any

Array = Any
"""A NumPy array, a torch tensor or a JAX array; functions return the framework that they were given."""
