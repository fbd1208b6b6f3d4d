"""The page as one file: everything inside, nothing that could break out of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from conforms import check
from qkv.errors import ArgumentError, ServerError
from qkv.explorer import _files, save_html
from qkv.trace import Sequence, Token, Trace
from qkv.views import contract
from random_trace import dense


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.texts.append("")
        self.open = True

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.open = False

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attrs, text) for (name, attrs), text in zip(self.found, self.texts, strict=True) if name == tag]


def embedded(page: Path) -> dict:
    (data,) = [text for attrs, text in Elements(page.read_text("utf-8")).of("script") if attrs.get("id") == "qkv-data"]
    return json.loads(data)


def decode(text: str, *shape: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(shape)


def test_it_holds_every_weight(small_trace: Trace, tmp_path: Path) -> None:
    data = embedded(save_html(small_trace, tmp_path / "page.html"))
    check(data, contract.Embedded)
    for record, layer in zip(small_trace.attentions, data["layers"]["decoder"], strict=True):
        truth = dense(record)
        np.testing.assert_allclose(decode(layer["weights"], 4, 11, 11), truth.weights, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(decode(layer["received"], 4, 11), truth.weights.sum(1), rtol=1e-4)
        keys = decode(layer["key"], 4, 11, 6)
        np.testing.assert_array_equal(keys, record.key.repeat(2, 0))
        scores = decode(layer["query"], 4, 11, 6) @ keys.swapaxes(1, 2) * layer["scale"]
        weights = np.exp(scores - decode(layer["lse"], 4, 11)[..., None])
        np.testing.assert_allclose(np.tril(weights), truth.weights, rtol=1e-4, atol=1e-6)
        norms = np.linalg.norm(record.value, axis=-1).repeat(2, 0)
        np.testing.assert_allclose(decode(layer["value_norm"], 4, 11), norms, rtol=1e-5)
        np.testing.assert_allclose(
            decode(layer["output_norm"], 4, 11), np.linalg.norm(truth.output, axis=-1), rtol=1e-4
        )


def test_it_holds_the_alignment_by_all_heads(translation_trace: Trace, tmp_path: Path) -> None:
    data = embedded(save_html(translation_trace, tmp_path / "page.html", layers=[0], heads=[1]))
    check(data, contract.Embedded)
    mean = dense(translation_trace.attentions[1]).weights.mean(0)
    words = data["alignment"]["words"]
    assert [one["start"] for one in words] == list(range(1, 7))
    for one in words:
        row = mean[one["start"] - 1, 1:8]  # what stands at both ends is special
        assert one["read_start"] == 1 + row.argmax()
        assert one["weight"] == pytest.approx(row.max(), abs=1e-5)


def test_nothing_is_fetched(small_trace: Trace, tmp_path: Path) -> None:
    page = Elements(save_html(small_trace, tmp_path / "page.html").read_text("utf-8"))
    for _, attrs in page.found:
        assert "src" not in attrs
        assert "href" not in attrs
    (policy,) = [
        attrs["content"] for attrs, _ in page.of("meta") if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert "default-src 'none'" in policy
    (code,) = [text for attrs, text in page.of("script") if attrs.get("type") == "module"]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'" in policy
    assert page.of("style")[0][1] == "body { color: #1d1c1a }"
    assert page.found[2] == ("meta", {"charset": "utf-8"})  # html, head, charset: within the first 1,024 bytes


def test_a_text_cannot_end_the_script(small_trace: Trace, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><!--"
    tokens = [Token(0, evil, word=0)] * 11
    sequence = Sequence({"input": tokens}, small_trace.attentions)
    path = save_html(Trace(small_trace.model, [sequence]), tmp_path / "page.html")
    assert embedded(path)["overview"]["sides"][0]["tokens"][0]["text"] == evil
    scripts = Elements(path.read_text("utf-8")).of("script")
    assert len(scripts) == 2
    assert not re.search("<!--", path.read_text("utf-8"))


def test_only_the_chosen_heads(small_trace: Trace, tmp_path: Path) -> None:
    data = embedded(save_html(small_trace, tmp_path / "page.html", layers=[1], heads=[3]))
    (stack,) = data["overview"]["stacks"]
    assert (stack["layers"], stack["heads"]) == ([1], [3])
    (layer,) = data["layers"]["decoder"]
    truth = dense(small_trace.attentions[1])
    np.testing.assert_allclose(decode(layer["weights"], 1, 11, 11)[0], truth.weights[3], rtol=1e-4, atol=1e-6)
    opening = data["overview"]["opening"]
    assert (opening["layer"], opening["head"]) == (1, 3)


def test_too_large_a_page_says_what_to_choose(wide_trace: Trace, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"4 heads and weigh 3\d MB, more than 20 MB: choose one with --layer and"):
        save_html(wide_trace, tmp_path / "page.html", limit=20_000_000)
    with pytest.raises(ArgumentError, match="more than 1 MB: choose a shorter text; without --html the page is served"):
        save_html(wide_trace, tmp_path / "page.html", layers=[0], heads=[1], limit=1_000_000)
    assert list(tmp_path.iterdir()) == []


def test_the_estimate_is_near(small_trace: Trace, tmp_path: Path) -> None:
    from qkv.views.answers import Answers

    layers = embedded(save_html(small_trace, tmp_path / "page.html"))["layers"]
    assert Answers(small_trace).embedded_size() == pytest.approx(len(json.dumps(layers)), rel=0.15)


def test_a_page_that_fails_leaves_the_old_one(
    small_trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_html(small_trace, path)
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text() == "old"


def test_a_folder_that_is_not_there(small_trace: Trace, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"page.html cannot be written: there is no folder"):
        save_html(small_trace, tmp_path / "nowhere/page.html")


def test_a_page_without_its_script(small_trace: Trace, tmp_path: Path, built_page: Path) -> None:
    (built_page / "assets/qkv.js").unlink()
    _files.page_files.cache_clear()
    with pytest.raises(ServerError, match=r"the built page names assets/qkv.js, which is not there"):
        save_html(small_trace, tmp_path / "page.html")
