"""A server of files on this machine that can be told to break off."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


class Files:
    """Serves files by path.

    Args:
        files: contents by path.
        break_after: bytes after which each answer stops, although more was announced.
        moved: other places of paths that redirect.
        ranges: whether it can go on where it stopped.
        kind: the content type.
    """

    def __init__(
        self,
        files: dict[str, bytes],
        *,
        break_after: int | None = None,
        moved: dict[str, str] | None = None,
        ranges: bool = True,
        kind: str = "application/octet-stream",
    ) -> None:
        self.requests: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                """As the HuggingFace Hub tells of a file before it gives it."""
                if self.path not in files:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.end_headers()
                    return
                data = files[self.path]
                self.send_response(200)
                self.send_header("X-Repo-Commit", "a" * 40)
                self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()

            def do_GET(self) -> None:
                outer.requests.append((self.path, self.headers["Range"]))
                if moved and self.path in moved:
                    self.send_response(302)
                    self.send_header("Location", moved[self.path])
                    self.end_headers()
                    return
                if self.path not in files:
                    self.send_error(404)
                    return
                data, start = files[self.path], 0
                if ranges and self.headers["Range"]:
                    start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
                self.send_response(206 if start else 200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                end = len(data) if break_after is None else start + break_after
                self.wfile.write(data[start:end])

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    @staticmethod
    def checksum(data: bytes) -> str:
        return f"sha256:{hashlib.sha256(data).hexdigest()[:8]}"

    def __enter__(self) -> "Files":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
