"""A small corpus made on the spot: sentences of a toy grammar, and their translations."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from qkv.training import Corpus, Settings, open_corpus
from qkv.training import data as room

NOUNS = {"cat": "chat", "dog": "chien", "bird": "oiseau", "horse": "cheval"}
VERBS = {"sees": "voit", "follows": "suit", "likes": "aime"}
ENDINGS = {"": "", " today": " aujourd'hui", " in the old garden": " dans le vieux jardin"}

SENTENCES = [
    (f"A {one} {verb} a {two}{end}.", f"Un {NOUNS[one]} {VERBS[verb]} un {NOUNS[two]}{ENDINGS[end]}.")
    for one, verb, two, end in itertools.product(NOUNS, VERBS, NOUNS, ENDINGS)
]
"""144 pairs of 5 to 9 words."""

TINY = Settings(size="tiny", vocabulary=340, tokens=256, rate=3e-3, warmup=20, seed=1)


def write_table(file: Path, pairs: list[tuple[str, str]] = SENTENCES) -> Path:
    file.write_text("".join(f"{source}\t{target}\n" for source, target in pairs), encoding="utf-8")
    return file


def made_corpus(folder: Path) -> Corpus:
    """The sentences as a built data set."""
    folder.mkdir(parents=True, exist_ok=True)
    table = write_table(folder / "toy.tsv")
    room.build(room.table_recipe(table, "fr"), ("en", "fr"), folder / "toy", room.Packages(folder / "packages", None))
    return open_corpus(folder / "toy")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Tiny models run fastest in one thread, on a machine whose other cores are busy above all."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QKV_THREADS", "1")
        patch.setenv("OMP_NUM_THREADS", "1")  # of processes that a test starts
        yield
    torch.set_num_threads(before)
