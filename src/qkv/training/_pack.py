"""A trained run as a distribution that pip installs: weights in 16 bits, and all that says where they came from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import ArgumentError
from ..pretrained._distributions import FOLDER, GROUP
from ._corpus import open_corpus
from ._run import METRICS, PLOT, RUN
from ._settings import Settings
from .data.readers._table import FORMATS

LARGEST = 40_000_000
"""Bytes of weights that a repository should hold at most."""
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
UNSTATED = "not stated"


def pack(
    run: Path,
    out: Path,
    *,
    licence: str,
    licence_file: Path | None = None,
    scores: Sequence[dict[str, Any]] = (),
    version: str = "1.0",
) -> Path:
    """Write a distribution ``qkv-translator-SOURCE-TARGET`` of a finished run into a new folder.

    It holds the model with float16 weights, the training log with its curve, ``run.json``, and a README with sources,
    their licences, scores and the exact command. Installed, `qkv.pretrained` finds it as ``translator-en-fr``.

    Args:
        run: the folder of a run that is over.
        out: the distribution's folder; must not be there.
        licence: of the weights, an SPDX expression: it must suit the licences of all sources.
        licence_file: its text, where it asks to be given along; becomes ``LICENSE``.
        scores: what ``qkv evaluate --json`` printed under ``scores``.
        version: of the distribution.

    Returns:
        ``out``.

    Raises:
        ArgumentError: where the run is not over, its data are not what it was trained on, a source states no licence or
            must not be shipped, the licence's text cannot be read, or the weights are too large.
    """
    if out.exists():
        raise ArgumentError(f"out: {out} is there already: name a new folder")
    facts = _facts(run)
    corpora = [_manifest(data) for data in facts["data"]]
    name = name_of(facts)
    package = f"qkv_{name.replace('-', '_')}"
    temporary = out.with_name(f".{out.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    model = temporary / "src" / package / FOLDER
    try:
        size = _write_model(run, model)
        if licence_file is not None:
            _copy_licence(licence_file, temporary)
        for file in (METRICS, PLOT):
            shutil.copyfile(run / file, model / file)
        (model / RUN).write_text(
            json.dumps(_without_paths(facts), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        (model.parent / "__init__.py").write_text(f'"""The model {name}, for qkv."""\n', encoding="utf-8")
        (temporary / "pyproject.toml").write_text(_project(name, package, licence, version), encoding="utf-8")
        text = _readme(name, licence, facts, corpora, scores, size)
        (temporary / "README.md").write_text(text, encoding="utf-8")
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def name_of(facts: dict[str, Any]) -> str:
    """``translator-``, the languages that it reads, and those that it writes, out of a ``run.json``."""
    sides = zip(*(data["languages"] for data in facts["data"]), strict=True)
    return "-".join(["translator", *dict.fromkeys(language for side in sides for language in side)])


def command_of(facts: dict[str, Any]) -> str:
    """The command that trained a run, out of its ``run.json``."""
    given, usual = facts["settings"], vars(Settings())
    options = [f"--{name} {value}" for name, value in given.items() if value != usual[name]]
    sets = [data["folder"] for data in _without_paths(facts)["data"]]
    steps = facts.get("updates", facts["result"]["updates"])  # the schedule's length, where the run ended before
    return " ".join(["qkv train translation", *sets, *options, f"--steps {steps}"])


def _without_paths(facts: dict[str, Any]) -> dict[str, Any]:
    """The same without the folders of this machine: where it keeps its data is nobody's business."""
    data = [{**each, "folder": f"data/{'-'.join(each['languages'])}"} for each in facts["data"]]
    return {**facts, "data": data}


