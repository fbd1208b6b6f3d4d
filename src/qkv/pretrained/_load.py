"""``load``: a model ready to run, by its name in the catalogue, from a folder, or from a hub.

Weights are read from safetensors only, and code that a checkpoint brings along runs only when the caller says so.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from .._optional import imports_for
from .._quiet import quiet_transformers
from ..errors import ModelError
from ._cache import is_installed, model_folder
from ._catalogue import catalogue, close_names, entry
from ._distributions import distributed_folder

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Kind = Literal["encoder", "decoder", "encoder-decoder"]

_CHECKPOINT = re.compile(r"checkpoints|(checkpoint-)?[0-9]+")  # what says nothing without the folder it lies in
_NO_LIMIT = 10**9  # a tokenizer that knows no limit says 1e30
_VOCABULARIES = ("tokenizer*", "vocab*", "*.model", "*.spm")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class Pretrained:
    """A model with all that is needed to give it a text."""

    model: PreTrainedModel
    """In evaluation mode."""
    tokenizer: PreTrainedTokenizerBase | None
    """None for a model that reads no text (of images, say)."""
    name: str
    """What was asked for: a name of the catalogue, a path, a hub name."""
    title: str
    """As people write it: ``MiniLM-L6``."""
    kind: Kind
    maximum_length: int | None
    """The most tokens that it reads at once; None where positions have no limit."""
    path: Path | None
    """The folder it came from; None for a hub name."""

    def text_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer; ``ModelError`` for a model that reads something else than texts."""
        reads = self.model.main_input_name
        if reads != "input_ids":
            raise ModelError(f"model {self.name!r} reads {reads.replace('_', ' ')}: it cannot read a text.")
        if self.tokenizer is None:
            raise ModelError(f"model {self.name!r} has no tokenizer: it cannot read a text.")
        return self.tokenizer


def load(
    name: str | os.PathLike[str], *, trust_remote_code: bool = False, dtype: torch.dtype | None = None
) -> Pretrained:
    """Open a model for reading texts: evaluation mode, the head that its checkpoint has, on the CPU.

    Arguments:
        name: a name of the catalogue that ``get`` has brought (``"minilm"``); or of an installed distribution
            (``"translator-en-fr"``, or ``"translator"`` for the first one); or a folder in Hugging Face's layout; or a
            hub name (``"org/model"``), which is the only case that touches a network.
        trust_remote_code: run Python code that the checkpoint brings along. Off: such a checkpoint is an error.
        dtype: of the weights; float32 by default, whatever they are stored in.

    Returns: a ``Pretrained``: model, tokenizer, name, title, kind, maximum_length and path.

    Raises: ``ModelError`` when there is no such model, it has not been fetched yet, it holds only pickled weights, or
    it cannot be read; ``DependencyError`` without transformers.

    >>> from qkv import pretrained
    >>> reader = pretrained.load("minilm")
    >>> reader.title, reader.kind, reader.maximum_length
    ('MiniLM-L6', 'encoder', 512)
    """
    asked = os.fspath(name)
    if any(model.name == asked for model in catalogue()):
        if not is_installed(asked):
            raise ModelError(f"model {asked!r} is not there yet: run `qkv models get {asked}`.")
        return _open(asked, model_folder(asked), trust_remote_code, dtype)
    folder = Path(asked).expanduser()
    if (shipped := distributed_folder(asked)) is not None and not folder.is_dir():
        return _open(asked, shipped, trust_remote_code, dtype)
    if asked == "translator" and not folder.is_dir():
        raise ModelError(
            "model 'translator' is not installed: train one with `qkv train translation`, or pip install a "
            "distribution that `qkv models pack` made."
        )
    if folder.is_dir():
        _check_folder(asked, folder)
        return _open(asked, folder, trust_remote_code, dtype)
    if folder.exists():
        raise ModelError(f"model {asked!r} is a file: a model is a folder with config.json and *.safetensors.")
    if not isinstance(name, str) or not _is_hub_name(asked):
        raise ModelError(f"model folder {asked!r} does not exist (looked in {Path.cwd()}).{close_names(asked)}")
    return _open(asked, None, trust_remote_code, dtype)


