"""Learns coins from the upper half of a photograph, and finds those of the lower half.

    pip install scikit-image
    python examples/coins.py

The photograph is `skimage.data.coins()`: Greek coins from Pompeii, of the Brooklyn Museum, with no
known copyright. What is a coin in its upper half is told by a watershed, without any labelling.
"""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as mask_util
from scipy import ndimage
from skimage import data, filters, measure, segmentation

from solo_family.checkpoint.efficientnet_lite0 import write_timm_weights
from solo_family.files import replacing

HERE = Path(__file__).parent
OUTPUT = Path("output/coins")
# No coin lies on this row.
MIDDLE = 150


def coin_labels(image: np.ndarray) -> np.ndarray:
    """Returns the number of the coin that each pixel is of, int [H, W]; 0 is none."""
    markers = np.zeros_like(image)
    markers[image < 30], markers[image > 150] = 1, 2
    regions = segmentation.watershed(filters.sobel(image), markers)
    return measure.label(ndimage.binary_fill_holes(regions == 2))


def write_dataset(name: str, image: np.ndarray, labels: np.ndarray) -> str:
    """Writes one image in COCO's format, and returns what to call it in `DATASETS`."""
    height, width = image.shape
    annotations = []
    for coin in measure.regionprops(labels):
        if coin.area < 500:  # specks
            continue
        mask = mask_util.encode(np.asfortranarray(labels == coin.label, np.uint8))
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": 1,
                "category_id": 1,
                "iscrowd": 0,
                "area": int(coin.area),
                "bbox": mask_util.toBbox(mask).tolist(),
                "segmentation": mask | {"counts": mask["counts"].decode()},
            }
        )
    record = {"id": 1, "file_name": f"{name}.png", "height": height, "width": width}
    coco = {
        "images": [record],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "coin"}],
    }
    cv2.imwrite(str(OUTPUT / f"{name}.png"), image)
    with replacing(OUTPUT / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(coco), encoding="utf-8")
    print(f"{OUTPUT / name}.json: {len(annotations)} coins")
    return f"coco_json:{OUTPUT / name}.json:{OUTPUT}"


def run(*words: object) -> None:
    print("\n$", *words, flush=True)
    subprocess.run([sys.executable, *map(str, words)], check=True)


if __name__ == "__main__":
    OUTPUT.mkdir(parents=True, exist_ok=True)
    photograph = data.coins()
    coins = coin_labels(photograph)
    upper = write_dataset("upper", photograph[:MIDDLE], coins[:MIDDLE])
    lower = write_dataset("lower", photograph[MIDDLE:], coins[MIDDLE:])
    # Coins of 40 pixels have no room for labels.
    picture = OUTPUT / "lower_enlarged.png"
    lower_half = photograph[MIDDLE:]
    cv2.imwrite(
        str(picture), cv2.resize(lower_half, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    )
    weights = write_timm_weights(OUTPUT / "efficientnet_lite0.pth")
    run(
        *(HERE.parent / "train_net.py", "--config-file", HERE / "coins.yaml", "--resume"),
        *("DATASETS.TRAIN", f"('{upper}',)", "DATASETS.TEST", f"('{lower}',)"),
        *("MODEL.TIMM.WEIGHTS", weights, "OUTPUT_DIR", OUTPUT),
        *sys.argv[1:],
    )
    run(
        *("-m", "solo_family", "demo", "--config-file", OUTPUT / "config.yaml"),
        *("--input", picture, "--output", OUTPUT / "pictures"),
        *("--opts", "MODEL.WEIGHTS", OUTPUT / "model_final.pth"),
    )