def _facts(run: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((run / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArgumentError(f"run: expected a folder that 'qkv train' wrote, got {run} ({error})") from error
    if "result" not in facts:
        raise ArgumentError(f"run: the training in {run} is not over: the same command goes on with it")
    return facts


def _manifest(data: dict[str, Any]) -> dict[str, Any]:
    folder = Path(data["folder"])
    if open_corpus(folder).digest != data["digest"]:
        raise ArgumentError(f"run: {folder} no longer holds the text that the run was trained on")
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for source in manifest["sources"]:
        if not source.get("licence") or UNSTATED in source["licence"]:
            raise ArgumentError(
                f"run: the source {source['name']!r} of {folder} states no licence: what it trained is not given away"
            )
        if not source.get("shipped", True):
            raise ArgumentError(
                f"run: the source {source['name']!r} of {folder} is not for weights that go out ({source['licence']}): "
                "build the data without --everything, and train on that"
            )
    return manifest


def _write_model(run: Path, folder: Path) -> int:
    """Weights in float16, configuration and tokenizer; the bytes of the weights."""
    from ..models import Translator

    Translator.from_pretrained(run, dtype=torch.float16).save_pretrained(folder)
    _write_tokenizer(run, folder)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if size > LARGEST:
        raise ArgumentError(f"run: expected at most {LARGEST:,} bytes of weights, got {size:,}: train a smaller --size")
    return size


def _write_tokenizer(run: Path, folder: Path) -> None:
    """As versions 4 and 5 of transformers read it: 5 writes a class, and a name for the tags, that 4 does not know."""
    for name in TOKENIZER:
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings.pop("backend", None)
    if tags := settings.pop("extra_special_tokens", None):
        settings["additional_special_tokens"] = tags
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _copy_licence(file: Path, folder: Path) -> None:
    try:
        shutil.copyfile(file, folder / "LICENSE")
    except OSError as error:
        raise ArgumentError(f"licence_file: expected a file with the licence's text, got {file}: {error}") from error


def _project(name: str, package: str, licence: str, version: str) -> str:
    return f"""[build-system]
requires = ["scikit-build-core>=0.10"]
build-backend = "scikit_build_core.build"

[project]
name = "qkv-{name}"
version = "{version}"
description = "The model {name}, for qkv"
readme = "README.md"
license = "{licence}"
requires-python = ">=3.10"

[project.entry-points."{GROUP}"]
{name} = "{package}"

[tool.scikit-build]
wheel.cmake = false
wheel.platlib = false
wheel.py-api = "py3"
wheel.packages = ["src/{package}"]
"""


def _built_from(manifest: dict[str, Any]) -> str:
    """What ``qkv data build`` was given: a recipe, or a file of the owner's own, which a recipe is named after."""
    files = [package["name"] for source in manifest["sources"] for package in source.get("packages", ())]
    own = len(files) == 1 and files[0].endswith(FORMATS)
    return str(files[0] if own else manifest["recipe"])


def _readme(
    name: str,
    licence: str,
    facts: dict[str, Any],
    corpora: Sequence[dict[str, Any]],
    scores: Sequence[dict[str, Any]],
    size: int,
) -> str:
    result, versions = facts["result"], facts["versions"]
    lines = [
        f"# {name}",
        "",
        f"A translator for qkv, {size / 1e6:.1f} MB of float16 weights. Licence: {licence}.",
        "",
        "```sh",
        "pip install .",
        f'qkv translate "Where is the station?" --model {name}',
        f'qkv look "Where is the station?" --model {name}',
        "```",
        "",
        "## How it was trained",
        "",
        "```sh",
        *(
            f"qkv data build {_built_from(each)} --pair {'-'.join(each['languages'])} --out {data['folder']}"
            for each, data in zip(corpora, _without_paths(facts)["data"], strict=True)
        ),
        f"{command_of(facts)} --out {name}",
        *(f"qkv evaluate {data['folder']} --model {name}" for data in _without_paths(facts)["data"]),
        "```",
        "",
        f"{result['updates']:,} updates, validation loss {result['validation']:.4f} ({result['weights']}); "
        + ", ".join(f"{package} {version}" for package, version in versions.items())
        + f". The log is `{METRICS}` beside the weights, its curve `{PLOT}`.",
        "",
        "## Scores",
        "",
    ]
    if scores:
        lines += ["| set | pairs | BLEU | chrF |", "|---|--:|--:|--:|"]
        lines += [f"| {row['set']} | {row['pairs']} | {row['bleu']:.1f} | {row['chrf']:.1f} |" for row in scores]
        lines += ["", f"BLEU {scores[0]['bleu_signature']}; chrF {scores[0]['chrf_signature']}."]
    else:
        lines.append("Not measured.")
    lines += ["", "## Sources", "", "| source | licence | pairs | packages |", "|---|---|--:|---|"]
    for each in corpora:
        for source in each["sources"]:
            packages = ", ".join(f"{package['name']} {package['version']}" for package in source.get("packages", ()))
            lines.append(f"| {source['name']} | {source['licence']} | {source['pairs']:,} | {packages} |")
    return "\n".join(lines) + "\n"
