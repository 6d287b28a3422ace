"""The command line `python -m solo_family VERB`, also installed as `solo-family`."""

import argparse
import logging
import sys
import time
from collections.abc import Sequence

from .console import outlive_readers
from .errors import SoloFamilyError
from .heap import keep_freed_memory
from .registry import import_own_code
from .starting import load, use_utf8
from .threads import choose_before_torch

# The verbs, each of which is a module of solo_family.cli, and what they do.
VERBS = {
    "quickstart": "generate a small dataset, train on it, evaluate, and draw the results",
    "labelme": "convert labelme files to a dataset in COCO's format, in two splits",
    "split-data": "split a dataset in COCO's format for training and validation",
    "prepare-data": "make the label files that published configs name from a dataset's originals",
    "init": "write a config for data of your own, from what they and the machine are",
    "check-data": "report what is wrong with a dataset, and how large its objects are",
    "visualize-data": "draw training images, and the grid cells of their objects",
    "demo": "segment images, videos or the frames of a webcam",
    "predict-many": "segment many images on several processes or machines, into one table",
    "export": "write a model to a folder that runs without detectron2",
    "publish": "make a folder of a trained model that others can load, with a model card",
    "evaluate": "measure exported models on a dataset: AP, size, time",
    "errors": "report which types of errors cost AP, from predictions and ground truth",
    "report": "show a training run: curves, worst images, confusions, AP with its interval",
    "folds": "cross-validation: train K times, each time measuring on another part of a dataset",
    "benchmark": "time a model, part by part",
    "convert": "convert a checkpoint of another code base, and write its config",
    "analyze": "count the parameters, operations and activations of a model, part by part",
    "doctor": "check what is installed, and run every method once",
    "visualize-results": "draw the intermediate maps from which a model makes its masks",
}

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb.

    Args:
        argv: the words of the command line after the program's name; by default `sys.argv`.

    Returns:
        The exit status: the verb's own, 2 after an error whose message was printed, or 128 plus the
        number of the signal that ended it.
    """
    started = time.monotonic()
    if argv is None:
        use_utf8()
    outlive_readers()
    keep_freed_memory()
    choose_before_torch()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        import_own_code()
    except SoloFamilyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(prog="solo-family", description=__doc__)
    parser.set_defaults(started=started)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, summary in VERBS.items():
        verb = verbs.add_parser(name, help=summary, description=summary)
        if words[:1] == [name]:
            # Only this verb's module is imported, because each import takes seconds.
            module = load(f"solo_family.cli.{name.replace('-', '_')}")
            module.add_arguments(verb)
    args = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    from .faults import explained
    from .stopping import Signals, Stopped

    try:
        with explained(), Signals() as signals:
            status = module.run(args)
        # A verb that was interrupted and has finished its work returns the status of Ctrl-C.
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
