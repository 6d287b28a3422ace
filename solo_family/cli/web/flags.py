"""The flags of `demo --web`, and the check of those that it has no use for."""

import argparse
from dataclasses import dataclass

from ...errors import ConfigError
from ..addresses import MAX_MEGABYTES, MEGABYTE
from ..threshold import check_score, lowest_score

LOOPBACK = "127.0.0.1"
PORT = 7860
# Flags of `demo` that say where results go, or how files and videos are read, with their defaults.
_OF_FILES = {
    "output": None,
    "save": None,
    "json": None,
    "skip_existing": False,
    "batch": None,
    "track": False,
    "side_by_side": False,
    "show": False,
    "recursive": False,
    "allow_network": False,
    "max_download": MAX_MEGABYTES,
}
_OF_PAGE = ("host", "port", "max_upload")


@dataclass(frozen=True)
class Serving:
    """Where the page is, and how it begins.

    Attributes:
        host: see `--host`; None for its default.
        port: see `--port`; None for its default.
        max_upload: bytes of the largest file that may be uploaded.
        threshold: the lowest score that is shown at first.
        labels: the classes that are shown at first; empty for all.
    """

    host: str | None
    port: int | None
    max_upload: int
    threshold: float = 0.5
    labels: tuple[int, ...] = ()


def add_web_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where the page is, and what may be uploaded."""
    parser.add_argument(
        "--host",
        metavar="ADDRESS",
        help=f"address of this machine at which --web is served (default: {LOOPBACK}, which only "
        "this machine can reach)",
    )
    parser.add_argument(
        "--port", type=int, metavar="N", help=f"of --web; 0 for any (default: {PORT})"
    )
    parser.add_argument(
        "--max-upload",
        type=float,
        metavar="MEGABYTES",
        help=f"largest file that --web takes (default: {MAX_MEGABYTES})",
    )


def check_web_flags(args: argparse.Namespace) -> bool:
    """Refuse flags that would have no effect, and values that can't work.

    Returns:
        Whether the page is asked for.

    Raises:
        ConfigError: there are such flags.
    """
    if not args.web:
        given = [_flag(name) for name in _OF_PAGE if getattr(args, name) is not None]
        if given:
            raise ConfigError(f"{', '.join(given)}: only demo --web has this. Add --web.")
        return False
    given = [_flag(name) for name, default in _OF_FILES.items() if getattr(args, name) != default]
    if given:
        raise ConfigError(
            f"--web has no use for {', '.join(given)}: pictures are uploaded in the browser, and "
            "results downloaded there. Leave it out."
        )
    if args.port is not None and not 0 <= args.port <= 65535:
        raise ConfigError(f"--port is {args.port}; give a number from 1 to 65535, or 0 for any.")
    if args.max_upload is not None and not 0 < args.max_upload < float("inf"):
        raise ConfigError(f"--max-upload is {args.max_upload:g}; give megabytes, more than 0.")
    check_score(args.confidence_threshold)
    return True


def serving_of(args: argparse.Namespace, labels: tuple[int, ...], threshold: float) -> Serving:
    """Return what the flags say of the page.

    Args:
        args: the flags.
        labels: see `Serving`.
        threshold: of the model, for which `--confidence-threshold` may name another.
    """
    megabytes = MAX_MEGABYTES if args.max_upload is None else args.max_upload
    return Serving(
        host=args.host,
        port=args.port,
        max_upload=int(megabytes * MEGABYTE),
        threshold=lowest_score(args.confidence_threshold, threshold),
        labels=labels,
    )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
