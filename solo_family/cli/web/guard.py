"""What is refused before gradio sees it, and what browsers are told to refuse."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from .flags import LOOPBACK
from .session import MOST_FILES

_LOCAL = frozenset({LOOPBACK, "localhost", "::1"})
# Bytes of a request that uploads nothing, and of what comes with an upload.
_MOST_BYTES = 2**20
# The page's own scripts and styles stand in it. Nothing comes from, or goes to, another host.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; frame-ancestors 'self'; "
    "form-action 'self'; base-uri 'self'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


def local_names(host: str) -> frozenset[str]:
    """Return the names of a host that only this machine can reach; none for any other."""
    return _LOCAL if host in _LOCAL else frozenset()


class Guard:
    """An ASGI application that passes on what comes from its own page.

    Other pages in the same browser could otherwise send requests to it, by its address or by a name
    of theirs that leads to this machine.

    Args:
        app: the application.
        names: with which it may be called; none for any.
        max_upload: bytes of the largest file.
    """

    def __init__(self, app: App, names: frozenset[str], max_upload: int) -> None:
        self._app = app
        self._names = names
        self._most = MOST_FILES * max_upload + _MOST_BYTES

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reason = self._refusal(scope)
        if reason is not None:
            await _refuse(send, *reason)
            return

        async def send_with_headers(message: _Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: _Message) -> tuple[int, str] | None:
        """Return the status and the reason for which a request is refused, if it is."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._names and _name(f"//{host}") not in self._names:
            return 403, f"This page is not called {host}."
        if origin is not None and _netloc(origin) != host:
            return 403, f"{origin} is another page."
        length = headers.get("content-length")
        if length is None and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            return 411, "A request needs a content-length."
        length = length or "0"
        if not length.isdecimal() or int(length) > self._limit(scope["path"]):
            return 413, "This is more than the page takes."
        return None

    def _limit(self, path: str) -> int:
        return self._most if path.endswith("/upload") else _MOST_BYTES


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _netloc(address: str) -> str | None:
    try:
        return urlsplit(address).netloc
    except ValueError:
        return None


async def _refuse(send: _Send, status: int, reason: str) -> None:
    body = reason.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
