"""The command line of train_net.py, with detectron2's flags, and the body of a run's process."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from ..checkpoint.load import load_weights
from ..checkpoint.published import with_implied_keys
from ..config import setup_cfg
from ..config.output import check_installed
from ..console import outlive_readers
from ..data.formats.classes import (
    check_classes,
    class_ids,
    class_names,
    is_class_agnostic,
    num_classes,
    stuff_ids,
)
from ..data.formats.coco_file import forget_coco_files
from ..data.formats.register import check_datasets
from ..errors import ConfigError, SoloFamilyError, TrainingError
from ..faults import explain, explained
from ..fetch.names import named_config
from ..files import as_before_on_error, remove_unfinished, replacing
from ..modeling.inference import inference_model
from ..registry import METHODS, import_own_code
from ..report.evaluated import Evaluated, note_evaluation
from ..stopping import Stopped
from ..tiling.model import TiledModel, refuse_unread
from .arguments import argument_parser
from .checkpointer import AtomicCheckpointer
from .ending import ENDING
from .led import is_led
from .lock import OutputLock
from .processes import start, take_device
from .reporting import report_training
from .resume import checkpoints, newest_checkpoint
from .tested import as_tested
from .trainer import Trainer

# The configuration of an evaluation in the folder of a training, whose config.yaml stays.
EVALUATED = "config_eval.yaml"
logger = logging.getLogger(__name__)

# The last line of a traceback, if the exception is one of this package's errors.
_MESSAGE = re.compile(r"^solo_family\.errors\.\w+: (.+)", re.M)


def read_config(args: argparse.Namespace) -> CfgNode:
    """Return the frozen configuration, checked together with the datasets that it names.

    Raises:
        ConfigError, DataError: the configuration or a dataset can't be used.
    """
    if not args.config_file:
        raise ConfigError("--config-file is needed: name a yaml file, for instance from configs/.")
    cfg = setup_cfg(args.config_file, args.opts, trained=args.eval_only)
    if args.skip_bad_images:
        cfg.DATALOADER.SKIP_BAD_IMAGES = True
    if not args.eval_only:
        if cfg.SOLVER.MAX_ITER < 1:
            raise ConfigError(
                f"SOLVER.MAX_ITER is {cfg.SOLVER.MAX_ITER}; a training has 1 iteration or more. To "
                "evaluate weights without one add --eval-only."
            )
        check_installed(cfg.OUTPUT.LOGGERS)
        cfg.TEST.BEST_CONFIDENCE = None  # that of another run, from whose config.yaml this began
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


def check_first(args: argparse.Namespace) -> None:
    """Check the configuration and the datasets before the processes of a run are started.

    They do it again, and print the warnings.

    Raises:
        ConfigError, DataError: see `read_config`.
        Stopped: a signal has ended the run.
    """
    logging.disable(logging.WARNING)
    try:
        with ENDING.listening():
            read_config(args)
    finally:
        logging.disable(logging.NOTSET)
        forget_coco_files()


def start_log(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Start logging, and write the configuration to the output folder."""
    # detectron2 logs the file's content.
    file = {"config_file": str(named_config(args.config_file).path)} if args.config_file else {}
    default_setup(cfg, argparse.Namespace(**(vars(args) | file)))
    setup_logger(cfg.OUTPUT_DIR, comm.get_rank(), name="solo_family", abbrev_name="solo")
    logging.getLogger("detectron2.engine.train_loop").addFilter(partial(_without_traceback, cfg))


def store_classes(cfg: CfgNode, key: str) -> None:
    """Write the number, names and ids of the training set's classes into the configuration.

    With them, the configuration that is saved beside the weights is enough to use the weights
    without the dataset.

    Args:
        cfg: the configuration; it is changed in place.
        key: the method's key for the class count, for instance "MODEL.SOLOV2.NUM_CLASSES".
    """
    count = num_classes(cfg, key)
    cfg.merge_from_list([key, count])
    if cfg.DATASETS.TRAIN:
        # Not those of an earlier dataset, which may have had stuff where this one has things.
        cfg.MODEL.CLASS_NAMES = cfg.MODEL.CLASS_IDS = cfg.MODEL.STUFF_IDS = []
        cfg.MODEL.CLASS_NAMES = class_names(cfg)
        cfg.MODEL.CLASS_IDS = class_ids(cfg)
        cfg.MODEL.STUFF_IDS = list(stuff_ids(cfg, count))


