"""Write a config for data of one's own, from what the data and the machine are."""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

from ..data.loading.images import Reading
from ..errors import ConfigError, DataError
from ..recipe.bases import Base, backbone_base
from ..recipe.choice import Choice
from ..recipe.choices import Request, choose
from ..recipe.data import Dataset, in_place, problem_words, refuse_problems
from ..recipe.datasets import AnyDataset, check_both, listed, methods_for, read_any, task_of
from ..recipe.given import reading_of, with_given
from ..recipe.label_data import SEMANTIC
from ..recipe.label_fingerprint import LabelFingerprint
from ..recipe.machine import Machine, this_machine
from ..recipe.plan import plan
from ..recipe.semantic_choices import choose_semantic
from ..recipe.timing import seconds_per_iteration, two_digits
from ..recipe.trained import Trained, find_trained, trained_base
from ..recipe.write import as_yaml, base_path, write
from ..registry import METHODS
from .opts import add_opts_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `init`."""
    data = "ANNOTATIONS.json:IMAGE_DIR, or any dataset as configs name it"
    parser.add_argument("--train", required=True, metavar="DATA", help=f"to learn from: {data}")
    parser.add_argument(
        "--val", metavar="DATA", help="to measure on; without it a fifth of --train is split off"
    )
    parser.add_argument(
        "--method",
        help=f"one of {', '.join(METHODS_BY_NAME)} (default: --from's; or solov2, and for "
        "labels that are pictures maskformer)",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="MODEL",
        help="start from its weights: coco (the method's published COCO weights, if possible such "
        "as may be used commercially), a name of the model zoo, hf:OWNER/REPO of the HuggingFace "
        "Hub, the folder of a run, or a checkpoint beside its config.yaml; otherwise from a "
        "pretrained backbone",
    )
    parser.add_argument(
        "--minutes", type=float, default=20.0, help="of training on this machine (default: 20)"
    )
    parser.add_argument(
        "--seconds-per-iteration",
        type=float,
        metavar="S",
        help="instead of timing ten iterations here",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("my.yaml"), help="the config (default: my.yaml)"
    )
    parser.add_argument(
        "--anyway", action="store_true", help="go on although check-data finds problems"
    )
    add_opts_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Write the recipe, say what comes next, and return the exit status. See `make`."""
    make(args)
    print(f"\n{args.output} is written. Next:\npython train_net.py --config-file {args.output}")
    return 0


def make(args: argparse.Namespace) -> None:
    """Write the config and, if `--val` is missing, the splits; print the plan.

    Raises:
        SoloFamilyError: the flags, the data or the weights can't be used. Nothing is left behind.
    """
    written = _outputs(args.output)
    _check_flags(args, written)
    method = _method(args.method)
    name = in_place(args.train)
    task = task_of(name)
    allowed = methods_for(task)
    if method:
        _check_method(f"--method is {_plain(method)}", method, task, allowed)
    trained = find_trained(args.source, method or allowed[0]) if args.source else None
    if trained is not None:
        _check_source(args.source, trained, method, task, allowed)
    # The config inherits from the source's, which says what channels and values images have.
    reading = reading_of(args.opts, trained.cfg if trained else None)
    whole = _checked(name, args.anyway, reading)
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        method = trained.method if trained else method or allowed[0]
        _write_recipe(args, whole, method, trained, this_machine(), reading)
    except OSError as error:
        _remove(written)
        raise DataError(
            f"{args.output.parent} can't be written to ({error.strerror or error}). Give --output "
            "a path in another folder."
        ) from error
    except BaseException:
        _remove(written)
        raise


def _outputs(output: Path) -> list[Path]:
    """Return the paths of the config, its splits, and its first weights."""
    return [
        output,
        output.with_name(f"{output.stem}_data"),
        output.with_name(f"{output.stem}_weights.pth"),
    ]


