"""COCO's formats: a whole dataset, and the bare list of results."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from .outlines import outline
from .picture import Classes, Picture, SavedInstance
from .saver import JsonList, Options, Saver, copy_picture


class CocoDataset(Saver):
    """Save a COCO dataset, `coco.json`, with polygons, and RLE for masks with holes.

    The names of its images are relative to the folder that all of them are in. Frames of videos are
    written as pictures into the folder `coco_images`, because they have no files.
    """

    format = "coco"
    file = "coco.json"
    track_key = "track_id"

    def __init__(self, output: Path, classes: Classes, options: Options) -> None:
        super().__init__(output, classes, options)
        self._json = self.open(output / self.file)
        self._json.write('{"annotations": ')
        self._annotations = JsonList(self._json)
        # Kept in a file until the annotations end: a million of them fill the memory.
        images = TemporaryFile("w+", encoding="utf-8", dir=output)  # noqa: SIM115
        self._images = JsonList(self._files.enter_context(images))
        self._seen: set[int] = set()

    def write(self, picture: Picture) -> None:
        """Write the annotations of a picture, and remember its name and size."""
        name = picture.file_name
        if picture.path is None:
            folder = self.output / "coco_images"
            folder.mkdir(exist_ok=True)
            name = copy_picture(picture, folder)
        image = {"id": picture.image_id, "file_name": name} | picture.size
        self._images.append(image | self.of_video(picture))
        for instance in picture.instances or []:
            area = instance.area
            if not area:
                continue  # no reader takes it
            self._seen.add(instance.label)
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": picture.image_id,
                    "category_id": self.classes.id(instance.label),
                    "segmentation": self.segmentation(instance),
                    "bbox": instance.box,
                    "area": area,
                    "iscrowd": 0,
                    "score": instance.score,
                }
                | ({} if instance.track is None else {self.track_key: instance.track})
            )

    def of_video(self, picture: Picture) -> dict[str, Any]:
        """Return what an image's entry has besides."""
        return {}

    def segmentation(self, instance: SavedInstance) -> Any:
        """Return the polygons of a mask, or its RLE if it has holes, which COCO's polygons lack."""
        parts = outline(instance.rle, self.options.polygon_tolerance)
        if any(part.holes for part in parts):
            return instance.rle
        return [part.outer.ravel().tolist() for part in parts]

    def finish(self) -> None:
        """Write the images and categories."""
        self._annotations.close()
        self._json.write(',\n"images": ')
        self._images.close()
        self._images.file.seek(0)
        shutil.copyfileobj(self._images.file, self._json)
        categories = json.dumps(self.classes.categories(self._seen))
        self._json.write(f',\n"categories": {categories}')
        for key, value in self.more().items():
            self._json.write(f',\n"{key}": {json.dumps(value)}')
        self._json.write("}\n")

    def more(self) -> dict[str, Any]:
        """Return further parts of the file."""
        return {}


class CocoRleDataset(CocoDataset):
    """Save a COCO dataset, `coco_rle.json`, with every mask exactly as it is, in RLE."""

    format = "coco-rle"
    file = "coco_rle.json"

    def segmentation(self, instance: SavedInstance) -> Any:
        """Return the mask's RLE."""
        return instance.rle


class CocoVideo(CocoRleDataset):
    """Save a dataset of videos, `coco_vid.json`, in the format that mmtracking calls CocoVID.

    An image has `video_id` and `frame_id`, from 0, and an annotation `instance_id`, the number of
    its track. Pictures that are no frames are videos of one.
    """

    format = "coco-vid"
    file = "coco_vid.json"
    track_key = "instance_id"

    def __init__(self, output: Path, classes: Classes, options: Options) -> None:
        super().__init__(output, classes, options)
        self._videos: dict[str, dict[str, Any]] = {}

    def of_video(self, picture: Picture) -> dict[str, Any]:
        """Return the video and the place in it."""
        number = len(self._videos) + 1
        video = {"id": number, "name": picture.file_name} | picture.size
        known = self._videos.setdefault(str(picture.where["file_name"]), video)
        return {"video_id": known["id"], "frame_id": picture.where.get("frame", 0)}

    def more(self) -> dict[str, Any]:
        """Return the videos."""
        return {"videos": list(self._videos.values())}


class CocoResults(Saver):
    """Save COCO results, a bare list, as COCO's evaluation reads it.

    Args:
        output: the folder of `coco_results.json`, or the name of a json file.
        classes: of the model.
        options: see `Options`.
    """

    format = "coco-results"

    def __init__(self, output: Path, classes: Classes, options: Options) -> None:
        super().__init__(output, classes, options)
        path = output / "coco_results.json"
        if not output.is_dir():
            path, self.flag = output, "--json"
        self._results = JsonList(self.open(path))

    def write(self, picture: Picture) -> None:
        """Write the results of a picture."""
        for instance in picture.instances or []:
            self._results.append(
                {
                    "image_id": picture.image_id,
                    "category_id": self.classes.id(instance.label),
                    "bbox": instance.box,
                    "score": instance.score,
                    "segmentation": instance.rle,
                    **picture.where,
                }
                | ({} if instance.track is None else {"track_id": instance.track})
            )

    def finish(self) -> None:
        """Write the end of the list."""
        self._results.close()
