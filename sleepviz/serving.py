"""The guard in front of the server: who is there, how many, and what a page may load.

Knows HTTP and websockets as ASGI sees them; does not know pages, sessions or models.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "sleepviz_id"
COOKIE_DAYS = 7
HIDDEN = "/_stcore/metrics"  # figures of the server that no visitor needs
TRY_LATER = 1013  # websocket close code: the browser shows its skeleton and tries again
CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' ws: wss: data: blob:",
        "media-src 'self' blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", CONTENT_POLICY.encode()),
)


class Guard:
    """ASGI middleware: an identity cookie, security headers, and a cap on open pages.

    Plain ASGI, since the ready-made base class does not see websockets.
    """

    def __init__(self, app: App, most: int | None = None, most_per_address: int | None = None):
        self.app = app
        self.most = most or int(os.environ.get("SLEEPVIZ_MAX_PAGES", "80"))
        # a classroom may sit behind one address
        self.most_per_address = most_per_address or self.most
        self.n_open = 0
        self.by_address: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = (scope.get("client") or ("?",))[0]
        if self.n_open >= self.most or self.by_address[address] >= self.most_per_address:
            await receive()
            await send({"type": "websocket.close", "code": TRY_LATER})
            return
        self.n_open += 1
        self.by_address[address] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.n_open -= 1
            self.by_address[address] -= 1
            if not self.by_address[address]:
                del self.by_address[address]

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].rstrip("/").endswith(HIDDEN):
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        cookies = dict(scope["headers"]).get(b"cookie", b"")
        is_new = COOKIE.encode() + b"=" not in cookies

        async def answer(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))
                is_page = any(
                    name.lower() == b"content-type" and value.startswith(b"text/html")
                    for name, value in headers
                )
                message["headers"] = [
                    *headers,
                    *HEADERS,
                    *([_identity()] if is_new and is_page else []),
                ]
            await send(message)

        await self.app(scope, receive, answer)


def _identity() -> tuple[bytes, bytes]:
    """A cookie with a name that nobody can guess, for a visitor who has none."""
    value = f"{COOKIE}={secrets.token_urlsafe(18)}; HttpOnly; SameSite=Lax; Path=/"
    return b"set-cookie", f"{value}; Max-Age={COOKIE_DAYS * 86400}".encode()