def _remove(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _check_flags(args: argparse.Namespace, written: list[Path]) -> None:
    if not args.minutes >= 1:
        raise ConfigError(f"--minutes is {args.minutes:g}; 1 is the least.")
    given = args.seconds_per_iteration
    if given is not None and not 0 < given < float("inf"):
        raise ConfigError(f"--seconds-per-iteration is {given:g}; it must be above 0.")
    if args.output.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--output is {args.output}; it must end in .yaml.")
    for path in written:
        if path.exists():
            raise ConfigError(f"{path} exists: name another --output, or remove it first.")


def _plain(method: str) -> str:
    return method.lower()


# A subclass of a method's model takes the recipes of that.
METHODS_BY_NAME = {_plain(name): name for name, method in METHODS.items() if not method.parent}


def _method(given: str | None) -> str:
    """Return the name in `MODEL.META_ARCHITECTURE`, whatever its case, "_" and "-"; "" for none."""
    if given is None:
        return ""
    name = _plain(given).replace("_", "").replace("-", "")
    if name not in METHODS_BY_NAME:
        raise ConfigError(f"--method is {given}; allowed: {', '.join(METHODS_BY_NAME)}.")
    return METHODS_BY_NAME[name]


def _check_source(
    source: str, trained: Trained, method: str, task: str, allowed: list[str]
) -> None:
    if method and method != trained.method:
        raise ConfigError(
            f"--method is {_plain(method)}, but --from {source} is a model of "
            f"{_plain(trained.method)}. Leave one of the two out."
        )
    what = f"--from {source} is a model of {_plain(trained.method)}"
    _check_method(what, trained.method, task, allowed)


def _check_method(what: str, method: str, task: str, allowed: list[str]) -> None:
    if method not in allowed:
        raise ConfigError(
            f"{what}, but the labels of --train are for {task} segmentation; allowed: "
            f"{listed(allowed)}."
        )


def _write_recipe(
    args: argparse.Namespace,
    whole: AnyDataset,
    method: str,
    trained: Trained | None,
    machine: Machine,
    reading: Reading,
) -> None:
    train, val, notes = _datasets(args, whole, method, reading)
    data = train.measure()
    base = _base(args.output, method, trained, machine, train)
    request = Request(
        method=method,
        train=train.name,
        val=val.name if val else "",
        num_val=val.num_images if val else 0,
        minutes=args.minutes,
        output_dir=f"output/{args.output.stem}",
        task=train.task,
        most_val=val.most_objects if val else 0,
    )

    def text(seconds: float) -> tuple[list[Choice], str]:
        if train.task == SEMANTIC and isinstance(data, LabelFingerprint):
            choices = choose_semantic(data, machine, request, base, seconds)
        else:
            choices = choose(data, machine, request, base, seconds)
        choices = with_given(choices, args.opts)
        head = f"Written by `python -m solo_family init` for {machine}; all of it can be edited."
        return choices, as_yaml(base_path(base.config, args.output), choices, head)

    seconds = _seconds(args, text)
    choices, content = text(seconds)
    write(content, args.output)
    print(plan(data, machine, seconds, choices, [*notes, *base.notes]))


def _datasets(
    args: argparse.Namespace, whole: AnyDataset, method: str, reading: Reading
) -> tuple[AnyDataset, AnyDataset | None, list[str]]:
    """Return the datasets of training and validation, and what to tell about them."""
    notes = [f"{whole.name}: {words}" for words in whole.problems]
    if args.val is not None:
        train, val = whole, _checked(in_place(args.val), args.anyway, reading)
        notes += [f"{val.name}: {words}" for words in val.problems]
    else:
        names = whole.split(_outputs(args.output)[1])
        if not names[1]:
            return whole, None, [*notes, "training needs all images: none is left to validate on"]
        train, val = (read_any(name, reading) for name in names)
        notes.append(
            f"no --val: {val.num_images} of {whole.num_images} images are split off, "
            "as far as possible those with the same name but for a number together"
        )
    between = problem_words(check_both(train, val, method))
    if not args.anyway:
        refuse_problems("training and validation", between)
    if isinstance(val, Dataset) and not val.has_objects:
        notes.append(
            "no validation image has an object, so that there will be no AP, no best checkpoint "
            "and no confidence threshold: name other images with --val"
        )
    return train, val, [*notes, *between]


def _checked(name: str, anyway: bool, reading: Reading) -> AnyDataset:
    dataset = read_any(name, reading)
    if not anyway:
        refuse_problems(name, dataset.problems)
    return dataset


def _base(
    output: Path, method: str, trained: Trained | None, machine: Machine, train: AnyDataset
) -> Base:
    if trained is None:
        return backbone_base(method, machine, output.parent, train.task)
    return trained_base(trained, [*train.classes], _outputs(output)[2], train.task)


def _seconds(args: argparse.Namespace, text: Callable[[float], tuple[list[Choice], str]]) -> float:
    """Return the seconds per iteration: the given ones, or those of ten iterations."""
    if args.seconds_per_iteration is not None:
        return two_digits(args.seconds_per_iteration)
    draft = args.output.with_name(f".{args.output.stem}.draft.yaml")
    try:
        write(text(1.0)[1], draft)
        return seconds_per_iteration(draft)
    finally:
        draft.unlink(missing_ok=True)
