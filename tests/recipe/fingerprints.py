"""Descriptions of datasets that no file is needed for."""

from solo_family.recipe.fingerprint import Fingerprint
from solo_family.recipe.machine import Machine

CPU = Machine(cores=2, memory=16)
GPU = Machine(cores=16, memory=64, gpu="a GPU", gpu_memory=24)


def described(
    images: int,
    size: tuple[int, int],
    boxes: list[tuple[float, float]],
    images_of_class: dict[str, int] | None = None,
) -> Fingerprint:
    """Return a fingerprint of equal images, each of which has the same boxes."""
    return Fingerprint(
        image_sizes=(size,) * images,
        object_boxes=tuple(boxes) * images,
        object_images=tuple(image for image in range(images) for _ in boxes),
        images_of_class=images_of_class or {"thing": images},
    )


DATA = {
    "usual": described(136, (400, 500), [(180.0, 90.0), (40.0, 30.0), (250.0, 160.0)]),
    "tiny": described(100, (480, 640), [(6.0, 6.0)] * 50),
    "huge": described(100, (480, 640), [(470.0, 630.0), (300.0, 400.0)]),
    "one image": described(1, (300, 400), [(40.0, 50.0)] * 3),
    "1,203 classes": described(
        2000, (480, 640), [(60.0, 60.0)] * 10, {f"c{k}": 2000 // (k + 1) for k in range(1203)}
    ),
    "4,000 pixels": described(50, (3000, 4000), [(30.0, 30.0)] * 40),
    "5 objects": described(5, (300, 400), [(40.0, 40.0)]),
    "a pixel and all": described(20, (480, 640), [(1.0, 1.0), (480.0, 640.0)]),
    "small images": described(50, (64, 64), [(12.0, 10.0)]),
    "long images": described(50, (100, 3000), [(80.0, 900.0), (10.0, 10.0)]),
    "crowd": described(60, (250, 250), [(10.0, 10.0)] * 400),
}
