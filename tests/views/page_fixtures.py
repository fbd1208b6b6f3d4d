"""Sample answers for the page's own tests: ``python tests/views/page_fixtures.py`` writes them to web/tests/fixtures/.

Real answers about minilm reading the example sentence; ``test_page_fixtures.py`` holds them to the contract.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qkv.trace import Trace
from qkv.views.answers import Answers

FOLDER = Path(__file__).parents[2] / "web/tests/fixtures"
TEXT = "The animal didn't cross the street because it was too tired"
IT, ANIMAL = 10, 2


def write(trace: Trace, folder: Path = FOLDER) -> None:
    """Write the answers about ``trace``: JSON, and the values of binary ones as little-endian float32."""
    folder.mkdir(parents=True, exist_ok=True)
    answers = Answers(trace)
    head = ("encoder", 3, 1)
    json_answers: dict[str, Mapping[str, Any]] = {
        "overview": answers.overview(),
        "head": answers.head(*head),
        "row": answers.row(*head, IT),
        "pair": answers.pair(*head, IT, ANIMAL),
        "derivation": answers.derivation("encoder", 3),
        "embedded": Answers(trace, only_layers=[3]).embedded(),
    }
    for name, (header, values) in {
        "window": answers.window(*head, (0, 15), (0, 15)),
        "window-blocks": answers.window(*head, (1, 15), (0, 15), side=4),
        "thumbnails": answers.thumbnails("encoder"),
    }.items():
        json_answers[name] = header
        (folder / f"{name}.f32").write_bytes(values.astype("<f4").tobytes())
    for name, answer in json_answers.items():
        text = json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    from qkv import pretrained, recording

    write(recording.read(pretrained.load("minilm"), TEXT))
