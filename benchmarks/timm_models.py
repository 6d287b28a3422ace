"""Try every model of timm as a backbone: python -m benchmarks.timm_models OUTPUT.csv

Each is built, with a feature pyramid, takes a training step, and an image of another size. This is
done on torch's meta device, which has shapes and no values, so that the largest take no memory; a
model with an operator that needs values is tried with them. The file has one line per model. A call
goes on where an earlier one ended, with what that has not tried: the first model of every family,
then the second.
"""

import csv
import resource
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FIELDS = ("name", "family", "parameters", "result", "kind")
SIZES = ((192, 256), (224, 352))
MEMORY = 8 << 30
LEVELS = ["res2", "res3", "res4", "res5"]


def main() -> None:
    if sys.argv[1] == "--worker":
        work(sys.argv[2:])
        return
    path = Path(sys.argv[1])
    import timm

    try_all(by_turns(timm.list_models()), path)
    print(summary(list(read(path).values())))


def by_turns(names: Sequence[str]) -> list[str]:
    """Return names in the order of their places among those that begin with the same word."""
    places: Counter[str] = Counter()
    keyed = []
    for name in names:
        word = name.split("_")[0].rstrip("0123456789")
        keyed.append((places[word], name))
        places[word] += 1
    return [name for _, name in sorted(keyed)]


def read(path: Path) -> dict[str, dict[str, str]]:
    """Return the lines of the file by name; none if it isn't there."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        return {line["name"]: line for line in csv.DictReader(file)}


def try_all(names: Sequence[str], path: Path) -> None:
    """Try the models that the file lacks, in a process that is replaced if it dies."""
    started = time.time()
    done = read(path)
    todo = [name for name in names if name not in done]
    if not done:
        path.write_text(",".join(FIELDS) + "\n")
    left = list(todo)
    while left:
        command = [sys.executable, "-m", "benchmarks.timm_models", "--worker", *left]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        for line in worker.stdout:
            _add(path, line)
            left.pop(0)
            tried = len(todo) - len(left)
            rest = (time.time() - started) / tried * len(left) / 60
            print(f"{tried}/{len(todo)}, {rest:.0f} min to go", end="\r", file=sys.stderr)
        if worker.wait() and left:
            _add(path, f"{left.pop(0)},,,the process ended with {worker.returncode},\n")


def _add(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line)


def work(names: Sequence[str]) -> None:
    """Print a line of the file for each model."""
    warnings.filterwarnings("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    output = csv.writer(sys.stdout, lineterminator="\n")
    for name in names:
        output.writerow(try_model(name))
        sys.stdout.flush()


def try_model(name: str) -> tuple[str, ...]:
    """Return the fields of a model."""
    from timm.models import model_entrypoint

    family = model_entrypoint(name).__module__.rsplit(".", 1)[-1]
    try:
        try:
            parameters, kind = run(name, "meta")
        except RuntimeError as error:
            if "meta" not in str(error) and not isinstance(error, NotImplementedError):
                raise
            parameters, kind = run(name, "cpu")
    except Exception as error:
        return name, family, "", f"{type(error).__name__}: {str(error).splitlines()[0]}", ""
    return name, family, f"{parameters / 1e6:.1f}", "ok", kind


def run(name: str, device: str) -> tuple[int, str]:
    """Build a model, train a step, infer, and return its number of parameters and its kind."""
    import torch
    from detectron2.layers import ShapeSpec

    from solo_family import get_cfg
    from solo_family.modeling.timm_backbone import build_timm_fpn_backbone

    cfg = get_cfg()
    cfg.MODEL.TIMM.NAME = name
    cfg.MODEL.TIMM.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = LEVELS
    with torch.device(device):
        model = build_timm_fpn_backbone(cfg, ShapeSpec(channels=3))
        bottom_up: Any = model.bottom_up
        levels = model(torch.zeros(2, 3, *SIZES[0]))
        torch.stack([level.mean() for level in levels.values()]).sum().backward()
        idle = [
            key
            for key, weight in bottom_up.named_parameters()
            if weight.requires_grad and weight.grad is None
        ]
        if idle:
            raise RuntimeError(f"{len(idle)} weights get no gradient, {idle[0]} first")
        _check_shapes(levels, SIZES[0])
        with torch.no_grad():
            _check_shapes(model.eval()(torch.zeros(1, 3, *SIZES[1])), SIZES[1])
    parameters = sum(weight.numel() for weight in bottom_up.model.parameters())
    return parameters, _kind(bottom_up)


def _check_shapes(levels: dict[str, Any], size: tuple[int, int]) -> None:
    for name, level in levels.items():
        stride = 2 ** int(name[1:])
        expected = tuple(-(-side // stride) for side in size)
        if tuple(level.shape[-2:]) != expected:
            raise RuntimeError(f"{name} is {tuple(level.shape[-2:])} for an image of {size}")


def _kind(backbone: Any) -> str:
    fit = backbone.fit
    if fit.is_plain:
        return f"one map of stride {fit.strides[0]}"
    if backbone.made:
        return f"without {', '.join(backbone.made)}"
    if fit.multiple > 1:
        return f"padded to {fit.multiple}"
    return "maps at strides 4 to 32" if fit.is_exact else "maps resized to strides 4 to 32"


def summary(lines: Sequence[dict[str, str]]) -> str:
    """Return how many models work, by kind, and why the others do not, by family."""
    works = [line for line in lines if line["result"] == "ok"]
    kinds = Counter(line["kind"] for line in works)
    others: dict[str, list[dict[str, str]]] = {}
    for line in lines:
        if line["result"] != "ok":
            others.setdefault(line["family"], []).append(line)
    rows = [f"{len(works)} of {len(lines)} work:"]
    rows += [f"  {count:5} {kind}" for kind, count in kinds.most_common()]
    for family, failed in sorted(others.items(), key=lambda item: -len(item[1])):
        rows.append(
            f"  {len(failed):5} {family} do not, {failed[0]['name']}: {failed[0]['result']}"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
