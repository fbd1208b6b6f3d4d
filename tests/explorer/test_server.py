"""The server over real sockets: what it answers, and to whom."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from conforms import check
from qkv.errors import ArgumentError, ServerError
from qkv.explorer import Page, _files, open_page
from qkv.trace import Trace
from qkv.views import contract

HEAD = "stack=decoder&layer=1&head=2"


def get(
    page: Page, path: str = "", *, absolute: bool = False, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Ask below the page's address (or at an absolute path), sending the path exactly as it is written."""
    address = urlsplit(page.url)
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=20)
    try:
        connection.putrequest(
            method,
            path if absolute else address.path + path,
            skip_host="Host" in (headers or {}),
            skip_accept_encoding=True,
        )
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("question", "declared"),
    [
        ("overview", contract.Overview),
        (f"head?{HEAD}", contract.Head),
        (f"row?{HEAD}&query=5", contract.Row),
        (f"pair?{HEAD}&query=5&key=3", contract.Pair),
        ("derivation?stack=decoder&layer=0", contract.Derivation),
        ("predictions?position=2", contract.Predictions),
    ],
)
def test_json_answers_keep_the_contract(page: Page, question: str, declared: Any) -> None:
    status, headers, body = get(page, f"api/{question}")
    assert status == 200
    assert headers["content-type"] == "application/json"
    check(json.loads(body), declared)


def test_alignment_keeps_the_contract(translation_trace: Trace) -> None:
    with open_page(translation_trace, browser=False, block=False) as page:
        status, _, body = get(page, "api/alignment?rows=2:5")
        assert status == 200
        answer = json.loads(body)
        check(answer, contract.Alignment)
        assert (answer["row_start"], answer["row_stop"]) == (2, 5)
        assert [(word["start"], word["stop"]) for word in answer["words"]] == [(2, 3), (3, 4), (4, 5)]
        status, _, body = get(page, "api/alignment?rows=2:8")
        assert (status, json.loads(body)["error"]) == (400, "rows: expected start < stop within 0 and 7, got 2:8")


@pytest.mark.parametrize(
    ("question", "declared", "shape"),
    [
        (f"window?{HEAD}&rows=2:9&columns=0:11", contract.Window, (7, 11)),
        (f"window?{HEAD}&rows=0:11&columns=0:11&side=3", contract.Window, (3, 3)),
        ("thumbnails?stack=decoder", contract.Thumbnails, (2, 4, 11, 11)),
        ("thumbnails?stack=decoder&layer=1", contract.Thumbnails, (1, 4, 11, 11)),
    ],
)
def test_binary_answers_keep_the_contract(page: Page, question: str, declared: Any, shape: tuple[int, ...]) -> None:
    status, headers, body = get(page, f"api/{question}")
    assert status == 200
    header = json.loads(headers["x-qkv-header"])
    check(header, declared)
    values = np.frombuffer(body, "<f4").reshape(shape)
    assert header["height"] == shape[-2]
    assert header["width"] == shape[-1]
    assert np.isfinite(values).all()
    assert values.max() > 0


@pytest.mark.parametrize(
    ("question", "status", "message"),
    [
        ("row?stack=decoder&layer=1&head=2", 400, "the request lacks query="),
        (f"row?{HEAD}&query=eleven", 400, "query= must be a whole number, got 'eleven'"),
        (f"row?{HEAD}&query=-1", 400, "query= must be a whole number, got '-1'"),
        (f"row?{HEAD}&query=" + "9" * 400, 400, "query= must be a whole number"),
        (f"row?{HEAD}&query=%F0%9F%99%82", 400, "query= must be a whole number"),
        (f"row?{HEAD}&query=11", 400, "query: expected an index from 0 to 10, got 11"),
        (f"pair?{HEAD}&query=1&key=99", 400, "key: expected an index from 0 to 10, got 99"),
        (f"window?{HEAD}&rows=1&columns=0:3", 400, "rows= must be start:stop, got '1'"),
        (f"window?{HEAD}&rows=5:2&columns=0:3", 400, "rows: expected start < stop within 0 and 11, got 5:2"),
        (f"window?{HEAD}&rows=0:2&columns=0:3&side=0", 400, "side: expected a number of cells"),
        ("head?stack=decoder&layer=1&head=64", 400, "head: expected an index below 4"),
        ("head?stack=encoder&layer=1&head=2", 404, "stack 'encoder' is not in this trace; it holds decoder"),
        ("head?stack=decoder&layer=7&head=2", 404, "layer 7 of the decoder is not in this trace; it holds layers 0, 1"),
        ("derivation?stack=decoder&layer=7", 404, "layer 7 of the decoder is not in this trace"),
        ("alignment?rows=0:3", 404, "stack 'cross' is not in this trace; it holds decoder"),
        ("nothing", 404, "there is no such page"),
    ],
)
def test_problems_say_what_came_and_what_was_expected(page: Page, question: str, status: int, message: str) -> None:
    found, headers, body = get(page, f"api/{question}")
    assert found == status
    check(json.loads(body), contract.Problem)
    assert message in json.loads(body)["error"]
    assert "content-security-policy" in headers


