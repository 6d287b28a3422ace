"""The open pages, and the folder with all of their files."""

import shutil
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock

from .model import WebModel
from .session import Session

# Seconds for which gradio's own files, uploads and pictures that it has sent, are kept. A session
# has its own copies of uploads.
_KEPT = 600


class Sessions:
    """The sessions of the open pages.

    Args:
        model: predicts pictures.
        folder: for all files, where gradio's are, too.
    """

    def __init__(self, model: WebModel, folder: Path) -> None:
        self.model = model
        self._folder = folder
        self._own = folder / "pages"
        self._own.mkdir()
        self._sessions: dict[str, Session] = {}
        self._lock = Lock()

    def of(self, key: str) -> Session:
        """Return the session of a page; a new one for a new page."""
        self.remove_old()
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = Session(self.model, self._own)
            return self._sessions[key]

    def close(self, key: str) -> None:
        """Forget a page and remove its files."""
        with self._lock:
            session = self._sessions.pop(key, None)
        if session is not None:
            session.close()

    def remove_old(self, seconds: float = _KEPT) -> None:
        """Remove gradio's files of more than so many seconds ago."""
        oldest = time.time() - seconds
        for path in self._folder.iterdir():
            with suppress(OSError):  # another thread may have removed it
                if path == self._own or path.stat().st_mtime > oldest:
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
