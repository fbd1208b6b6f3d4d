"""``load``: the right head and kind for every checkpoint, and one clear sentence for whatever cannot be read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import transformers

from qkv import ModelError, pretrained
from qkv.pretrained import _load
from tiny_store import WORDS, word_tokenizer

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TEXT = {"vocab_size": len(WORDS), "max_position_embeddings": 32}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "vocab_size": len(WORDS)}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": len(WORDS)}

CASES = [
    ("BertModel", "BertConfig", SMALL | TEXT, "encoder", 32),
    ("BertForMaskedLM", "BertConfig", SMALL | TEXT, "encoder", 32),
    ("BertForSequenceClassification", "BertConfig", SMALL | TEXT, "encoder", 32),
    ("RobertaModel", "RobertaConfig", SMALL | TEXT, "encoder", 30),  # its positions begin at 2
    ("LlamaForCausalLM", "LlamaConfig", SMALL | TEXT, "decoder", 32),
    ("GPT2LMHeadModel", "GPT2Config", GPT2, "decoder", 32),
    ("GPT2Model", "GPT2Config", GPT2, "decoder", 32),
    ("T5ForConditionalGeneration", "T5Config", T5, "encoder-decoder", None),  # relative positions know no end
]


def save(folder: Path, model: str, config: str, sizes: dict[str, int]) -> Path:
    torch.manual_seed(0)
    network = getattr(transformers, model)(getattr(transformers, config)(**sizes))
    network.save_pretrained(folder)
    word_tokenizer(WORDS).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("folder", ["run/checkpoints/500", "run/checkpoint-500"])
def test_a_checkpoint_is_called_after_its_run(folder: str, tmp_path: Path) -> None:
    opened = pretrained.load(save(tmp_path / folder, *CASES[0][:3]))
    assert opened.title == folder


@pytest.mark.parametrize(("model", "config", "sizes", "kind", "length"), CASES, ids=[case[0] for case in CASES])
def test_checkpoint_gets_its_own_head(
    model: str, config: str, sizes: dict[str, int], kind: str, length: int | None, tmp_path: Path
) -> None:
    opened = pretrained.load(save(tmp_path / "tiny-model", model, config, sizes))
    assert type(opened.model).__name__ == model
    assert opened.kind == kind
    assert opened.maximum_length == length
    assert opened.title == "tiny-model"
    assert opened.path == tmp_path / "tiny-model"
    assert not opened.model.training
    assert opened.model.dtype == torch.float32
    inputs = opened.text_tokenizer()("I ate an apple", return_tensors="pt", return_token_type_ids=False)
    assert inputs["input_ids"].shape == (1, 4)


def test_half_precision_is_opened_in_float32_unless_asked(tmp_path: Path) -> None:
    folder = save(tmp_path / "half", "LlamaForCausalLM", "LlamaConfig", SMALL | TEXT)
    transformers.LlamaForCausalLM.from_pretrained(folder).half().save_pretrained(folder)
    assert pretrained.load(folder).model.dtype == torch.float32
    assert pretrained.load(folder, dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_loading_is_silent_and_leaves_logging_as_it_was(
    bert_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = save(tmp_path / "classifier", "BertForSequenceClassification", "BertConfig", SMALL | TEXT)
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pretrained.load(folder)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bars)


def test_missing_weights_are_told(tmp_path: Path) -> None:
    folder = save(tmp_path / "headless", "BertModel", "BertConfig", SMALL | TEXT)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertForSequenceClassification"]}))
    with pytest.warns(UserWarning, match=r"headless' lacks weights for classifier\.bias, classifier\.weight"):
        pretrained.load(folder)


def test_model_of_images_has_no_tokenizer(tmp_path: Path) -> None:
    config = transformers.ViTConfig(**SMALL, image_size=8, patch_size=4)
    transformers.ViTModel(config).save_pretrained(tmp_path)
    opened = pretrained.load(tmp_path)
    assert (opened.kind, opened.tokenizer, opened.maximum_length) == ("encoder", None, None)
    with pytest.raises(ModelError, match="reads pixel values: it cannot read a text"):
        opened.text_tokenizer()


def test_text_model_without_tokenizer(bert_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(bert_folder / name, tmp_path)
    with pytest.raises(ModelError, match="has no tokenizer"):
        pretrained.load(tmp_path).text_tokenizer()


def test_only_pickled_weights(bert_folder: Path, tmp_path: Path) -> None:
    shutil.copy(bert_folder / "config.json", tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only pickled weights \(pytorch_model\.bin\).*safe_serialization=True"):
        pretrained.load(tmp_path)


def test_folder_that_holds_no_model(bert_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json"):
        pretrained.load(tmp_path)
    shutil.copy(bert_folder / "config.json", tmp_path)
    with pytest.raises(ModelError, match="has no weights"):
        pretrained.load(tmp_path)


def test_truncated_weights(bert_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert_folder, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cut' cannot be read: "):
        pretrained.load(folder)


def test_unreadable_configuration(bert_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert_folder, tmp_path / "torn")
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="torn' cannot be read: "):
        pretrained.load(folder)
    (folder / "config.json").write_text('{"model_type": "nothing-known"}')
    with pytest.raises(ModelError, match="torn' cannot be read: "):
        pretrained.load(folder)


def test_code_of_a_checkpoint_does_not_run(bert_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert_folder, tmp_path / "remote")
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="brings its own Python code: pass trust_remote_code=True if you trust"):
        pretrained.load(folder)
    assert not (tmp_path / "ran").exists()


def test_code_of_a_checkpoint_runs_when_trusted(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    folder = shutil.copytree(bert_folder, tmp_path / "trusted")
    code = """
