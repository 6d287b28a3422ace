"""Images per second and core of the training mapper beside detectron2's: benchmarks.mapper.

Of real images with COCO's annotations ($SOLO_FAMILY_TEST_DATA, or --annotations and --images).
Both mappers take turns in one process with one thread, with the same augmentation and seeds;
`--cache` gives ours the cache of decoded images. Prints images per CPU second, and their ratio.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tabulate import tabulate

from .ratios import Pair, cpu_seconds, quiet

CONFIG = "SOLOv2/solov2_R50_3x.yaml"


def main(words: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    root = Path(os.environ.get("SOLO_FAMILY_TEST_DATA", ""), "coco_union")
    parser.add_argument("--annotations", default=root / "annotations/instances_train2017.json")
    parser.add_argument("--images", default=root / "images")
    parser.add_argument("--config-file", default=CONFIG)
    parser.add_argument("--count", type=int, default=60, help="images")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--cache", type=int, default=0, metavar="BYTES")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY VALUE")
    args = parser.parse_args(words)
    os.environ["OMP_NUM_THREADS"] = "1"
    from solo_family.config import setup_cfg
    from solo_family.model_zoo import get_config_file

    from .pairs import use_one_thread

    use_one_thread()
    name = f"coco_json:{args.annotations}:{args.images}"
    with quiet():
        opts: list[Any] = ["DATASETS.TRAIN", (name,), "DATASETS.TEST", ()]
        opts += ["DATALOADER.CACHE_BYTES", args.cache, *args.opts]
        pair = of_dataset(setup_cfg(get_config_file(args.config_file), opts), args.count)
        pair.other(), pair.ours()
        turns = [(pair.other(), pair.ours()) for _ in range(args.turns)]
    rates = [args.count / median(times) for times in zip(*turns)]
    ratio = median(other / ours for other, ours in turns)
    headers = ("images per CPU s: detectron2", "ours", "ours / detectron2")
    print(tabulate([(*rates, ratio)], headers, tablefmt="pipe", floatfmt=(".1f", ".1f", ".2f")))


def of_dataset(cfg: Any, count: int) -> Pair:
    """Return both mappers on the first images with objects of a configuration's first dataset."""
    from detectron2.data import DatasetCatalog, DatasetMapper

    from solo_family.data.formats.register import check_datasets
    from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
    from solo_family.data.loading.image_cache import build_cache

    check_datasets(cfg.DATASETS.TRAIN)
    every = DatasetCatalog.get(cfg.DATASETS.TRAIN[0])
    records = [record for record in every if record["annotations"]][:count]
    theirs = cfg.clone()
    theirs.defrost()
    theirs.merge_from_list(["MODEL.MASK_ON", True, "INPUT.MASK_FORMAT", "bitmask"])
    ours = MaskDatasetMapper(cfg, is_train=True, cache=build_cache(cfg, records))
    return Pair(_mapping(DatasetMapper(theirs, True), records), _mapping(ours, records))


def _mapping(mapper: Callable[[dict], Any], records: list[dict[str, Any]]) -> Callable[[], float]:
    def every() -> None:
        np.random.seed(0)
        random.seed(0)
        for record in records:
            mapper(record)

    return cpu_seconds(every)


if __name__ == "__main__":
    main()
