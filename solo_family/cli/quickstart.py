"""Run the quick start: make the shapes dataset, a recipe for it, train, evaluate, and draw."""

import argparse
import time
from pathlib import Path

from ..checkpoint.efficientnet_lite0 import write_timm_weights
from ..config import setup_cfg
from ..data.formats.synthetic import SPLITS, make_shapes
from ..engine.arguments import argument_parser
from ..engine.main import run as train
from ..errors import ConfigError
from ..evaluation.build import predicted_tasks
from ..recipe.deadline import Deadline, Replanned, keeping
from ..recipe.shortened import Plan
from ..report import report_path
from . import init
from .opts import add_opts_argument

_NUM_PICTURES = 12
# The metric to report for each task; the first task that was evaluated counts.
_HEADLINES = (
    ("segm", "AP"),
    ("panoptic_seg", "PQ"),
    ("sem_seg", "mIoU"),
    ("proposals", "AR@100"),
)

# One evaluation, at the end, is what a few minutes have time for.
_ONCE = ("TEST.EVAL_PERIOD", "0", "TEST.BEST_METRIC", "")
# The dataset names that replace those of the shapes dataset, by task.
_DATASETS = {
    "instance": "coco_json:{root}/annotations/{split}.json:{root}/{split}",
    "semantic": "semantic:{root}/{split}:{root}/labels/{split}:{root}/classes.txt",
    "panoptic": "panoptic:{root}/{split}:{root}/panoptic/{split}:"
    "{root}/annotations/panoptic_{split}.json",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `quickstart`."""
    parser.add_argument(
        "--config-file",
        help="one of configs/quickstart (default: the recipe that `init` writes for SOLOv2)",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=6.0,
        help="for everything: a slower machine trains for fewer iterations (default: 6)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/quickstart"),
        help="folder for the dataset, the weights, the log and the pictures",
    )
    add_opts_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the quick start from where an earlier call stopped, and return the exit status.

    Raises:
        ConfigError: `--minutes` is no number above 0; or `--output` has a run by another recipe.
    """
    if not 0 < args.minutes < float("inf"):
        raise ConfigError(f"--minutes is {args.minutes:g}; it must be a number above 0.")
    root: Path = args.output
    recipe = root / "solov2.yaml"
    run_dir = root / Path(args.config_file or recipe).stem
    _check_run(run_dir, recipe, args.config_file)
    task = _task(args.config_file) if args.config_file else "instance"
    stuff = task != "instance"
    shapes = make_shapes(root / ("shapes_stuff" if stuff else "shapes"), stuff=stuff)
    if args.config_file:
        config_file = args.config_file
        weights = write_timm_weights(root / "efficientnet_lite0.pth")
        opts = [*dataset_opts(task, shapes), "MODEL.TIMM.WEIGHTS", str(weights)]
    else:
        config_file, opts = _recipe(recipe, shapes, args), [*_ONCE]
    opts += ["OUTPUT_DIR", str(run_dir), *args.opts]
    budget = 60 * args.minutes
    cfg = setup_cfg(config_file, args.opts)
    deadline = Deadline(
        args.started + budget,
        budget,
        len(list((shapes / "val").iterdir())),
        cfg.SOLVER.IMS_PER_BATCH,
        cfg.OUTPUT.REPORT,
        cfg.SOLVER.AMP.ENABLED,
    )
    try:
        results, iterations = _train(config_file, opts, Plan(run_dir, cfg), deadline)
    except KeyboardInterrupt:
        print(f"\nStopped. The same command continues from the last checkpoint in {run_dir}.")
        return 130
    pictures = run_dir / "pictures"
    status = _draw(run_dir, sorted((shapes / "val").iterdir())[:_NUM_PICTURES], pictures)
    minutes = (time.monotonic() - args.started) / 60
    print(
        f"\n{_headline(results)} on {root / shapes.name}/val, after {iterations} of the recipe's "
        f"{cfg.SOLVER.MAX_ITER} iterations, in {minutes:.1f} minutes\n"
        f"pictures: {pictures}\n"
        f"weights:  {run_dir / 'model_final.pth'}"
    )
    report = report_path(run_dir)
    if cfg.OUTPUT.REPORT and report.is_file():
        print(f"report:   {report}")
    return status


def _check_run(run_dir: Path, recipe: Path, config_file: str | None) -> None:
    """Refuse to go on with a run by another recipe of the same name.

    Args:
        run_dir: where this run is, or would be.
        recipe: what `init` writes, or has written.
        config_file: that of the command line, if any.

    Raises:
        ConfigError: there is such a run, or a recipe for one.
    """
    written = recipe.is_file()
    if config_file is None:
        if written or not (run_dir / "last_checkpoint").is_file():
            return
        other, removed = "another recipe", "that folder"
    else:
        is_it = Path(config_file).resolve() == recipe.resolve()
        if not written or is_it or run_dir.name != recipe.stem:
            return
        other, removed = str(recipe), "that folder and that recipe"
    raise ConfigError(
        f"{run_dir} is for {other}, and a run by one recipe can't go on with another: name another "
        f"--output, or remove {removed} first."
    )


def _recipe(path: Path, shapes: Path, args: argparse.Namespace) -> str:
    """Return the path of the recipe that `init` writes, as for a user's data; written once."""
    if path.is_file():
        return str(path)
    train, val = (_DATASETS["instance"].format(root=shapes, split=split) for split in SPLITS)
    left = args.minutes - (time.monotonic() - args.started) / 60
    words = ["--train", train, "--val", val, "--output", str(path)]
    words += ["--minutes", f"{max(1, left):.1f}"]
    parser = argparse.ArgumentParser()
    init.add_arguments(parser)
    init.make(parser.parse_args(words))
    print(f"\nThe recipe is {path}.\n")
    return str(path)


def _train(
    config_file: str, opts: list[str], plan: Plan, deadline: Deadline
) -> tuple[dict[str, dict[str, float]], int]:
    """Train with as many iterations as fit, and return the metrics and that number."""
    while True:
        iterations = plan.iterations()
        words = ["--config-file", config_file, "--resume", *opts, *plan.opts(iterations)]
        args = argument_parser().parse_args(words, argparse.Namespace(trainer=keeping(deadline)))
        try:
            return train(args), iterations
        except Replanned as replanned:
            plan.change(replanned.iterations)


def dataset_opts(task: str, shapes: Path) -> list[str]:
    """Return keys and values that name a shapes dataset.

    Args:
        task: instance, semantic or panoptic.
        shapes: the folder that `make_shapes` made.
    """
    names = {split: _DATASETS[task].format(root=shapes, split=split) for split in SPLITS}
    return [
        *("DATASETS.TRAIN", f"('{names['train']}',)"),
        *("DATASETS.TEST", f"('{names['val']}',)"),
    ]


def _headline(results: dict[str, dict[str, float]]) -> str:
    """Return, as text, the metric that a paper of the method would report first."""
    task, metric = next((task, metric) for task, metric in _HEADLINES if task in results)
    return f"{task} {metric} {results[task][metric]:.1f}"


def _task(config_file: str) -> str:
    predicted = predicted_tasks(setup_cfg(config_file))
    # Panoptic models predict instances, too, and proposals are evaluated on datasets of instances.
    return next((task for task in ("panoptic", "semantic") if task in predicted), "instance")


def _draw(run_dir: Path, images: list[Path], pictures: Path) -> int:
    """Run the demo with the files that training saved, as a user would."""
    from . import demo  # here, because training needs nothing of it

    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    words = ["--config-file", str(run_dir / "config.yaml"), "--output", str(pictures)]
    words += ["--input", *map(str, images)]
    words += ["--opts", "MODEL.WEIGHTS", str(run_dir / "model_final.pth")]
    return demo.run(parser.parse_args(words))
