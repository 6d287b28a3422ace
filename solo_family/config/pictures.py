"""Check the keys that say what pictures are: channels, their statistics, ranges, sizes."""

from detectron2.config import CfgNode

from ..errors import ConfigError
from ..pictures.formats import COLOURS, Format, parse_format


def check_pictures(cfg: CfgNode) -> None:
    """Check how image files are read, and that the model takes what they have.

    Raises:
        ConfigError: names the key, its value, and what to set.
    """
    given = cfg.INPUT.RANGE
    if given not in (None, "auto"):
        numbers = isinstance(given, list | tuple) and all(isinstance(v, int | float) for v in given)
        if not numbers or len(given) != 2 or not given[0] < given[1]:
            raise ConfigError(
                f"INPUT.RANGE is {given!r}; allowed: 'auto', or the values that become black and "
                "white, for instance (0, 4095) for 12 bits."
            )
    if cfg.INPUT.MAX_PIXELS < 0:
        raise ConfigError(
            f"INPUT.MAX_PIXELS is {cfg.INPUT.MAX_PIXELS}; it must be positive, or 0 for Pillow's "
            "limit."
        )
    _check_reduced(cfg)
    wanted = parse_format(cfg.INPUT.FORMAT)
    _check_statistics(cfg, wanted)
    _check_bands(cfg, wanted)
    _check_colours(cfg, wanted)


def _check_reduced(cfg: CfgNode) -> None:
    given = cfg.INPUT
    others = {
        "INPUT.CROP.ENABLED": given.CROP.ENABLED,
        "INPUT.CROP.AROUND_OBJECTS": given.CROP.AROUND_OBJECTS,
        "INPUT.LSJ.ENABLED": given.LSJ.ENABLED,
        "INPUT.COPY_PASTE.ENABLED": given.COPY_PASTE.ENABLED,
    }
    key = next((key for key, value in others.items() if value), None)
    if given.REDUCED_JPEG and key:
        raise ConfigError(
            f"INPUT.REDUCED_JPEG is True with {key}, which takes parts of images at other sizes "
            "than those of INPUT.MIN_SIZE_TRAIN. Set INPUT.REDUCED_JPEG False."
        )


def _check_statistics(cfg: CfgNode, wanted: Format) -> None:
    keys = ("PIXEL_MEAN", "PIXEL_STD")
    lengths = [len(cfg.MODEL[key]) for key in keys]
    if lengths == [wanted.count] * 2:
        if any(not 0 < one < float("inf") for one in cfg.MODEL.PIXEL_STD):
            raise ConfigError(
                f"MODEL.PIXEL_STD is {list(cfg.MODEL.PIXEL_STD)}; pixels are divided by it, so "
                "that each must be above 0: 1.0 leaves them as they are."
            )
        return
    lines = " ".join(f'MODEL.{key} "{_of_length(cfg.MODEL[key], wanted)}"' for key in keys)
    raise ConfigError(
        f"INPUT.FORMAT {wanted.name} is of {_channels(wanted.count)}, but MODEL.PIXEL_MEAN has "
        f"{_values(lengths[0])} and MODEL.PIXEL_STD {_values(lengths[1])}: one for each channel is "
        f"needed, in this order. Measure them, or begin with {lines}"
    )


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _values(count: int) -> str:
    return "1 value" if count == 1 else f"{count} values"


def _of_length(values: list[float], wanted: Format) -> list[float]:
    """Return the values of colours for these, and their mean for all other channels."""
    mean = round(sum(values) / len(values), 3) if values else 0.0
    result = [mean] * wanted.count
    if len(values) == 3 and wanted.count > 2:
        for place, value in zip(sorted(wanted.colours or (0, 1, 2)), values):
            result[place] = value
    return result


def _check_bands(cfg: CfgNode, wanted: Format) -> None:
    bands = cfg.INPUT.BANDS
    whole = all(isinstance(band, int) and 1 <= band <= wanted.count for band in bands)
    if len(bands) not in (0, 1, 3) or not whole:
        raise ConfigError(
            f"INPUT.BANDS is {tuple(bands)}; three channels are needed, those of red, green and "
            f"blue, or one, for grey, from 1 to {wanted.count} (INPUT.FORMAT {wanted.name})."
        )


def _check_colours(cfg: CfgNode, wanted: Format) -> None:
    """Refuse augmentations that need three colours."""
    if wanted.name in COLOURS:
        return
    colour = cfg.INPUT.COLOR_AUG
    if cfg.INPUT.COLOR_AUG_SSD:
        key, line = "INPUT.COLOR_AUG_SSD is True", "INPUT.COLOR_AUG_SSD False"
    elif colour.ENABLED and colour.SATURATION:
        key = f"INPUT.COLOR_AUG.SATURATION is {colour.SATURATION}"
        line = "INPUT.COLOR_AUG.SATURATION 0.0"
    else:
        return
    raise ConfigError(
        f"{key}, which changes red, green and blue, but INPUT.FORMAT is {wanted.name}. Set {line}; "
        "INPUT.COLOR_AUG's BRIGHTNESS and CONTRAST are of any channels."
    )
