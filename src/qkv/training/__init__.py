"""Training: data builders, tokenizers, the loop, evaluation. What needs torch is loaded when it is first named."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._settings import SIZES as SIZES
from ._settings import Settings as Settings
from ._settings import best_precision as best_precision

if TYPE_CHECKING:
    from ._corpus import Corpus as Corpus
    from ._corpus import open_corpus as open_corpus
    from ._evaluate import Comparison as Comparison
    from ._evaluate import Score as Score
    from ._evaluate import compare as compare
    from ._evaluate import score as score
    from ._pack import pack as pack
    from ._plot import plot as plot
    from ._run import Trained as Trained
    from ._run import train as train
    from ._sizes import new_translator as new_translator
    from ._tokenizer import train_tokenizer as train_tokenizer
    from ._translate import translate as translate
    from ._watch import Progress as Progress
    from ._watch import read_metrics as read_metrics

_LATER = {
    "Corpus": "_corpus",
    "open_corpus": "_corpus",
    "Comparison": "_evaluate",
    "Score": "_evaluate",
    "compare": "_evaluate",
    "score": "_evaluate",
    "pack": "_pack",
    "plot": "_plot",
    "Trained": "_run",
    "train": "_run",
    "new_translator": "_sizes",
    "train_tokenizer": "_tokenizer",
    "translate": "_translate",
    "Progress": "_watch",
    "read_metrics": "_watch",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module 'qkv.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER} - {"_LATER", "importlib", "TYPE_CHECKING", "Any"})
