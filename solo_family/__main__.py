"""`python -m solo_family VERB`, also installed as `solo-family`."""

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from .console import outlive_readers

# The module of solo_family.cli that holds each verb, and what it does.
VERBS = {
    "quickstart": "make a small dataset, train on it, evaluate, draw the results",
    "labelme": "turn labelme's files into a dataset in COCO's format, in two splits",
    "split-data": "share a dataset in COCO's format out for training and validation",
    "check-data": "tell what is wrong with a dataset, and how large its objects are",
    "visualize-data": "draw training images, and the grid cells of their objects",
    "demo": "segment images, a video or a webcam's pictures",
    "export": "write a model as a folder that runs without detectron2",
    "evaluate": "measure exported models on a dataset: AP, size, time",
    "errors": "tell what AP is lost to, from predictions and ground truth",
    "benchmark": "time a model, part by part",
    "convert": "give a checkpoint of another code base our names and config",
    "analyze": "count a model's parameters, operations and activations, part by part",
    "doctor": "look at what is installed, and try every method once",
    "visualize-results": "draw what a model makes of a picture on the way to its masks",
}

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb and return the exit status: 2 where the user's input can't work, 128 and its
    number where a signal has ended it."""
    outlive_readers()
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="solo-family", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, summary in VERBS.items():
        verb = verbs.add_parser(name, help=summary, description=summary)
        if words[:1] == [name]:
            # Only the verb that runs is imported: the others' imports take seconds.
            module = importlib.import_module(f"solo_family.cli.{name.replace('-', '_')}")
            module.add_arguments(verb)
    args = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    from .errors import SoloFamilyError
    from .faults import explained
    from .stopping import Signals, Stopped

    try:
        with explained(), Signals() as signals:
            status = module.run(args)
        # A verb that has ended itself well says so as if it had been Ctrl-C.
        return 128 + signals.asked if status == _INTERRUPTED and signals.asked else status
    except Stopped as stopped:
        if not stopped.is_told:
            print(stopped, file=sys.stderr)
        return 128 + stopped.number
    except SoloFamilyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
