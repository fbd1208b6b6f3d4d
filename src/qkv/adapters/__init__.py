"""What a running torch model calls instead of its own attention: one description of a call, computed by one kernel.

Hugging Face's interface and PyTorch's functions come in here; whoever records what a model does listens here.
"""

from __future__ import annotations

from ._huggingface import register as register
