"""The web application: the page's files, and one route for every question in the contract."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from qkv.errors import ArgumentError, QkvError
from qkv.views.answers import Answers

from ._files import page_files
from ._guard import Guard

Values = np.ndarray[Any, np.dtype[np.float32]]


def application(answers: Answers, *, token: str, port: int) -> ASGIApp:
    """Return the application that answers for one trace under ``/{token}/``."""
    routes = [
        Route("/api/overview", _json(lambda ask: answers.overview())),
        Route(
            "/api/thumbnails", _binary(lambda ask: answers.thumbnails(ask.text("stack"), ask.number_or_none("layer")))
        ),
        Route("/api/head", _json(lambda ask: answers.head(*ask.head()))),
        Route("/api/row", _json(lambda ask: answers.row(*ask.head(), ask.number("query")))),
        Route("/api/pair", _json(lambda ask: answers.pair(*ask.head(), ask.number("query"), ask.number("key")))),
        Route("/api/window", _binary(_window(answers))),
        Route("/api/derivation", _json(lambda ask: answers.derivation(ask.text("stack"), ask.number("layer")))),
        Route("/api/predictions", _json(lambda ask: answers.predictions(ask.number("position")))),
        Route("/api/alignment", _json(lambda ask: answers.alignment(ask.range("rows")))),
        Route("/{path:path}", _file),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _http_problem, QkvError: _our_problem, Exception: _unforeseen_problem},
    )
    return Guard(app, token=token, port=port)


class Question:
    """The parameters of a request, read with errors that name them."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self.parameters = parameters

    def text(self, name: str) -> str:
        if name not in self.parameters:
            raise ArgumentError(f"the request lacks {name}=")
        return self.parameters[name]

    def number(self, name: str) -> int:
        return _integer(name, self.text(name))

    def number_or_none(self, name: str) -> int | None:
        return self.number(name) if name in self.parameters else None

    def head(self) -> tuple[str, int, int]:
        return self.text("stack"), self.number("layer"), self.number("head")

    def range(self, name: str) -> tuple[int, int]:
        start, colon, stop = self.text(name).partition(":")
        if not colon:
            raise ArgumentError(f"{name}= must be start:stop, got {self.text(name)[:40]!r}")
        return _integer(name, start), _integer(name, stop)


def _integer(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ArgumentError(f"{name}= must be a whole number, got {text[:40]!r}")
    return int(text)


def _window(answers: Answers) -> Callable[[Question], tuple[Mapping[str, Any], Values]]:
    def answer(ask: Question) -> tuple[Mapping[str, Any], Values]:
        side = ask.number_or_none("side")
        return answers.window(*ask.head(), ask.range("rows"), ask.range("columns"), 512 if side is None else side)

    return answer


# Endpoints are plain functions, so Starlette runs them in its threads: the kernel works while others are answered.


def _json(answer: Callable[[Question], Mapping[str, Any]]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        return _json_response(answer(Question(request.query_params)))

    return endpoint


def _binary(answer: Callable[[Question], tuple[Mapping[str, Any], Values]]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        header, values = answer(Question(request.query_params))
        return Response(
            values.astype("<f4", copy=False).tobytes(),
            media_type="application/octet-stream",
            headers={"x-qkv-header": json.dumps(header, allow_nan=False)},
        )

    return endpoint


def _file(request: Request) -> Response:
    file = page_files().get(request.path_params["path"] or "index.html")
    if file is None:
        raise HTTPException(404, "there is no such page")
    return Response(file.content, media_type=file.media_type)


def _json_response(body: Mapping[str, Any], status: int = 200) -> Response:
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode(), status, media_type="application/json")


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json_response({"error": error.detail}, error.status_code)


async def _our_problem(request: Request, error: Exception) -> Response:
    return _json_response({"error": str(error)}, 400 if isinstance(error, ArgumentError) else 404)


async def _unforeseen_problem(request: Request, error: Exception) -> Response:
    return _json_response({"error": f"the server failed on this request ({type(error).__name__})"}, 500)
