"""What a report says of the weights that were evaluated, and of better ones in the same folder."""

from pathlib import Path

from detectron2.config import CfgNode

from ..data.formats.register import register_in_place
from ..errors import SoloFamilyError
from ..evaluation.best_metric import averaged_metric, best_metric
from .curves import Series, evaluation_curves
from .evaluated import evaluation_of

_FINAL, _AVERAGE, _BEST = "model_final.pth", "model_final_ema.pth", "model_best.pth"


def about_weights(cfg: CfgNode, run: Path, metrics: dict[str, Series]) -> str:
    """Return which weights the predictions are of, and which others there are.

    Args:
        cfg: the run's configuration, with `DATASETS.TEST`.
        run: its folder.
        metrics: result of `read_metrics`.
    """
    evaluated = evaluation_of(run)
    if evaluated is not None:
        return f"The predictions are those of `{evaluated.weights}`, by `--eval-only`."
    text = [
        f"The predictions are those of the last weights, `{_FINAL}`, which `demo` and `Predictor` "
        "take from this folder."
    ]
    shown = evaluation_curves(metrics)
    names = list(dict.fromkeys(cfg.DATASETS.TEST))
    averages = {name: averaged_metric(name, names) for name in shown}
    main = next((name for name in shown if averages[name] in metrics), None)
    if cfg.SOLVER.EMA.ENABLED and main is not None:
        value, of_average = metrics[main][1][-1], metrics[averages[main]][1][-1]
        text.append(
            f"Their average (`SOLVER.EMA`), `{_AVERAGE}`, has {main} {of_average:.1f}; they "
            f"themselves have {value:.1f}."
        )
    try:
        # As a command this runs without the training's check, which registers them.
        register_in_place(names)
        chosen = best_metric(cfg)
    except SoloFamilyError:  # the part about the predictions says what is wrong
        chosen = ""
    if chosen in metrics and (run / _BEST).is_file():
        iterations, values = metrics[chosen]
        best = max(values)
        if best > values[-1]:
            text.append(
                f"The best {chosen}, {best:.1f}, was after iteration "
                f"{iterations[values.index(best)]}: `{_BEST}`."
            )
    if len(text) > 1:
        text.append(
            f"For a report of other weights evaluate them (`train_net.py --config-file "
            f"{run / 'config.yaml'} --eval-only MODEL.WEIGHTS {run / 'FILE'}`), and write it again "
            f"(`python -m solo_family report {run}`)."
        )
    return " ".join(text)
