"""The flags of train_net.py: detectron2's, and one of ours."""

import argparse

from detectron2.engine import default_argument_parser

from .trainer import Trainer

# detectron2's own texts tell of LazyConfigs, which are not read, and not of names like zoo:CONFIG.
_HELP = {
    "config_file": "a yaml file; zoo:NAME of the model zoo; or hf:OWNER/REPO of the Hub",
    "resume": "go on from the newest intact checkpoint in OUTPUT_DIR; begin if there is none",
    "eval_only": "evaluate MODEL.WEIGHTS on DATASETS.TEST, without training",
    "num_gpus": "processes on this machine, each with a GPU, or on the CPU if there is none "
    "(default: 1)",
    "num_machines": "number of machines (default: 1)",
    "machine_rank": "number of this machine, from 0, the first one (default: 0)",
    "dist_url": "address of the first machine, for instance tcp://10.0.0.1:29500; with one machine "
    "auto takes a free port (default: a port of this machine that is the user's own)",
    "opts": "config keys to change, for instance SOLVER.BASE_LR 0.001 DATASETS.TEST "
    "\"('my_val',)\"; must come after all flags",
}
_METAVARS = {
    "num_gpus": "N",
    "num_machines": "N",
    "machine_rank": "N",
    "dist_url": "URL",
    "opts": "KEY VALUE",
}
_EXAMPLES = """examples:
  python train_net.py --config-file my.yaml
  python train_net.py --config-file my.yaml --resume
  python train_net.py --config-file output/config.yaml --eval-only \\
    MODEL.WEIGHTS output/model_final.pth
  python train_net.py --config-file my.yaml --num-gpus 8 SOLVER.BASE_LR 0.001
  python train_net.py --config-file my.yaml --num-gpus 8 --num-machines 2 --machine-rank 0 \\
    --dist-url tcp://10.0.0.1:29500
"""


def argument_parser() -> argparse.ArgumentParser:
    """Return detectron2's flags, with help on what they do here, and `--skip-bad-images`."""
    parser = default_argument_parser(_EXAMPLES)
    parser.description = "Train a model, or evaluate one with --eval-only."
    for action in parser._actions:
        action.help = _HELP.get(action.dest, action.help)
        action.metavar = _METAVARS.get(action.dest, action.metavar)
    parser.add_argument(
        "--skip-bad-images",
        action="store_true",
        help="skip training images that can't be read, and count them, instead of stopping",
    )
    parser.set_defaults(trainer=Trainer)
    return parser
