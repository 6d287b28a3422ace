"""COCO's compressed run-length encoding: encoding of many masks, parts, a check of the length.

pycocotools is slow at the first, and does not do the others.

The format (pycocotools' maskApi.c): the length of a run is written as digits of 5 bits, the lowest
digit first, as characters from "0" on. A sixth bit of a digit says that another digit follows. The
highest bit of the last digit is the sign. From the fourth run on, the difference to the run two
before is written instead of the length.

Shape letters: N masks, H W their height and width.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor

from .run_lengths import run_lengths

_OFFSET, _DIGIT, _MORE, _SIGN, _BITS = 48, 0x1F, 0x20, 0x10, 5


def encode_masks(masks: Tensor) -> list[dict[str, Any]]:
    """Encode masks as compressed RLE, byte for byte as pycocotools does.

    The runs are computed on the masks' device.

    Args:
        masks: bool [N, H, W].

    Returns:
        For each mask a dict of "size", [H, W], and "counts", str.
    """
    lengths, counts = (tensor.numpy() for tensor in run_lengths(masks))
    return encode_runs(lengths, counts, (masks.shape[1], masks.shape[2]))


def encode_runs(
    lengths: np.ndarray, counts: np.ndarray, size: tuple[int, int]
) -> list[dict[str, Any]]:
    """Encode masks that are given as run lengths, byte for byte as pycocotools does.

    Args:
        lengths: int64, the lengths of each mask's runs of 0, 1, 0, 1, ..., down the columns; of
            the first mask, then of the second, ...
        counts: int64 [N], how many of them each mask has, at least 1.
        size: (H, W) of all masks.

    Returns:
        For each mask a dict of "size", [H, W], and "counts", str.
    """
    stops = counts.cumsum()
    values = lengths.copy()
    index = np.arange(len(values)) - np.repeat(stops - counts, counts)
    later = np.flatnonzero(index > 2)
    values[later] -= lengths[later - 2]
    # A value needs another digit as long as its bits and its sign don't fit.
    digits = np.ones(len(values), np.int64)
    for bits in range(_BITS, 64, _BITS):
        larger = (values < -(1 << (bits - 1))) | (values >= 1 << (bits - 1))
        if not larger.any():
            break
        digits += larger
    ends = digits.cumsum()
    place = np.arange(digits.sum()) - np.repeat(ends - digits, digits)
    text = (np.repeat(values, digits) >> (_BITS * place)) & _DIGIT
    text += _OFFSET + _MORE * (place < np.repeat(digits, digits) - 1)
    written = text.astype(np.uint8).tobytes().decode()
    edges = [0, *ends[stops - 1].tolist()]
    return [{"size": list(size), "counts": written[start:stop]} for start, stop in pairwise(edges)]


def some_columns(rle: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    """Return the RLE of a part of a mask's columns; no pixel is set in the others.

    Runs go down the columns, so that only the first and the last one change.

    Args:
        rle: "size" [H, W] and "counts", str or bytes.
        start: the first column of the part.
        stop: the column after its last.

    Returns:
        A dict of "size", [H, stop - start], and "counts", bytes.
    """
    height, width = rle["size"]
    counts = rle["counts"]
    text = counts.encode() if isinstance(counts, str) else counts
    before, after = height * start, height * max(0, width - stop)
    last = len(text) - 1
    while last and (text[last - 1] - _OFFSET) & _MORE:
        last -= 1
    if after:
        text = text[:last] + _digits(_number(text[last:]) - after)
    if before:
        end = 1
        while (text[end - 1] - _OFFSET) & _MORE:
            end += 1
        text = _digits(_number(text[:end]) - before) + text[end:]
    return {"size": [height, stop - start], "counts": text}


def _number(text: bytes) -> int:
    """Return what the digits of one number mean."""
    value = 0
    for place, character in enumerate(text):
        value |= ((character - _OFFSET) & _DIGIT) << (_BITS * place)
    return value - (1 << (_BITS * len(text)) if (text[-1] - _OFFSET) & _SIGN else 0)


def _digits(value: int) -> bytes:
    """Return the digits of a number."""
    digits = bytearray()
    while True:
        digit = value & _DIGIT
        value >>= _BITS
        if value == (-1 if digit & _SIGN else 0):
            digits.append(digit + _OFFSET)
            return bytes(digits)
        digits.append((digit | _MORE) + _OFFSET)


def fills_image(rle: dict[str, Any]) -> bool:
    """Return whether the runs of a compressed RLE add up to the pixels of its image.

    Otherwise pycocotools' comparison of masks never returns.

    Args:
        rle: "size" [height, width] and "counts", str or bytes.
    """
    counts = rle["counts"]
    # A json may contain lone surrogates, which are invalid digits like other characters.
    text = counts.encode(errors="surrogatepass") if isinstance(counts, str) else counts
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - _OFFSET
    ends = np.flatnonzero((digits & _MORE) == 0)
    if not len(ends) or ends[-1] != len(digits) - 1 or digits.min() < 0 or digits.max() >= 64:
        return False
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    shifts = _BITS * (np.arange(len(digits)) - np.repeat(starts, lengths))
    if shifts.max() > 30:  # more than any image has pixels
        return False
    runs = np.add.reduceat((digits & _DIGIT) << shifts, starts)
    runs -= np.where(digits[ends] & _SIGN, 1 << (_BITS * lengths), 0)
    # Runs 1, 3, 5, ... are chained by differences, and so are runs 2, 4, 6, ...
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    height, width = rle["size"]
    return bool(runs.min() >= 0 and runs.sum() == height * width)