from transformers import BertConfig, BertModel
class OwnConfig(BertConfig):
    model_type = "own"
class OwnModel(BertModel):
    config_class = OwnConfig
"""
    (folder / "own_code.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own_code.OwnConfig", "AutoModel": "own_code.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    assert type(pretrained.load(folder, trust_remote_code=True).model).__name__ == "OwnModel"


def test_catalogue_name_that_was_not_fetched(cache: Path) -> None:
    with pytest.raises(ModelError, match="'minilm' is not there yet: run `qkv models get minilm`"):
        pretrained.load("minilm")


def test_folder_that_does_not_exist(tmp_path: Path) -> None:
    for name in ("./nowhere", "a/b/c", str(tmp_path / "nowhere"), Path("nowhere")):
        with pytest.raises(ModelError, match="does not exist"):
            pretrained.load(name)


def test_file_instead_of_a_folder(bert_folder: Path) -> None:
    with pytest.raises(ModelError, match="is a file: a model is a folder"):
        pretrained.load(bert_folder / "model.safetensors")


def test_unknown_name_without_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_load, "_hub_answers", lambda: False)
    with pytest.raises(ModelError) as raised:
        pretrained.load("smolm2")
    message = str(raised.value)
    assert "no folder 'smolm2'" in message
    assert "catalogue (minilm, smollm2" in message
    assert "Did you mean 'smollm2'?" in message
    assert "hub cannot be reached" in message


def test_hub_that_cannot_be_found_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    assert not _load._hub_answers()
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
    assert _load._hub_answers()  # the proxy finds hosts that this machine cannot


def test_hub_name_in_the_hubs_own_cache(bert_folder: Path, tmp_path: Path) -> None:
    commit = "0" * 40
    store = tmp_path / "models--org--tiny"
    shutil.copytree(bert_folder, store / "snapshots" / commit)
    (store / "refs").mkdir()
    (store / "refs" / "main").write_text(commit)
    lines = "from qkv import pretrained as p; found = p.load('org/tiny'); print(found.name, found.title, found.path)"
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, env=environment)
    assert done.stdout == "org/tiny tiny None\n", done.stderr