def _check_folder(name: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(f"model folder {name!r} has no config.json: a model is a folder in Hugging Face's layout.")
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ModelError(
            f"model folder {name!r} has only pickled weights ({', '.join(pickles[:3])}), which can run code when they "
            f"are read: qkv reads safetensors only. Where you trust them, convert once with "
            f"model.save_pretrained(folder, safe_serialization=True)."
        )
    raise ModelError(f"model folder {name!r} has no weights: *.safetensors was expected.")


def _is_hub_name(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= 2 and all(part and part[0] not in ".~" and "\\" not in part for part in parts)


def _open(name: str, folder: Path | None, trust_remote_code: bool, dtype: torch.dtype | None) -> Pretrained:
    with imports_for("reading a model", extra="hf"):
        import torch
        import transformers

        from .. import models  # which makes them known to AutoConfig

    source = name if folder is None else str(folder)
    options: dict[str, Any] = {
        "trust_remote_code": trust_remote_code,
        "local_files_only": folder is not None or not _hub_answers(),
    }
    with quiet_transformers(), _explained(name, folder, offline=options["local_files_only"]):
        config = transformers.AutoConfig.from_pretrained(source, **options)
        model, report = _model_class(transformers, models, config).from_pretrained(
            source,
            dtype=dtype or torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
        tokenizer = _tokenizer(transformers, source, folder, options)
    if unread := sorted(key for key in report["missing_keys"] if "pooler" not in key):
        warnings.warn(f"model {name!r} lacks weights for {', '.join(unread[:3])}: they are random", stacklevel=3)
    return Pretrained(
        model=model.eval(),
        tokenizer=tokenizer,
        name=name,
        title=_title(name, folder),
        kind=_kind(transformers, model),
        maximum_length=_maximum_length(model, tokenizer),
        path=folder,
    )


def _model_class(transformers: ModuleType, models: ModuleType, config: PretrainedConfig) -> Any:
    """The class that the checkpoint was saved from: so it has the head it was trained with, and no random one."""
    remote = getattr(config, "auto_map", None) or {}  # only reached where the caller trusts it
    for head in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForMaskedLM", "AutoModel"):
        if head in remote:
            return getattr(transformers, head)
    for architecture in config.architectures or ():
        for place in (transformers, models):
            if hasattr(place, architecture):
                return getattr(place, architecture)
    return transformers.AutoModel


def _tokenizer(
    transformers: ModuleType, source: str, folder: Path | None, options: dict[str, Any]
) -> PreTrainedTokenizerBase | None:
    if folder is not None and not any(path for pattern in _VOCABULARIES for path in folder.glob(pattern)):
        return None
    try:
        tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(source, **options)
    except (OSError, KeyError, ValueError, TypeError, AttributeError):  # what it raises where there is none
        return None
    # Without any file some classes begin an empty vocabulary, in which every word would be unknown.
    return tokenizer if len(tokenizer) > len(tokenizer.all_special_tokens) else None


def _kind(transformers: ModuleType, model: PreTrainedModel) -> Kind:
    config = model.config
    if config.is_encoder_decoder:
        return "encoder-decoder"
    if getattr(config, "is_decoder", False) or model.can_generate():
        return "decoder"
    # A bare body, without a head: of a family that only writes?
    writes, fills = transformers.MODEL_FOR_CAUSAL_LM_MAPPING, transformers.MODEL_FOR_MASKED_LM_MAPPING
    return "decoder" if type(config) in writes and type(config) not in fills else "encoder"


def _maximum_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> int | None:
    """The smallest limit that the configuration, the tokenizer or the table of positions states."""
    config = model.config.get_text_config(decoder=True)
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "max_target_positions")]
    limits.append(tokenizer.model_max_length if tokenizer is not None else None)
    for path, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if path.endswith("position_embeddings") and padding is not None:  # RoBERTa counts from there
            limits.append(module.num_embeddings - padding - 1)
    found = [int(limit) for limit in limits if limit is not None and 0 < limit < _NO_LIMIT]
    return min(found, default=None)


def _title(name: str, folder: Path | None) -> str:
    if any(model.name == name for model in catalogue()):
        return entry(name).title
    if folder is not None and folder != distributed_folder(name):
        place = folder.resolve()
        title = place.name
        while _CHECKPOINT.fullmatch(place.name) and place.parent.name:
            place = place.parent
            title = f"{place.name}/{title}"
        return title
    return name.rsplit("/", 1)[-1]


def _hub_answers() -> bool:
    """Whether the hub's host can be found at all: transformers tries for half a minute before it gives up."""
    if any(os.environ.get(proxy) for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    host = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _explained(name: str, folder: Path | None, *, offline: bool) -> Iterator[None]:
    """Whatever transformers raises on a checkpoint becomes one ``ModelError`` that says what to do."""
    try:
        yield
    except Exception as error:
        raise ModelError(_explanation(name, folder, error, offline=offline)) from error


def _explanation(name: str, folder: Path | None, error: Exception, *, offline: bool) -> str:
    said = str(error).strip().split("\n")[0]
    if "trust_remote_code" in str(error):
        return f"model {name!r} brings its own Python code: pass trust_remote_code=True if you trust its author."
    if isinstance(error, ImportError):
        return f"model {name!r} needs a package that is missing: {said}"
    if folder is not None:
        return f"model folder {str(folder)!r} cannot be read: {said}"
    if "safetensors" in str(error):
        return f"model {name!r} has no safetensors weights on the hub, and qkv reads no other: {said}"
    names = ", ".join(model.name for model in catalogue())
    missing = f"There is no folder {name!r}, and it is not in the catalogue ({names}).{close_names(name)}"
    if offline:
        return f"{missing} As a hub name it was not found on this machine, and the hub cannot be reached."
    return f"{missing} The hub says: {said}"
