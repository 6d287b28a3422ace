"""The flags of `demo` that say what is read."""

import argparse
from pathlib import Path

from ..errors import ConfigError
from .addresses import MAX_MEGABYTES, MEGABYTE, Network
from .inputs import Finding, find_sources
from .source import Source, camera


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--input`, `--video-input`, `--webcam`, and the flags that belong to them."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--input",
        nargs="+",
        metavar="PATH",
        help="pictures, videos, folders, quoted globs, @FILE (text with one of these per line), - "
        "(standard input: the bytes of one file, or text as in such a file), addresses (http, "
        "https, rtsp), numbers of cameras; every page of a TIFF is a picture",
    )
    source.add_argument(
        "--video-input",
        metavar="FILE",
        help="a video, whatever its suffix; the address of a stream; or the number of a camera",
    )
    source.add_argument(
        "--webcam",
        nargs="?",
        type=int,
        const=0,
        metavar="NUMBER",
        help="read a camera (default: the first, 0), until Ctrl-C",
    )
    source.add_argument(
        "--web",
        action="store_true",
        help="serve a page on which pictures are dropped, until Ctrl-C (extra [web])",
    )
    add_finding_arguments(parser)


def add_finding_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how `--input` is found."""
    parser.add_argument(
        "--recursive", action="store_true", help="take the files of folders in folders, too"
    )
    parser.add_argument("--allow-network", action="store_true", help="open addresses of --input")
    parser.add_argument(
        "--max-download",
        type=float,
        default=MAX_MEGABYTES,
        metavar="MEGABYTES",
        help=f"largest file from an address or standard input (default: {MAX_MEGABYTES})",
    )


def network_of(args: argparse.Namespace) -> Network:
    """Return what the flags allow to be fetched.

    Raises:
        ConfigError: a flag has a value that can't work.
    """
    if not args.max_download > 0:
        raise ConfigError(f"--max-download is {args.max_download:g}; give megabytes, more than 0.")
    return Network(args.allow_network, int(args.max_download * MEGABYTE))


def find_given(args: argparse.Namespace, output: Path) -> tuple[list[Source], list[str]]:
    """Return the sources that the flags name, and the patterns that match nothing.

    Args:
        args: the flags.
        output: the folder of outputs, which are no inputs.

    Raises:
        ConfigError: a flag has a value that can't work.
        DataError: see `find_sources`.
    """
    network = network_of(args)
    if args.webcam is not None:
        if args.webcam < 0:
            raise ConfigError(f"--webcam is {args.webcam}; cameras are counted from 0.")
        return [camera(args.webcam)], []
    is_video = args.video_input is not None
    finding = Finding(
        recursive=args.recursive,
        videos=is_video,
        takes_videos=True,
        network=network,
        leave_out=output,
    )
    return find_sources([args.video_input] if is_video else args.input, finding)
