"""The builder: what ends up in which set, what is kept between builds, and what goes wrong clearly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_packages as make
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv.errors import ArgumentError, DependencyError
from qkv.training import open_corpus
from qkv.training.data import Built, Packages, Recipe, build, load_recipe, table_recipe
from qkv.training.data._clean import clean, is_kept, normalised, words
from qkv.training.data._pair import Pair
from qkv.training.data._recipe import Cleaning, Source
from qkv.training.data._split import key_of, set_of
from qkv.training.data.readers import READERS

parquet = pytest.importorskip("pyarrow.parquet")

MESSAGES = {
    f"Open the {noun} number {n}": f"Ouvrir le {noun} numéro {n}" for noun in ("file", "door") for n in "abcdefgh"
}
HELD = {"Play the sound again": "Rejouer le son", "Open the file number a": "Ouvrir le fichier a"}


def recipe_of(**options: int) -> Recipe:
    sources = (
        Source("programs", "gettext", "GPL-3.0-or-later", ("tool",), ("fr", "zh")),
        Source("held", "gettext", "GPL-3.0-or-later", ("player",), ("fr",), held_out="application"),
        Source("unclear", "gettext", "not stated", ("unclear",), ("fr",), shipped=False),
    )
    return Recipe("small", "a few messages", sources, **{"validation": 200, "test": 200, **options})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Packages as somebody might bring them."""
    debs = tmp_path / "debs"
    debs.mkdir()
    unclear = {"What is this about": "De quoi parle-t-on"}
    for name, messages in (("tool", MESSAGES), ("player", HELD), ("unclear", unclear)):
        make.write_deb(debs, name, {make.locale_path("fr"): make.catalogue(messages, tmp_path)})
    return debs


def built(folder: Path, out: Path, recipe: Recipe | None = None, **options: object) -> Built:
    kept = out.parent / "kept"
    return build(recipe or recipe_of(), ("en", "fr"), out, Packages(kept, folder), **options)  # type: ignore[arg-type]


def sources_of(out: Path) -> dict[str, set[str]]:
    return {file.stem: set(parquet.read_table(file)["source"].to_pylist()) for file in out.glob("*.parquet")}


