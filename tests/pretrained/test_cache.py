"""Where the cache lies, what it takes, and how a model leaves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from qkv import ModelError, pretrained
from qkv.pretrained import Entry


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QKV_CACHE", str(tmp_path / "mine"))
    assert pretrained.cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("QKV_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert pretrained.cache_folder() == tmp_path / "xdg" / "qkv"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the XDG base directory specification
    monkeypatch.setenv("HOME", str(tmp_path))
    assert pretrained.cache_folder() == tmp_path / ".cache" / "qkv"


def test_looking_creates_nothing(cache: Path) -> None:
    assert pretrained.installed() == ()
    assert pretrained.disk_usage() == 0
    assert not cache.exists()


def test_remove_frees_what_disk_usage_counts(shipped: Entry, cache: Path) -> None:
    folder = pretrained.get("minilm")
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert pretrained.disk_usage("minilm") == pretrained.disk_usage() == size
    assert pretrained.remove("minilm") == size
    assert pretrained.installed() == ()
    assert pretrained.disk_usage() == 0
    assert [path for path in cache.rglob("*") if path.is_file() and path.parent.name != "locks"] == []


def test_remove_takes_what_an_interrupted_get_left(shipped: Entry, cache: Path) -> None:
    leftover = cache / "models" / ".minilm.partial-x"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half")
    assert pretrained.remove("minilm") == 4
    assert not leftover.exists()


def test_remove_of_what_is_not_there(shipped: Entry, cache: Path) -> None:
    with pytest.raises(ModelError, match=r"'minilm' is not in the cache .* nothing to remove"):
        pretrained.remove("minilm")
    with pytest.raises(ModelError, match="'minlm' is not in the catalogue"):
        pretrained.remove("minlm")


def test_every_entry_is_complete() -> None:
    for model in pretrained.catalogue():
        assert len(model.sha256) == 64
        assert model.archive.startswith(model.package.replace("-", "_") + "-" + model.version)
        assert pretrained.entry(model.name) is model
