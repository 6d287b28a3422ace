"""The body of train_net.py: detectron2's command line, its launcher, and one process of a run."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch.multiprocessing import ProcessRaisedException

from ..checkpoint.load import load_weights
from ..config import setup_cfg
from ..data.classes import dataset_classes, num_classes
from ..errors import SoloFamilyError
from ..methods import METHODS
from .checkpointer import AtomicCheckpointer
from .lock import OutputLock
from .trainer import Trainer


def setup(args: argparse.Namespace) -> CfgNode:
    """Reads the configuration, starts the log, writes the configuration to the output folder."""
    cfg = setup_cfg(args.config_file, args.opts)
    if args.skip_bad_images:
        cfg.DATALOADER.SKIP_BAD_IMAGES = True
    method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
    if method is not None and not args.eval_only:
        store_classes(cfg, method.num_classes_key)
    cfg.freeze()
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, comm.get_rank(), name="solo_family", abbrev_name="solo")
    return cfg


def argument_parser() -> argparse.ArgumentParser:
    """Returns detectron2's parser with our one flag."""
    parser = default_argument_parser()
    parser.add_argument(
        "--skip-bad-images",
        action="store_true",
        help="go on past training images that can't be read, and count them",
    )
    return parser


def store_classes(cfg: CfgNode, key: str) -> None:
    """Writes the class count and names of the training set into `cfg`, in place.

    The configuration that is saved beside the weights then suffices to use them.
    """
    count = num_classes(cfg, key)
    cfg.merge_from_list([key, count])
    if cfg.DATASETS.TRAIN:
        cfg.MODEL.CLASS_NAMES = list(dataset_classes(cfg.DATASETS.TRAIN[0]) or [])


def run(args: argparse.Namespace) -> Any:
    """One process of a training, or an evaluation; returns the metrics of its evaluation."""
    cfg = setup(args)
    if args.eval_only:
        model = Trainer.build_model(cfg)
        checkpointer = AtomicCheckpointer(model, save_dir=cfg.OUTPUT_DIR)
        last = args.resume and checkpointer.has_checkpoint()
        weights = checkpointer.get_checkpoint_file() if last else cfg.MODEL.WEIGHTS
        load_weights(checkpointer, weights, complete=True)
        results = Trainer.test(cfg, model)
        if comm.is_main_process():
            verify_results(cfg, results)
        return results
    # Held until the process ends; one process writes.
    lock = OutputLock(cfg.OUTPUT_DIR) if comm.is_main_process() else None
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    if lock is not None:
        lock.release()
    return trainer.last_results


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of train_net.py; returns the exit status.

    Args:
        argv: detectron2's flags, by default those of the command line.
    """
    args = argument_parser().parse_args(argv)
    if not args.config_file:
        print("--config-file is needed: a yaml file, for instance of configs/.", file=sys.stderr)
        return 2
    # gloo's processes share the cores; torch would give each of them all.
    if args.num_gpus > 1 and "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // args.num_gpus))
    try:
        launch(
            run,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except SoloFamilyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ProcessRaisedException as error:
        # One of several processes failed; what is left of its exception is the traceback's text.
        users_mistake = re.search(r"^solo_family\.errors\.\w+: (.+)", str(error), re.M)
        if users_mistake is None:
            raise
        print(f"error: {users_mistake[1]}", file=sys.stderr)
        return 2
    return 0
