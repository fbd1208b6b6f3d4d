"""Open the page on a trace: bind 127.0.0.1, serve in a thread, open the browser, wait for Ctrl-C."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from qkv._optional import imports_for
from qkv.errors import ArgumentError, ServerError

from ._files import page_files

if TYPE_CHECKING:
    import uvicorn

    from qkv.trace import Trace
    from qkv.views.answers import Answers

STARTUP_SECONDS = 30.0


class Page:
    """A page that is being served; ``url`` is its address, with the secret token in it."""

    def __init__(self, url: str, server: uvicorn.Server, thread: threading.Thread) -> None:
        self.url = url
        self._server = server
        self._thread = thread

    def wait(self) -> None:
        """Serve until Ctrl-C or ``close()``."""
        try:
            while self._thread.is_alive():
                self._thread.join(0.5)
        except KeyboardInterrupt:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Stop serving; harmless when it was stopped before."""
        self._server.should_exit = True
        self._thread.join(5.0)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Page({self.url!r}, {'serving' if self._thread.is_alive() else 'closed'})"


def open_page(
    trace: Trace | Answers,
    *,
    port: int = 0,
    browser: bool = True,
    block: bool = True,
    opened: Callable[[str], None] | None = None,
) -> Page:
    """Serve the page that shows ``trace``, on 127.0.0.1 only, and open it in the browser.

    Args:
        trace: What to show; or its `Answers`, where some were computed already.
        port: The port to listen on; 0 takes a free one.
        browser: Open the address in a graphical browser, where there is one.
        block: Wait until Ctrl-C. False returns at once and serves in the background until ``close()``, for notebooks.
        opened: Called with the address once the server answers.

    Returns:
        The `Page`, with ``.url`` and ``.close()``.

    Raises:
        ServerError: the port is in use or not allowed, or the page was not built.
        ArgumentError: ``port`` is not a port.
        DependencyError: starlette or uvicorn is missing.
    """
    page_files()  # say so at once where the page is not built
    with imports_for("the page", extra="look"):
        import uvicorn

        from ._app import application
    from qkv.views.answers import Answers

    answers = trace if isinstance(trace, Answers) else Answers(trace)
    listener = _listen(port)
    token = secrets.token_urlsafe(16)
    port = listener.getsockname()[1]
    app = application(answers, token=token, port=port)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", ws="none", server_header=False)
    )
    # In a thread even when we block: the main thread keeps Ctrl-C, and there is one way to run.
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="qkv-page", daemon=True)
    thread.start()
    _await_start(server, thread)
    page = Page(f"http://127.0.0.1:{port}/{token}/", server, thread)
    if opened:
        opened(page.url)
    if browser and _has_display():
        webbrowser.open(page.url)
    if block:
        page.wait()
    return page


def check_port(port: int) -> None:
    """Raise what `open_page` would raise for this port; to be asked before the work whose result is shown there."""
    _listen(port).close()


def _listen(port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ArgumentError(f"port must be between 0 and 65535 (0 takes a free one), got {port}")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":  # elsewhere it would let two servers share the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except OSError as error:
        listener.close()
        advice = "choose another with --port, or leave it out to take a free one"
        if error.errno == errno.EADDRINUSE:
            raise ServerError(f"port {port} of 127.0.0.1 is in use: {advice}") from error
        raise ServerError(f"port {port} of 127.0.0.1 cannot be opened ({error.strerror}): {advice}") from error
    return listener


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    waited = threading.Event()
    for _ in range(int(STARTUP_SECONDS / 0.01)):
        if server.started:
            return
        if not thread.is_alive():
            break
        waited.wait(0.01)
    raise ServerError("the page's server did not start")


def _has_display() -> bool:
    """Whether a browser would open a window: a text browser would take the terminal away from us."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
