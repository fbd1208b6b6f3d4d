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

from ._language_model import LanguageModel as LanguageModel
from ._language_model_config import LanguageModelConfig as LanguageModelConfig
from ._masked_language_model import MaskedLanguageModel as MaskedLanguageModel
from ._masked_language_model import MaskedLanguageModelConfig as MaskedLanguageModelConfig
from ._translator import Translator as Translator
from ._translator_config import TranslatorConfig as TranslatorConfig
from ._vision_transformer import VisionTransformer as VisionTransformer
from ._vision_transformer import VisionTransformerConfig as VisionTransformerConfig

for _auto, _config, _model in (
    (_transformers.AutoModelForSeq2SeqLM, TranslatorConfig, Translator),
    (_transformers.AutoModelForCausalLM, LanguageModelConfig, LanguageModel),
    (_transformers.AutoModelForMaskedLM, MaskedLanguageModelConfig, MaskedLanguageModel),
    (_transformers.AutoModelForImageClassification, VisionTransformerConfig, VisionTransformer),
):
    _transformers.AutoConfig.register(_config.model_type, _config, exist_ok=True)
    _auto.register(_config, _model, exist_ok=True)
