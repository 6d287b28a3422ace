"""A table of all instances."""

from pathlib import Path

from pycocotools import mask as mask_util

from .picture import Classes, Picture
from .saver import Options, Saver, csv_writer

_COLUMNS = "file_name,frame,image_id,instance,class,category_id,score,x,y,width,height"
_MEASURED = "area_px,centre_x,centre_y"


class Table(Saver):
    """Save `instances.csv`, with a row per instance; sizes and places are in pixels."""

    format = "csv"

    def __init__(self, output: Path, classes: Classes, options: Options) -> None:
        super().__init__(output, classes, options)
        size = options.pixel_size
        columns = [*_COLUMNS.split(","), *_MEASURED.split(","), *([size.key] if size else [])]
        columns += ["track"] if options.tracks else []
        self._rows = csv_writer(self.open(output / "instances.csv"), columns)

    def write(self, picture: Picture) -> None:
        """Write the rows of a picture."""
        for number, instance in enumerate(picture.instances or [], start=1):
            left, top, width, height = mask_util.toBbox(instance.rle).tolist()
            mask, _, _ = instance.crop()
            rows, columns = mask.nonzero()
            size = self.options.pixel_size
            self._rows.writerow(
                {
                    "file_name": picture.file_name,
                    "frame": picture.where.get("frame", ""),
                    "image_id": picture.image_id,
                    "instance": number,
                    "class": self.classes.name(instance.label),
                    "category_id": self.classes.id(instance.label),
                    "score": instance.score,
                    "x": left,
                    "y": top,
                    "width": width,
                    "height": height,
                    "area_px": len(rows),
                    "centre_x": left + columns.mean() + 0.5 if len(rows) else "",
                    "centre_y": top + rows.mean() + 0.5 if len(rows) else "",
                }
                | ({size.key: size.area(len(rows))} if size else {})
                | ({"track": instance.track or ""} if self.options.tracks else {})
            )
