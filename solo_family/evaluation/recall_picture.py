"""Draw the recall of proposals, as in Fig. 4 of InstanceFCN (arXiv 1603.08678)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files import replacing


def draw_recall(
    path: Path, iou_thresholds: Sequence[float], recall: Mapping[int, Sequence[float]]
) -> None:
    """Write a picture: recall against IoU, a curve for each number of proposals.

    Args:
        path: the file, whose suffix names the format.
        iou_thresholds: T of them, 0 to 1.
        recall: for each number of proposals, T values from 0 to 1.
    """
    # Imported here, because most runs draw nothing; without pyplot no display is needed.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    for limit, values in recall.items():
        average = 100 * sum(values) / len(values)
        axes.plot(iou_thresholds, values, marker="o", label=f"{limit} proposals, AR {average:.1f}")
    axes.set(xlabel="IoU", ylabel="recall", ylim=(0, 1), xlim=(min(iou_thresholds), 1))
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
