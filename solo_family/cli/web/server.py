"""Serve the page: at which address, and until when."""

import errno
import importlib
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...errors import ConfigError
from ...stopping import Stopped, end_at_once
from .flags import LOOPBACK, PORT, Serving
from .guard import Guard, local_names
from .model import WebModel
from .page import build_page, look
from .sessions import Sessions

# No telemetry, nothing that is fetched from elsewhere, nothing that was set for other pages.
_QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ROOT_PATH": "",
    "GRADIO_MCP_SERVER": "False",
}
_PREFIX = "solo_family-web-"
# Seconds for answers that are under way when the page is closed; open pages wait for more forever.
_GRACE = 2


@contextmanager
def page_folder() -> Iterator[Path]:
    """Yield a folder for all files of the page, of gradio's too; it is removed at the end.

    gradio is to be imported in the `with` block, because it reads its environment then.
    """
    # A thread may write to it still.
    with TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as folder:
        variables = {**_QUIET, "GRADIO_TEMP_DIR": folder}
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield Path(folder)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def check_gradio() -> None:
    """Check that the page's packages are installed.

    Raises:
        ConfigError: one is not.
    """
    try:
        for name in ("gradio", "uvicorn", "fastapi"):
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"--web needs {error.name}: pip install 'solo-family[web]'") from error


def serve(model: WebModel, serving: Serving, folder: Path) -> int:
    """Serve the page until a signal ends the program.

    Args:
        model: predicts pictures.
        serving: see `Serving`.
        folder: of `page_folder`.

    Returns:
        The exit status, 0.

    Raises:
        ConfigError: the address can't be used.
        Stopped: a signal has ended it.
    """
    host, port = serving.host or LOOPBACK, PORT if serving.port is None else serving.port
    with _listening(host, port) as listener:
        server = _server(Sessions(model, folder), host, serving)
        _tell(host, listener.getsockname()[1])
        try:
            server.run(sockets=[listener])
        except Stopped as stopped:
            stopped.state = "the page is closed, and its files are removed."
            if not model.close(_GRACE):  # Python would wait for the thread that predicts
                shutil.rmtree(folder, ignore_errors=True)
                end_at_once(stopped.number, stopped.state)
            raise
    return 0


def _server(sessions: Sessions, host: str, serving: Serving) -> Any:
    import fastapi
    import gradio as gr
    import uvicorn

    page = build_page(sessions, serving)
    page.queue(api_open=False)
    # Without pages that describe it, whose scripts come from elsewhere.
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        max_file_size=serving.max_upload,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        **look(),
    )
    guarded = Guard(app, local_names(host), serving.max_upload)
    config = uvicorn.Config(
        guarded, log_level="warning", ws="none", timeout_graceful_shutdown=_GRACE
    )
    return uvicorn.Server(config)


def _tell(host: str, port: int) -> None:
    """Say where the page is, and loudly if others can reach it."""
    name = f"[{host}]" if ":" in host else host
    if not local_names(host):
        print(
            f"WARNING: --host {host}: everyone who can reach this machine can use the page, see "
            "the load of its model and fill its disk. There is no password, and nothing is "
            f"encrypted. --host {LOOPBACK} (the default) is for this machine only.",
            file=sys.stderr,
        )
        name = socket.gethostname() if host in ("0.0.0.0", "::") else name
    print(f"Open http://{name}:{port} in a browser. Ctrl-C ends it.", flush=True)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens at an address.

    Raises:
        ConfigError: the address can't be used.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        raise ConfigError(_why(error, host, port)) from error
    with listener:
        yield listener


def _why(error: Exception, host: str, port: int) -> str:
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        return f"--port {port} is in use, perhaps by another page. Give another, or 0 for any."
    if code == errno.EACCES:
        return f"--port {port} is not allowed to this user. Give one of 1024 or more."
    reason = getattr(error, "strerror", None) or error
    return (
        f"--host is {host}, which is no address of this machine ({reason}). Leave it out, or give "
        "0.0.0.0 for all of its addresses."
    )
