"""The fleet's figures, for a Prometheus that has the token."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from edge.errors import BadInputError
from edge.exposition import CONTENT_TYPE
from edge.monitor.metrics import fleet

__all__ = ["metrics_of"]

_SHORTEST = 16


def metrics_of(token_file: Path) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that answers whoever bears the token of a file (RFC 6750).

    Raises:
        BadInputError: the file cannot be read, or its token could be guessed.
    """
    try:
        token = token_file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"--metrics-token {token_file}: cannot be read") from error
    if len(token) < _SHORTEST:
        raise BadInputError(f"--metrics-token {token_file}: give at least {_SHORTEST} characters")
    expected = f"Bearer {token}".encode()

    async def metrics(request: Request) -> Response:
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, expected):
            return PlainTextResponse("give the token\n", 401, {"WWW-Authenticate": "Bearer"})
        view = request.app.state.view
        rows, findings = [cart.row for cart in view.carts], view.state.get("findings", 0)
        text = await run_in_threadpool(fleet, rows, findings, time.time())
        return Response(text, media_type=CONTENT_TYPE)

    return metrics