def run(args: argparse.Namespace) -> Any:
    """Run one process of a training or an evaluation.

    Args:
        args: the parsed command line.

    Returns:
        The metrics of the last evaluation, by task.

    Raises:
        SoloFamilyError: the user made a mistake, or the machine failed (memory, disk, processes).
        Stopped: a signal has ended the run; a line about it was printed.
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
    take_device(cfg.MODEL.DEVICE, trains=not args.eval_only)
    with (
        explained(cfg, training=not args.eval_only),
        # Only the main process writes to the folder. The others wait until it has the lock.
        OutputLock(cfg.OUTPUT_DIR) if comm.is_main_process() else nullcontext(),
    ):
        comm.synchronize()
        if args.eval_only:
            with _written_as(cfg, EVALUATED) if comm.is_main_process() else nullcontext():
                start_log(cfg, args)
            return evaluate(cfg, args)
        trainer = prepare(cfg, args)
        trainer.train()
        report_training(trainer.cfg)
        return trainer.last_results


@contextmanager
def _written_as(cfg: CfgNode, name: str) -> Iterator[None]:
    """Let the configuration be written as `name` if the folder has that of a training.

    Otherwise an evaluation with other options would change what the folder tells of its weights.
    """
    path = Path(cfg.OUTPUT_DIR) / "config.yaml"
    trained = path.read_bytes() if checkpoints(path.parent) and path.is_file() else None
    yield
    if trained is not None:
        with replacing(path.with_name(name)) as temporary:
            temporary.write_bytes(path.read_bytes())
        with replacing(path) as temporary:
            temporary.write_bytes(trained)
        logger.info(f"{path} is again that of the training; this evaluation's is {name}.")


def prepare(cfg: CfgNode, args: argparse.Namespace) -> Trainer:
    """Begin the log, load the weights or a checkpoint, and return the trainer.

    The configuration in the output folder stays that of the earlier run until everything that may
    be wrong with this one has been checked.
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
    """Evaluate `MODEL.WEIGHTS` or, with `--resume`, the newest checkpoint.

    Returns:
        The metrics, by task.

    Raises:
        DataError: the file can't be read, or lacks weights of the model; or, after the metrics are
            printed, a part of an image could not be read.
    """
    newest = newest_checkpoint(cfg.OUTPUT_DIR) if args.resume else None
    if newest is None:
        cfg = with_implied_keys(cfg)
    args.trainer.check_evaluation(cfg)
    if newest is None and not cfg.MODEL.WEIGHTS:
        logger.warning(
            "MODEL.WEIGHTS is empty: random weights are evaluated. Name a file there, or add "
            f"--resume for the newest checkpoint of {cfg.OUTPUT_DIR}."
        )
    model = args.trainer.build_model(cfg)
    checkpointer = AtomicCheckpointer(model, save_dir=cfg.OUTPUT_DIR)
    load_weights(checkpointer, str(newest or cfg.MODEL.WEIGHTS), complete=True)
    del checkpointer  # it has the model as it was trained, which is no longer needed
    model = as_tested(cfg, inference_model(model.eval(), cfg))
    results = args.trainer.test(cfg, model)
    if comm.is_main_process():
        run = Path(cfg.OUTPUT_DIR)
        config = EVALUATED if (run / EVALUATED).is_file() else "config.yaml"
        note_evaluation(run, Evaluated(str(newest or cfg.MODEL.WEIGHTS), config))
        verify_results(cfg, results)
    if isinstance(model, TiledModel):
        refuse_unread(model.unread)
    return results


def main(argv: Sequence[str] | None = None, trainer: type[Trainer] = Trainer) -> int:
    """Run train_net.py.

    Args:
        argv: detectron2's flags; by default those of the command line.
        trainer: the class that trains and evaluates; see docs/extending.md.

    Returns:
        The exit status: 0, 2 after an error whose message was printed, or 128 plus the number of
        the signal that ended the run.
    """
    outlive_readers()
    args = argument_parser().parse_args(argv, argparse.Namespace(trainer=trainer))
    try:
        import_own_code()
        start(run, args, check_first)
    except Stopped as stopped:
        if not stopped.is_told:  # none of several processes had begun, or one was ended
            print(stopped, file=sys.stderr)
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
    """Return the error for a run in which a process has died and torch has ended the others."""
    how = error.signal_name or f"exit status {error.exit_code}"
    return TrainingError(
        f"Process {error.error_index} of this run was ended by {how}, so the others were ended, "
        "too. SIGKILL usually means that the machine ran out of memory: lower SOLVER.IMS_PER_BATCH "
        "or DATALOADER.NUM_WORKERS. --resume goes on from the last checkpoint."
    )


def one_line(error: Exception) -> str:
    """Return the message of one of this package's errors, even from another process's traceback.

    Of an exception in another process only the text of its traceback arrives here; its last error
    is the one that ended the process.
    """
    messages = _MESSAGE.findall(str(error))
    return messages[-1] if messages else str(error)


def _without_traceback(cfg: CfgNode, record: logging.LogRecord) -> bool:
    """Filter the log: shorten the traceback of a known error to its message.

    Returns:
        True, so that every record is logged.
    """
    error = record.exc_info[1] if record.exc_info else None
    ours = explain(error, cfg, training=True) if error else None
    if ours:
        record.msg, record.args = "Training stopped: %s", (one_line(ours),)
        record.exc_info = None
    return True
