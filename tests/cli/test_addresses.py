"""Downloads from a server on this machine that behaves as servers do."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from solo_family.cli.addresses import Network, is_address, is_downloaded
from solo_family.cli.source import Source
from solo_family.errors import DataError

CONTENT = bytes(range(256)) * 400


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        kind = self.path.strip("/").split(".")[0]
        if kind == "gone":
            self.send_error(404, "Not Found")
            return
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
            return
        self.send_response(200)
        if kind in ("whole", "cut", "large"):
            size = len(CONTENT) * (2 if kind == "cut" else 1)
            self.send_header("Content-Length", str(size))
        self.end_headers()
        if kind == "silent":
            time.sleep(1.5)
            return
        for first in range(0, len(CONTENT), 10240):
            self.wfile.write(CONTENT[first : first + 10240])
            if kind == "slow":
                time.sleep(0.1)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def source(address: str, network: Network) -> Source:
    return Source(None, False, address=address, network=network)


NETWORK = Network(is_allowed=True, max_bytes=10**6, timeout=1.0, deadline=30.0)


def test_a_download_is_a_file_for_as_long_as_it_is_read(server: str) -> None:
    with source(f"{server}/whole.jpg?size=1", NETWORK).file() as path:
        assert path.name == "whole.jpg"
        assert path.read_bytes() == CONTENT
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("name", "network", "message"),
    [
        ("gone.jpg", NETWORK, "gone.jpg: can't be downloaded: 404 Not Found"),
        ("moved.jpg", NETWORK, "moved.jpg: can't be downloaded: 302"),
        ("large.jpg", replace(NETWORK, max_bytes=50_000), "larger than 0.05 MB; --max-download"),
        ("endless.jpg", replace(NETWORK, max_bytes=50_000), "larger than 0.05 MB; --max-download"),
        ("cut.jpg", NETWORK, "it ended after 102400 of 204800 bytes"),
        ("silent.jpg", replace(NETWORK, timeout=0.3), "timed out|ended after"),
        ("slow.jpg", replace(NETWORK, deadline=0.25), "took more than 0.25 s"),
        (":x", NETWORK, "can't be downloaded: "),
    ],
)
def test_what_fails_is_one_line(server: str, name: str, network: Network, message: str) -> None:
    address = f"{server}/{name}" if name[0] != ":" else "http://127.0.0.1:x/a.jpg"
    with pytest.raises(DataError, match=message) as error, source(address, network).file() as path:
        Path(path).read_bytes()
    assert "\n" not in str(error.value)


def test_nobody_answers() -> None:
    with (
        pytest.raises(DataError, match=r"^http://127\.0\.0\.1:9/a\.jpg: can't be downloaded"),
        source("http://me:secret@127.0.0.1:9/a.jpg", NETWORK).file(),
    ):
        pass


def test_what_is_an_address() -> None:
    assert [is_address(text) for text in ("http://h/x", "RTSP://h", "C:/x.jpg", "a:b", "x//y")] == [
        *(True, True, False, False, False)
    ]
    assert [is_downloaded(text) for text in ("HTTPS://h/x", "rtsp://h")] == [True, False]
