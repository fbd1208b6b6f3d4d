"""Who may talk to the server: only a page that this machine opened with the address that we printed.

Other web pages in the same browser can reach 127.0.0.1 too. Three things keep them out: the Host header must be ours
(a foreign name that resolves to 127.0.0.1 fails), every path starts with a secret token, and no answer allows another
origin to read it. The content security policy keeps the page itself from loading or sending anything elsewhere.
"""

from __future__ import annotations

import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Pictures may be data: and blob: so that a map can be saved as PNG; nothing else leaves the page's own origin."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Let a request through to ``app`` only with our Host header and the token as first part of its path.

    ``app`` sees the path without the token. A wrong token gets the same bare 404 as a path that does not exist.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self.app = app
        self.token = token
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # a websocket is not answered, so it is refused; the app has no lifespan
        if Headers(scope=scope).getlist("host") not in ([host] for host in self.hosts):
            await PlainTextResponse("Forbidden", 403, headers=HEADERS)(scope, receive, send)
            return
        token, slash, rest = str(scope["path"]).removeprefix("/").partition("/")
        if not slash or not secrets.compare_digest(token.encode(), self.token.encode()):
            await PlainTextResponse("Not Found", 404, headers=HEADERS)(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app({**scope, "path": f"/{rest}", "raw_path": None}, receive, send_guarded)
