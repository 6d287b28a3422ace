"""The body of train_net.py: detectron2's command line, and one process of a run."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, default_setup
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from ..checkpoint.load import load_weights
from ..config import setup_cfg
from ..console import outlive_readers
from ..data.formats.classes import (
    check_classes,
    class_ids,
    class_names,
    is_class_agnostic,
    num_classes,
    stuff_ids,
)
from ..data.formats.register import check_datasets
from ..errors import ConfigError, SoloFamilyError, TrainingError
from ..faults import explain, explained
from ..files import as_before_on_error, remove_unfinished
from ..modeling.inference import inference_model
from ..registry import METHODS
from ..stopping import Stopped
from .checkpointer import AtomicCheckpointer
from .ending import ENDING
from .launcher import is_led
from .lock import OutputLock
from .processes import start
from .resume import newest_checkpoint
from .trainer import Trainer

# The last line of a traceback that one of our errors ends.
_MESSAGE = re.compile(r"^solo_family\.errors\.\w+: (.+)", re.M)


def read_config(args: argparse.Namespace) -> CfgNode:
    """Returns the configuration, checked together with the datasets that it names.

    Raises:
        ConfigError, DataError: it can't work.
    """
    if not args.config_file:
        raise ConfigError("--config-file is needed: a yaml file, for instance of configs/.")
    cfg = setup_cfg(args.config_file, args.opts)
    if args.skip_bad_images:
        cfg.DATALOADER.SKIP_BAD_IMAGES = True
    train_names = () if args.eval_only else tuple(cfg.DATASETS.TRAIN)
    check_datasets((*train_names, *cfg.DATASETS.TEST))
    method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
    if method is not None:
        if not args.eval_only:
            store_classes(cfg, method.num_classes_key)
        if not is_class_agnostic(cfg):
            count = num_classes(cfg, method.num_classes_key)
            check_classes(cfg, train_names, count)
    cfg.freeze()
    return cfg


def start_log(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Starts the log, and writes the configuration to the output folder."""
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, comm.get_rank(), name="solo_family", abbrev_name="solo")
    logging.getLogger("detectron2.engine.train_loop").addFilter(partial(_without_traceback, cfg))


def argument_parser() -> argparse.ArgumentParser:
    """Returns detectron2's parser with our one flag."""
    parser = default_argument_parser()
    parser.add_argument(
        "--skip-bad-images",
        action="store_true",
        help="go on past training images that can't be read, and count them",
    )
    parser.set_defaults(trainer=Trainer)
    return parser


def store_classes(cfg: CfgNode, key: str) -> None:
    """Writes the class count and names of the training set into `cfg`, in place.

    The configuration that is saved beside the weights then suffices to use them.
    """
    count = num_classes(cfg, key)
    cfg.merge_from_list([key, count])
    if cfg.DATASETS.TRAIN:
        cfg.MODEL.CLASS_NAMES = cfg.MODEL.CLASS_IDS = []  # not those of an earlier dataset
        cfg.MODEL.CLASS_NAMES = class_names(cfg)
        cfg.MODEL.CLASS_IDS = class_ids(cfg)
        cfg.MODEL.STUFF_IDS = list(stuff_ids(cfg, count))


def run(args: argparse.Namespace) -> Any:
    """One process of a training, or an evaluation; returns the metrics of its evaluation.

    Raises:
        SoloFamilyError: a user's mistake, or what the machine does to a run.
        Stopped: a signal has ended it, as the one line that was printed says.
    """
    outlive_readers()  # in each of several processes
    try:
        with ENDING.listening(is_led=is_led()):
            return _run(args)
    except Stopped as stopped:
        if comm.is_main_process():
            print(stopped, file=sys.stderr)
            stopped.is_told = True
        raise


def _run(args: argparse.Namespace) -> Any:
    cfg = read_config(args)
    with (
        explained(cfg, training=not args.eval_only),
        # One process writes; the others begin when the folder is theirs.
        OutputLock(cfg.OUTPUT_DIR) if comm.is_main_process() else nullcontext(),
    ):
        comm.synchronize()
        if args.eval_only:
            start_log(cfg, args)
            return evaluate(cfg, args)
        trainer = prepare(cfg, args)
        trainer.train()
        return trainer.last_results


def prepare(cfg: CfgNode, args: argparse.Namespace) -> Trainer:
    """Returns what trains, after the log has begun, and the weights or a checkpoint are loaded.

    The configuration in the output folder stays that of what has been trained, until all that can
    be wrong with this one has been looked at.
    """
    path = os.path.join(cfg.OUTPUT_DIR, "config.yaml")
    with as_before_on_error(path) if comm.is_main_process() else nullcontext():
        start_log(cfg, args)
        if comm.is_main_process():
            remove_unfinished(cfg.OUTPUT_DIR)
        trainer: Trainer = args.trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer


def evaluate(cfg: CfgNode, args: argparse.Namespace) -> Any:
    """Evaluates `MODEL.WEIGHTS`, or with `--resume` the newest checkpoint; returns the metrics.

    Raises:
        DataError: these are not weights of the whole model.
    """
    args.trainer.check_evaluation(cfg)
    model = args.trainer.build_model(cfg)
    checkpointer = AtomicCheckpointer(model, save_dir=cfg.OUTPUT_DIR)
    newest = newest_checkpoint(cfg.OUTPUT_DIR) if args.resume else None
    load_weights(checkpointer, str(newest or cfg.MODEL.WEIGHTS), complete=True)
    results = args.trainer.test(cfg, inference_model(model.eval(), cfg))
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def main(argv: Sequence[str] | None = None, trainer: type[Trainer] = Trainer) -> int:
    """Run train_net.py, and return the exit status.

    Args:
        argv: detectron2's flags, by default those of the command line.
        trainer: what trains and evaluates, see docs/extending.md.
    """
    outlive_readers()
    args = argument_parser().parse_args(argv, argparse.Namespace(trainer=trainer))
    try:
        start(run, args)
    except Stopped as stopped:
        return 128 + stopped.number
    except SoloFamilyError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except ProcessExitedException as error:
        print(f"error: {_ended(error)}", file=sys.stderr)
        return 2
    except ProcessRaisedException as error:
        if not _MESSAGE.search(str(error)):
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _ended(error: ProcessExitedException) -> TrainingError:
    """Returns the error of a run of which a process is gone; torch has ended the others."""
    how = error.signal_name or f"exit status {error.exit_code}"
    return TrainingError(
        f"Process {error.error_index} of this run was ended by {how}, and the others after it. "
        "SIGKILL is mostly for want of memory: lower SOLVER.IMS_PER_BATCH or "
        "DATALOADER.NUM_WORKERS. --resume goes on from the last checkpoint."
    )


def one_line(error: Exception) -> str:
    """Returns the message of a user's mistake, also out of another process's traceback.

    That text is all that is left of an exception in one of several processes, or in a worker of
    the data loader; the exception that ended it stands last.
    """
    messages = _MESSAGE.findall(str(error))
    return messages[-1] if messages else str(error)


def _without_traceback(cfg: CfgNode, record: logging.LogRecord) -> bool:
    """A log filter: of a user's mistake, or what the machine does, the message is enough."""
    error = record.exc_info[1] if record.exc_info else None
    ours = explain(error, cfg, training=True) if error else None
    if ours:
        record.msg, record.args = "Training stopped: %s", (one_line(ours),)
        record.exc_info = None
    return True
