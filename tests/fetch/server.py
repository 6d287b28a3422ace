"""Servers of files on this machine that can be told to break off: of any, and as the Hub's."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


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

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class Hub(Files):
    """Serves model repositories as the HuggingFace Hub does.

    Small files are answered at once, with git's hash as their ETag. Large ones are on another host,
    to which the Hub redirects; their SHA-256 is in a header of their own.

    Args:
        repositories: contents by file, by OWNER/REPO.
        large: from how many bytes on a file is large.
        break_after: see `Files`.
        damage: files whose first byte arrives changed.
        private: repositories that need the token "secret".
    """

    def __init__(
        self,
        repositories: dict[str, dict[str, bytes]],
        *,
        large: int = 1000,
        break_after: int | None = None,
        damage: tuple[str, ...] = (),
        private: tuple[str, ...] = (),
    ) -> None:
        files: dict[str, bytes] = {}
        super().__init__(files, break_after=break_after)
        self.repositories = repositories
        # The commit of every branch and tag.
        self.refs = {"main": "a" * 40}
        self.asked: list[str] = []
        self.tokens: dict[str, str | None] = {}
        outer = self
        base = self._server.RequestHandlerClass
        # Another name of this machine is another host.
        cdn = self.address.replace("127.0.0.1", "localhost")

        class Handler(base):  # type: ignore[valid-type, misc]
            def found(self) -> tuple[str, bytes] | None:
                """Sends the headers that all answers have, or those of an error."""
                outer.tokens[self.path] = self.headers["Authorization"]
                owner, name, kind, revision, *parts = self.path.strip("/").split("/")
                repository, file = f"{owner}/{name}", "/".join(parts)
                assert kind == "resolve"
                is_hidden = (
                    repository in private and self.headers["Authorization"] != "Bearer secret"
                )
                if repository not in outer.repositories or is_hidden:
                    self.refuse(401, "RepoNotFound")
                    return None
                commit = outer.refs.get(revision, revision)
                if commit not in outer.refs.values():
                    self.refuse(404, "RevisionNotFound")
                    return None
                if file not in outer.repositories[repository]:
                    self.refuse(404, "EntryNotFound", commit)
                    return None
                data = outer.repositories[repository][file]
                files[f"/cdn/{repository}/{file}"] = files[self.path] = data
                if file in damage:
                    wrong = bytes([data[0] ^ 1]) + data[1:]
                    files[f"/cdn/{repository}/{file}"] = files[self.path] = wrong
                is_large = len(data) >= large
                self.send_response(302 if is_large else 200)
                self.send_header("X-Repo-Commit", commit)
                git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
                self.send_header("ETag", f'"{git}"')
                if is_large:
                    self.send_header("X-Linked-Etag", f'"{hashlib.sha256(data).hexdigest()}"')
                    self.send_header("X-Linked-Size", str(len(data)))
                    self.send_header("Location", f"{cdn}/cdn/{repository}/{file}")
                self.send_header("Content-Length", "0" if is_large else str(len(data)))
                return file, data

            def refuse(self, status: int, code: str, commit: str | None = None) -> None:
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                if commit:
                    self.send_header("X-Repo-Commit", commit)
                self.end_headers()

            def do_HEAD(self) -> None:  # noqa: N802
                outer.asked.append(self.path)
                if self.found() is not None:
                    self.end_headers()

            def do_GET(self) -> None:  # noqa: N802
                outer.tokens[self.path] = self.headers["Authorization"]
                super().do_GET()

        self._server.RequestHandlerClass = Handler
