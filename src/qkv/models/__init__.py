"""Whole models, made of `qkv.nn`'s layers: small files to read, and Hugging Face models to use.

Importing this makes them known to `AutoConfig` and to the `AutoModel...` class of their kind.
"""

from __future__ import annotations

from ..errors import DependencyError

try:
    import transformers as _transformers
except ImportError as missing:
    raise DependencyError(
        f"qkv.models: expected transformers 4.57 or newer ({missing}); install it with: pip install 'qkv[hf]'"
    ) from None

from ._translator import Translator as Translator
from ._translator_config import TranslatorConfig as TranslatorConfig

_transformers.AutoConfig.register(TranslatorConfig.model_type, TranslatorConfig, exist_ok=True)
_transformers.AutoModelForSeq2SeqLM.register(TranslatorConfig, Translator, exist_ok=True)