def test_every_sentence_is_in_one_set(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    result = built(folder, out)
    sets = sources_of(out)
    assert sets.keys() == {"train", "validation", "test", "test-application"}
    assert sets["test-application"] == set(HELD)
    together = [text for texts in sets.values() for text in texts]
    assert sorted(together) == sorted(MESSAGES | HELD)
    assert all(set_of(key_of(text), recipe_of()) == name for name in ("train", "test") for text in sets[name])
    assert result.counts == {name: len(texts) for name, texts in sets.items()}


def test_manifest_says_what_went_in(folder: Path, tmp_path: Path):
    built(folder, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["languages"] == ["en", "fr"]
    (tool,) = (source for source in manifest["sources"] if source["name"] == "programs")
    assert tool["licence"] == "GPL-3.0-or-later"
    assert tool["packages"][0]["name"] == "tool"
    assert tool["packages"][0]["version"] == "1.0-1"
    assert len(tool["packages"][0]["sha256"]) == 64
    assert "unclear" not in {source["name"] for source in manifest["sources"]}


def test_manifest_says_what_may_not_go_out(folder: Path, tmp_path: Path):
    built(folder, tmp_path / "out", only_shippable=False)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    shipped = {source["name"]: source["shipped"] for source in manifest["sources"]}
    assert shipped == {"programs": True, "held": True, "unclear": False}


def test_run_on_an_earlier_build_knows_its_data(folder: Path, tmp_path: Path):
    """Earlier manifests did not say which sources may go out, and one of them stated a licence wrongly."""
    built(folder, tmp_path / "out")
    file = tmp_path / "out" / "manifest.json"
    now, manifest = open_corpus(tmp_path / "out").digest, json.loads(file.read_text())
    for source in manifest["sources"]:
        del source["shipped"]
    content = json.dumps(manifest, indent=2, ensure_ascii=False).encode()
    assert now == hashlib.sha256(content).hexdigest()
    manifest["sources"][0]["licence"] = "MIT"
    file.write_text(json.dumps(manifest, indent=2, ensure_ascii=False))
    before = open_corpus(tmp_path / "out").digest
    assert before != now
    for _ in range(2):
        built(folder, tmp_path / "out")
        assert open_corpus(tmp_path / "out").digest == before
    assert "MIT" not in file.read_text()
    messages = {"A wholly new message": "Un message tout nouveau"}
    make.write_deb(folder, "player", {make.locale_path("fr"): make.catalogue(messages, tmp_path)})
    built(folder, tmp_path / "out")
    assert open_corpus(tmp_path / "out").digest not in (before, now)


def test_licence_that_is_corrected_changes_no_text(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out, recipe = tmp_path / "out", recipe_of()
    built(folder, out)
    before = open_corpus(out)
    monkeypatch.setattr("qkv.training.data._build.READERS", {})
    built(folder, out, replace(recipe, sources=tuple(replace(each, licence="GPL-2.0-only") for each in recipe.sources)))
    assert open_corpus(out) == before
    manifest = json.loads((out / "manifest.json").read_text())
    assert {source["licence"] for source in manifest["sources"]} == {"GPL-2.0-only"}


def test_text_without_a_licence_is_left_out_unless_asked_for(folder: Path, tmp_path: Path):
    built(folder, tmp_path / "out", only_shippable=False)
    assert any("What is this about" in texts for texts in sources_of(tmp_path / "out").values())


def test_pair_reversed_swaps_the_columns(folder: Path, tmp_path: Path):
    build(recipe_of(), ("fr", "en"), tmp_path / "out", Packages(tmp_path, folder))
    assert set(HELD.values()) == sources_of(tmp_path / "out")["test-application"]


def test_pair_reversed_has_no_source_in_two_sets(tmp_path: Path):
    """Two English originals of one French sentence, which by their own letters would go to two sets."""
    recipe = recipe_of()
    by_set = {set_of(key_of(text), recipe): text for text in MESSAGES}
    messages = {
        by_set["train"]: "Le même message",
        by_set["test"]: "Le même message !",
        "One more text": "Un tout autre message",
    }
    (tmp_path / "debs").mkdir()
    make.write_deb(tmp_path / "debs", "tool", {make.locale_path("fr"): make.catalogue(messages, tmp_path)})
    recipe = replace(recipe, sources=recipe.sources[:1])
    build(recipe, ("fr", "en"), tmp_path / "out", Packages(tmp_path, tmp_path / "debs"))
    sets = sources_of(tmp_path / "out")
    keys = [key_of(text) for texts in sets.values() for text in texts]
    assert len(keys) == len(set(keys)) == 2
    assert all(set_of(key_of(text), recipe) == name for name, texts in sets.items() for text in texts)


def test_second_build_reads_no_package_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = built(folder, tmp_path / "out")
    monkeypatch.setattr("qkv.training.data.readers.READERS", {})
    monkeypatch.setattr("qkv.training.data._build.READERS", {})
    assert built(folder, tmp_path / "out") == first


def test_build_that_was_cut_off_reads_only_what_is_missing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Cut off in the middle of the second source: the first is kept, and of the second nothing half-written."""
    whole = built(folder, tmp_path / "whole")
    read, cut = READERS["gettext"], True
    seen: list[str] = []

    def reading(packages: Sequence[Path], language: str, options: Mapping[str, Any]) -> Iterator[Pair]:
        seen.append(packages[0].name.partition("_")[0])
        for number, pair in enumerate(read(packages, language, options)):
            if cut and len(seen) == 2 and number == 3:
                raise KeyboardInterrupt
            yield pair

    monkeypatch.setitem(READERS, "gettext", reading)
    with pytest.raises(KeyboardInterrupt):
        built(folder, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.*"))
    assert len(list((tmp_path / "out" / "parts").iterdir())) == 1
    cut = False
    assert built(folder, tmp_path / "out").counts == whole.counts
    assert seen == ["player", "tool", "tool"]
    assert sources_of(tmp_path / "out") == sources_of(tmp_path / "whole")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == (tmp_path / "whole" / "manifest.json").read_bytes()


def test_package_that_changed_is_read_again_with_a_warning(folder: Path, tmp_path: Path):
    built(folder, tmp_path / "out")
    messages = {"A wholly new message": "Un message tout nouveau"}
    make.write_deb(folder, "player", {make.locale_path("fr"): make.catalogue(messages, tmp_path)})
    again = built(folder, tmp_path / "out")
    assert len(again.warnings) == 1
    assert "player 1.0-1 is not the file that the last build read" in again.warnings[0]
    assert sources_of(tmp_path / "out")["test-application"] == set(messages)


def test_missing_package_names_itself_and_the_folder(tmp_path: Path):
    (tmp_path / "debs").mkdir()
    with pytest.raises(ArgumentError, match=r"expected player_\*\.deb in .*debs, which has none"):
        built(tmp_path / "debs", tmp_path / "out")


def test_without_apt_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DependencyError, match="--packages DIR"):
        build(recipe_of(), ("en", "fr"), tmp_path / "out", Packages(tmp_path / "kept"))


def write_apt(folder: Path, script: str) -> None:
    """An ``apt-get`` that is a script of the shell's own words."""
    folder.mkdir()
    (folder / "apt-get").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "apt-get").chmod(0o755)


def test_packages_come_through_apt_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = tmp_path / "asked"
    write_apt(tmp_path / "bin", f'echo "$@" >> {asked}; shift 2; exec /bin/cp {folder}/"$1"_*.deb .')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    expected = built(folder, tmp_path / "expected")
    kept = tmp_path / "apt"
    for _ in range(2):
        assert build(recipe_of(), ("en", "fr"), tmp_path / "out", Packages(kept)).counts == expected.counts
    assert asked.read_text().splitlines() == ["download -q player", "download -q tool"]
    assert sorted(file.name for file in kept.iterdir()) == ["player_1.0-1_all.deb", "tool_1.0-1_all.deb"]


def test_package_that_apt_does_not_have_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_apt(tmp_path / "bin", 'echo "E: Unable to locate package $3" >&2; exit 100')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ArgumentError, match=r"package player could not be fetched \(E: Unable .* player\)"):
        build(recipe_of(), ("en", "fr"), tmp_path / "out", Packages(tmp_path / "kept"))
    assert not list((tmp_path / "kept").iterdir())


def test_unknown_pair_names_those_there_are(folder: Path, tmp_path: Path):
    for pair in (("en", "it"), ("it", "fr")):  # the recipe's own texts are English
        with pytest.raises(ArgumentError, match=rf"expected one of en-fr, en-zh, .* got {'-'.join(pair)}"):
            build(recipe_of(), pair, tmp_path / "out", Packages(tmp_path, folder))


def test_own_table(tmp_path: Path):
    file = tmp_path / "own.tsv"
    file.write_text("".join(f"Sentence {'x' * n}\tPhrase {'x' * n}\n" for n in range(1, 200)))
    result = build(table_recipe(file, "it"), ("en", "it"), tmp_path / "out", Packages(tmp_path / "kept"))
    assert sum(result.counts.values()) == 199
    assert all(result.counts[name] for name in ("train", "validation", "test"))


@pytest.mark.parametrize(
    ("languages", "rows", "kept"),
    [
        (("zh", "en"), [("打开文件", "Open the file"), ("Open it", "打开它吧")], ["打开文件"]),
        (
            ("en", "ja"),
            [("Open the file", "ファイルを開く"), ("It is cold", "さむいです"), ("全部好", "さむいですね")],
            ["Open the file", "It is cold"],
        ),
    ],
)
def test_own_text_is_judged_by_the_scripts_of_both_languages(
    languages: tuple[str, str], rows: list[tuple[str, str]], kept: list[str], tmp_path: Path
):
    file = tmp_path / "own.tsv"
    file.write_text("".join(f"{text}\t{translation}\n" for text, translation in rows), encoding="utf-8")
    recipe = replace(table_recipe(file, languages[1]), validation=0, test=0)
    build(recipe, languages, tmp_path / "out", Packages(tmp_path / "kept"))
    assert parquet.read_table(tmp_path / "out" / "train.parquet")["source"].to_pylist() == kept


def test_own_text_keeps_its_underscores(tmp_path: Path):
    file = tmp_path / "own.tsv"
    file.write_text("Call snake_case of AT&t\tAppelez snake_case de AT&t\n")
    recipe = replace(table_recipe(file, "fr"), validation=0, test=0)
    build(recipe, ("en", "fr"), tmp_path / "out", Packages(tmp_path / "kept"))
    (row,) = parquet.read_table(tmp_path / "out" / "train.parquet").to_pylist()
    assert (row["source"], row["target"]) == ("Call snake_case of AT&t", "Appelez snake_case de AT&t")


def test_nothing_left_is_an_error(tmp_path: Path):
    file = tmp_path / "own.tsv"
    file.write_text("1234\t5678\n")
    with pytest.raises(ArgumentError, match="nothing is left of own"):
        build(table_recipe(file, "it"), ("en", "it"), tmp_path / "out", Packages(tmp_path / "kept"))


@pytest.mark.parametrize(("name", "message"), [("nothing.tsv", "does not exist"), ("own.doc", "ends in .tsv")])
def test_own_table_must_be_one(tmp_path: Path, name: str, message: str):
    (tmp_path / "own.doc").write_text("")
    with pytest.raises(ArgumentError, match=message):
        table_recipe(tmp_path / name, "fr")


def test_shipped_recipe_names_known_readers_and_licences():
    recipe = load_recipe("translation")
    assert all(source.reader in READERS and source.licence for source in recipe.sources)
    assert {source.held_out for source in recipe.sources} == {None, "application", "book"}
    with pytest.raises(ArgumentError, match="expected one of translation"):
        load_recipe("nothing")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("_Save As…", "Save As…"),
        ("Save &As", "Save As"),
        ("保存(_S)", "保存"),
        ("a  b\n c", "a b c"),
        ("<b>x</b> &lt;", "x <"),
    ],
)
def test_clean(text: str, expected: str):
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("text", "translation", "language", "kept"),
    [
        ("The file is open", "Le fichier est ouvert", "fr", True),
        ("The file is open", "文件已经打开", "zh", True),
        ("The file is open", "Le fichier est ouvert", "zh", False),  # not Chinese
        ("The file is open", "The file is open", "fr", False),  # not translated
        ("The file %s is open", "Le fichier est ouvert", "fr", False),  # a placeholder is lost
        ("The file is open", "Le " * 12, "fr", False),  # far too long
        ("10 20 30 40", "dix vingt trente quarante", "fr", False),  # no letters
        ("Open it", "Ouvrez-le", "fr", False),  # too short
    ],
)
def test_is_kept(text: str, translation: str, language: str, kept: bool):
    assert is_kept(Pair(text, translation.strip(), ""), Cleaning(), ("en", language)) is kept


@given(st.text(max_size=60))
def test_cleaning_twice_changes_nothing_that_matters(text: str):
    once = clean(text)
    assert "  " not in once
    assert once == once.strip()
    assert words(once) >= 0


@given(st.text(max_size=40))
def test_set_depends_on_letters_alone(text: str):
    assert key_of(text.upper().lower()) == key_of(text.upper().lower() + " !")
    assert normalised(text + "?!") == normalised(text)
