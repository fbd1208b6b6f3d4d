"""The page as one file that needs no server: script, style and answers inlined, nothing fetched from anywhere.

The file carries its own content security policy: it runs exactly the scripts that were put in (by their hashes) and
may load or send nothing, so it can be mailed, archived and opened behind any firewall.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qkv._replacing import replacing
from qkv.errors import ArgumentError, ServerError

from ._files import page_files

if TYPE_CHECKING:
    from qkv.trace import Trace
    from qkv.views.answers import Answers
    from qkv.views.contract import Embedded

LARGEST_PAGE = 50_000_000
"""Bytes; a browser opens this within seconds, and mail takes it."""

_ELEMENTS = re.compile(
    r"<script\b[^>]*\bsrc=\"\./(?P<script>[^\"]+)\"[^>]*>\s*</script>"
    r"|<link\b(?=[^>]*\brel=\"stylesheet\")[^>]*\bhref=\"\./(?P<style>[^\"]+)\"[^>]*>"
    r"|<link\b(?=[^>]*\brel=\"(?:modulepreload|icon)\")[^>]*>"
)
"""What the page's index names. One pattern, one pass: what was put in is never looked at again."""


def save_html(
    trace: Trace | Answers,
    path: str | os.PathLike[str],
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    limit: int = LARGEST_PAGE,
) -> Path:
    """Write the page that shows ``trace`` into one self-contained file.

    Args:
        trace: What to show; or its `Answers`, which say themselves what is shown.
        path: The file; it is replaced at once when it is complete, never left half-written.
        layers, heads: Show only these, by the model's own indices; None shows all. Every weight of every head shown is
            in the file, 16 bytes / 3 for each pair of tokens.
        limit: The largest file to write, in bytes.

    Raises:
        ArgumentError: the file would be larger than ``limit``, or a layer or head is not in the trace.
        ServerError: the page was not built.
    """
    from qkv.views.answers import Answers

    answers = trace if isinstance(trace, Answers) else Answers(trace, only_layers=layers, only_heads=heads)
    files = page_files()
    size = answers.embedded_size()
    if size > limit:
        advice = (
            "choose one with --layer and --head, or a shorter text" if answers.heads > 1 else "choose a shorter text"
        )
        raise ArgumentError(
            f"the page would hold every weight of {answers.heads} heads and weigh {size / 1e6:,.0f} MB, more than "
            f"{limit / 1e6:,.0f} MB: {advice}; without --html the page is served, and takes any length"
        )
    text = inline(
        files["index.html"].content.decode(),
        {name: file.content.decode("utf-8", "replace") for name, file in files.items()},
        answers.embedded(),
    )
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def inline(index: str, files: dict[str, str], data: Embedded) -> str:
    """Return the page ``index`` with the scripts and styles that it names, and ``data``, inside."""
    hashes: list[str] = []

    def put_in(match: re.Match[str]) -> str:
        if match["script"]:
            code = _inert(_named(files, match["script"]))
            hashes.append(base64.b64encode(hashlib.sha256(code.encode()).digest()).decode())
            return f'<script type="module">{code}</script>'
        return f"<style>{_inert(_named(files, match['style']))}</style>" if match["style"] else ""

    page = _ELEMENTS.sub(put_in, index)
    if not hashes:
        raise ServerError("the built page names no script that could be inlined: run `npm run build` in web/ again")
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    values = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    head = (
        '<meta charset="utf-8">'  # must stand in the first 1,024 bytes
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">'
        f'<script type="application/json" id="qkv-data">{values}</script>'
    )
    # Right after <head>: a policy counts only for what follows it, and the data must be there before the script runs.
    opened = re.search(r"<head\b[^>]*>", page)
    if opened is None:
        raise ServerError("the built page has no <head>: run `npm run build` in web/ again")
    return page[: opened.end()] + head + page[opened.end() :]


def _named(files: dict[str, str], name: str) -> str:
    if name not in files:
        raise ServerError(f"the built page names {name}, which is not there: run `npm run build` in web/ again")
    return files[name]


def _inert(code: str) -> str:
    """Code in which HTML's parser sees no end of the element; such text can stand only in strings and patterns."""
    return re.sub(r"</(?=script|style)", r"<\\/", code, flags=re.IGNORECASE).replace("<!--", "<\\!--")
