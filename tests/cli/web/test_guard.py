"""Requests that are not the page's own are refused, and its answers allow no other host."""

import asyncio
from typing import Any

import pytest

from solo_family.cli.web.guard import Guard, local_names

OWN = {"host": "127.0.0.1:7860"}


def ask(host: str, headers: dict[str, str], method: str = "GET", path: str = "/") -> dict[str, Any]:
    """Returns the beginning of the answer to a request; the application's own has status 200."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": given}
    asyncio.run(Guard(app, local_names(host), 1000)(scope, receive, send))
    return sent[0]


def test_the_pages_own_requests_pass() -> None:
    assert ask("127.0.0.1", OWN)["status"] == 200
    assert (
        ask("127.0.0.1", {"host": "localhost:7860", "origin": "http://localhost:7860"})["status"]
        == 200
    )
    assert ask("::1", {"host": "[::1]:7860"})["status"] == 200
    assert ask("0.0.0.0", {"host": "any.name:7860"})["status"] == 200


def test_answers_forbid_other_hosts() -> None:
    headers = dict(ask("127.0.0.1", OWN)["headers"])
    policy = headers[b"content-security-policy"].decode()
    assert headers[b"x"] == b"y"
    assert "default-src 'self' data: blob:;" in policy
    assert "http" not in policy
    assert "*" not in policy


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example:7860"}, 403),  # a name of theirs that leads to this machine
        (OWN | {"origin": "http://evil.example"}, 403),
        (OWN | {"origin": "http://127.0.0.1:9999"}, 403),
        (OWN | {"origin": "null"}, 403),
        (OWN | {"origin": "http://["}, 403),
        ({}, 403),
    ],
)
def test_other_pages_are_refused(headers: dict[str, str], status: int) -> None:
    assert ask("127.0.0.1", headers)["status"] == status


def test_uploads_are_limited_and_other_requests_more_so() -> None:
    sizes = {"small": "1000", "large": str(2**20 + 1), "huge": str(100 * 1000 + 2**20 + 1)}
    statuses = {
        (path, name): ask("127.0.0.1", OWN | {"content-length": size}, "POST", path)["status"]
        for path in ("/gradio_api/upload", "/gradio_api/queue/join")
        for name, size in sizes.items()
    }
    assert list(statuses.values()) == [200, 200, 413, 200, 413, 413]
    assert ask("127.0.0.1", OWN, "POST")["status"] == 411
    assert ask("127.0.0.1", OWN | {"content-length": "-1"}, "POST")["status"] == 413
