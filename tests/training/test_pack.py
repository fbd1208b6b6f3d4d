"""A finished run becomes a distribution: pip installs it, and its model is found by name."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from made_corpus import TINY, made_corpus
from qkv import ArgumentError, ModelError, pretrained
from qkv.cli._app import app
from qkv.models import Translator
from qkv.training import new_translator, pack, train, translate
from qkv.training._pack import command_of, name_of

SCORES = [{"set": "test", "pairs": 5, "bleu": 31.25, "chrf": 50.0, "bleu_signature": "b", "chrf_signature": "c"}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    corpus = made_corpus(folder / "corpus")
    manifest = corpus.folder / "manifest.json"
    facts = json.loads(manifest.read_text())
    for source in facts["sources"]:
        source["licence"] = "CC0-1.0"
    manifest.write_text(json.dumps(facts))
    from qkv.training import open_corpus

    train([open_corpus(corpus.folder)], folder / "model", TINY, new_translator, updates=10, every=10)
    return folder / "model"


@pytest.fixture(scope="module")
def installed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip put the distribution."""
    folder = tmp_path_factory.mktemp("packed")
    (folder / "CC0").write_text("Public domain.")
    place = pack(run, folder / "translator-en-fr", licence="CC0-1.0", licence_file=folder / "CC0", scores=SCORES)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(place)], check=True)
    return folder / "site"


def test_the_installed_model_is_found_and_translates(
    run: Path, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else is installed here: only what lies in that folder is looked at."""
    from qkv.pretrained import _distributions

    def only_in(*folders: str) -> None:
        points = [point for each in distributions(path=[*folders]) for point in each.entry_points]
        monkeypatch.setattr(
            _distributions, "entry_points", lambda group: [point for point in points if point.group == group]
        )

    only_in()
    with pytest.raises(ModelError, match="model 'translator' is not installed: train one with"):
        pretrained.load("translator")
    monkeypatch.syspath_prepend(str(installed))
    only_in(str(installed))
    found = pretrained.distributed()["translator-en-fr"]
    assert found.folder == installed / "qkv_translator_en_fr" / "model"
    assert found.licence == "CC0-1.0"
    assert "CC0-1.0" in CliRunner().invoke(app, ["models"]).output
    told = json.loads(CliRunner().invoke(app, ["models", "--json"]).output)["distributions"]
    assert told == {"translator-en-fr": {"path": str(found.folder), "licence": "CC0-1.0"}}
    for name in ("translator", "translator-en-fr"):
        opened = pretrained.load(name)
        assert opened.title == name
        assert opened.model.dtype == torch.float32
    trained = Translator.from_pretrained(run)
    for mine, theirs in zip(trained.parameters(), opened.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)  # float16 in between
    assert len(translate(opened.model, opened.text_tokenizer(), ["A cat sees a dog."], to="fr")) == 1


def test_it_says_where_it_came_from(run: Path, installed: Path) -> None:
    model = installed / "qkv_translator_en_fr" / "model"
    assert (model / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    text = (installed.parent / "translator-en-fr" / "README.md").read_text()
    facts = json.loads((run / "run.json").read_text())
    assert "\nqkv data build toy.tsv --pair en-fr --out data/en-fr\n" in text
    assert f"\n{command_of(facts)} --out translator-en-fr\n" in text
    assert "\nqkv evaluate data/en-fr --model translator-en-fr\n" in text
    assert [file.read_text() for file in installed.glob("*.dist-info/**/LICENSE")] == ["Public domain."]
    assert json.loads((model / "run.json").read_text())["data"][0]["folder"] == "data/en-fr"
    assert not [file for file in model.iterdir() if str(run.parent).encode() in file.read_bytes()]
    assert "--size tiny --vocabulary 340 --tokens 256 --rate 0.003 --warmup 20 --seed 1 --steps 10" in text
    assert "| test | 5 | 31.2 | 50.0 |" in text
    assert "| CC0-1.0 |" in text
    assert (model / "model.safetensors").stat().st_size < 0.6 * (run / "model.safetensors").stat().st_size


def test_both_versions_of_transformers_know_the_tokenizer(installed: Path) -> None:
    """4.57 has no class TokenizersBackend, and takes a dictionary of extra special tokens."""
    model = installed / "qkv_translator_en_fr" / "model"
    settings = json.loads((model / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not {"backend", "extra_special_tokens"} & settings.keys()


def test_it_is_called_after_what_it_reads_and_then_what_it_writes() -> None:
    def called(*pairs: str) -> str:
        return name_of({"data": [{"languages": pair.split("-")} for pair in pairs]})

    assert called("en-fr") == "translator-en-fr"
    assert called("en-zh", "en-de") == "translator-en-zh-de"


def test_what_is_not_given_away(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="run: expected a folder that 'qkv train' wrote"):
        pack(tmp_path, tmp_path / "out", licence="MIT")
    facts = json.loads((run / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({name: facts[name] for name in ("settings", "data")}))
    with pytest.raises(ArgumentError, match=r"run: the training in .* is not over"):
        pack(tmp_path, tmp_path / "out", licence="MIT")
    manifest = Path(facts["data"][0]["folder"]) / "manifest.json"
    before = manifest.read_text()
    try:
        manifest.write_text(before.replace("CC0-1.0", "not stated"))
        with pytest.raises(ArgumentError, match="no longer holds the text that the run was trained on"):
            pack(run, tmp_path / "out", licence="MIT")
        from qkv.training import open_corpus

        facts["data"][0]["digest"] = open_corpus(manifest.parent).digest
        (tmp_path / "run.json").write_text(json.dumps(facts))
        with pytest.raises(ArgumentError, match="states no licence: what it trained is not given away"):
            pack(tmp_path, tmp_path / "out", licence="MIT")
        manifest.write_text(before.replace('"shipped": true', '"shipped": false'))
        facts["data"][0]["digest"] = open_corpus(manifest.parent).digest
        (tmp_path / "run.json").write_text(json.dumps(facts))
        with pytest.raises(ArgumentError, match="is not for weights that go out"):
            pack(tmp_path, tmp_path / "out", licence="MIT")
    finally:
        manifest.write_text(before)
    with pytest.raises(ArgumentError, match="licence_file: expected a file with the licence's text"):
        pack(run, tmp_path / "out", licence="MIT", licence_file=tmp_path / "none")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ArgumentError, match="is there already: name a new folder"):
        pack(run, tmp_path, licence="MIT")
