"""How many pictures a second predict-many does with one worker of Ray, and with two.

python -m benchmarks.predict_many --config-file output/config.yaml --weights WEIGHTS

One and two workers take turns on the same pictures, each time on a new cluster of this machine. The
time in which workers start and open the model is left out: the rate is that between the first
answers (30 % of all) and the last ones (90 %). Run it on an idle machine of at least two cores.
"""

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path

from solo_family.cli import predict_many
from solo_family.cli.many.cluster import Cluster
from solo_family.cli.many.model import Description, describe_model
from solo_family.cli.many.worker import Chunk
from solo_family.cli.source import Source

from .demo_throughput import write_pictures

FIRST, LAST = 0.3, 0.9


def flags(args: argparse.Namespace, workers: int) -> argparse.Namespace:
    """Returns the flags of predict-many."""
    parser = argparse.ArgumentParser()
    predict_many.add_arguments(parser)
    words = ["--config-file", args.config_file, "--input", "", "--output", ""]
    words += ["--workers", str(workers), "--confidence-threshold", str(args.threshold)]
    return parser.parse_args([*words, "--opts", "MODEL.WEIGHTS", args.weights])


def rate(cluster: Cluster, chunks: list[Chunk]) -> float:
    """Returns pictures per second, without the start and the end."""
    done, times = 0, [(0, time.perf_counter())]
    for table in cluster(chunks):
        done += table.num_rows
        times.append((done, time.perf_counter()))
    measured = [(count, moment) for count, moment in times if FIRST <= count / done <= LAST]
    (before, start), (after, end) = measured[0], measured[-1]
    return (after - before) / (end - start)


def measure(args: argparse.Namespace, chunks: list[Chunk]) -> dict[int, list[float]]:
    """Returns the rates of each number of workers, of one turn after another."""
    rates: dict[int, list[float]] = {workers: [] for workers in args.workers}
    description: Description = describe_model(flags(args, 1))
    for turn in range(args.rounds):
        for workers in args.workers:
            with Cluster(flags(args, workers), description) as cluster:
                rates[workers].append(rate(cluster, chunks))
            print(f"turn {turn + 1}, {workers} workers: {rates[workers][-1]:.2f}", flush=True)
    return rates


def main() -> None:
    """Prints the rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--size", type=int, nargs=2, default=[480, 640], metavar=("H", "W"))
    parser.add_argument("--pictures", type=int, default=160)
    parser.add_argument("--chunk", type=int, default=8, help="pictures given to a worker at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threshold", type=float, default=0.5)
    args = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder), args.pictures, *args.size)
        pictures = [(index, Source(path, False)) for index, path in enumerate(paths, start=1)]
        starts = range(0, len(pictures), args.chunk)
        rates = measure(args, [pictures[start : start + args.chunk] for start in starts])
    height, width = args.size
    print(f"{args.pictures} pictures of {height} x {width}, one thread per worker")
    for workers, values in rates.items():
        print(f"{workers} workers: {statistics.median(values):.2f} pictures per second")
    first, last = rates[args.workers[0]], rates[args.workers[-1]]
    ratios = [many / few for few, many in zip(first, last)]
    print(f"ratio, median of {args.rounds} turns: {statistics.median(ratios):.2f}")
    print(f"ratios: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


if __name__ == "__main__":
    main()