def test_a_failure_of_ours_is_an_answer_too(
    page: Page, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    from qkv.views.answers import Answers

    monkeypatch.setattr(Answers, "row", lambda *_: 1 / 0)
    status, headers, body = get(page, f"api/row?{HEAD}&query=0")
    assert (status, json.loads(body)) == (500, {"error": "the server failed on this request (ZeroDivisionError)"})
    assert "content-security-policy" in headers


def test_the_page_and_its_files(page: Page) -> None:
    for path, kind in (("", "text/html"), ("assets/qkv.js", "text/javascript"), ("assets/qkv.css", "text/css")):
        status, headers, body = get(page, path)
        assert status == 200
        assert headers["content-type"].startswith(kind)
        assert body == (_files.FOLDER / (path or "index.html")).read_bytes()
    assert get(page, method="HEAD")[0] == 200


def test_headers_keep_the_page_to_itself(page: Page) -> None:
    for path in ("", "api/overview", "nothing"):
        headers = get(page, path)[1]
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert not [name for name in headers if name.startswith("access-control")]
        assert "server" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.evil.example:{port}", "", "[::1]:{port}"]
)
def test_a_foreign_host_header_gets_nothing(page: Page, host: str) -> None:
    port = str(urlsplit(page.url).port)
    status, _, body = get(page, headers={"Host": host.replace("{port}", port)})
    assert status in (400, 403)
    assert b"qkv" not in body


def test_localhost_is_us_too(page: Page) -> None:
    assert get(page, headers={"Host": f"localhost:{urlsplit(page.url).port}"})[0] == 200


def test_without_the_token_there_is_nothing(page: Page) -> None:
    token = urlsplit(page.url).path.strip("/")
    assert len(token) >= 20
    answers = {
        get(page, path, absolute=True)[::2]
        for path in (
            "/",
            "/index.html",
            "/api/overview",
            "/wrong/",
            f"/{token[:-1]}/",
            f"/{token}x/",
            f"/{token}",
            "//",
        )
    }
    assert answers == {(404, b"Not Found")}


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "..%2fsecret.txt",
        "%2e%2e/secret.txt",
        "assets/../../secret.txt",
        "assets/..%5c..%5csecret.txt",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "link.txt",
        "assets/",
        "assets",
        "index.html%00.js",
    ],
)
def test_no_path_leads_out_of_the_page(page: Page, path: str) -> None:
    status, _, body = get(page, path)
    assert status == 404
    assert b"secret" not in body
    assert b"root:" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_reading(page: Page, method: str) -> None:
    for path in ("", "api/overview"):
        status, headers, _ = get(page, path, method=method)
        assert status == 405
        assert not [name for name in headers if name.startswith("access-control")]


def test_answers_are_sent_as_they_are(wide_trace: Trace) -> None:
    """Compressing a map takes longer than sending it to the same machine."""
    with open_page(wide_trace, browser=False, block=False) as page:
        question = "api/row?stack=decoder&layer=0&head=0&query=1299"
        _, headers, body = get(page, question, headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in headers
        assert body == get(page, question)[2]


def test_it_listens_on_this_machine_alone(page: Page) -> None:
    assert urlsplit(page.url).hostname == "127.0.0.1"
    # 127.0.0.2 is this machine as well, and would be answered by a server that listens on every address.
    with pytest.raises(OSError, match=r"refused|reach|assign"):
        socket.create_connection(("127.0.0.2", urlsplit(page.url).port), timeout=2)


def test_a_port_in_use_is_said(small_trace: Trace) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=rf"port {port} of 127.0.0.1 is in use: choose another with --port"):
            open_page(small_trace, port=port, browser=False, block=False)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none(small_trace: Trace, port: int) -> None:
    with pytest.raises(ArgumentError, match=f"port must be between 0 and 65535 .* got {port}"):
        open_page(small_trace, port=port, browser=False, block=False)


def test_a_page_that_was_not_built(small_trace: Trace, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(_files, "FOLDER", tmp_path)
    _files.page_files.cache_clear()
    with pytest.raises(ServerError, match="page is not built in this checkout: run `npm ci && npm run build` in web/"):
        open_page(small_trace, browser=False, block=False)


def test_two_pages_at_once_and_closing(small_trace: Trace) -> None:
    first = open_page(small_trace, browser=False, block=False)
    second = open_page(small_trace, browser=False, block=False)
    assert first.url != second.url
    first.close()
    first.close()
    assert repr(first).endswith("closed)")
    with pytest.raises(ConnectionRefusedError):
        get(first)
    assert get(second)[0] == 200
    second.close()


def test_the_address_is_given_before_blocking(small_trace: Trace) -> None:
    urls: list[str] = []
    opened = threading.Event()

    def note(url: str) -> None:
        urls.append(url)
        opened.set()

    def serve() -> None:
        open_page(small_trace, browser=False, block=False, opened=note).close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert opened.wait(20)
    thread.join(20)
    assert urls[0].startswith("http://127.0.0.1:")


def test_ctrl_c_ends_quietly(built_page: Any) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from pathlib import Path\n"
        "from random_trace import record, trace\n"
        "from qkv.explorer import _files, open_page\n"
        f"_files.FOLDER = Path({str(built_page)!r})\n"
        "open_page(trace([record()]), browser=False, opened=lambda url: print(url, flush=True))\n"
        "print('after')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out, errors) == (0, "after\n", "")
