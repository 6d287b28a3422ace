"""Convolution with 3 x 3 kernels in a quarter of the multiplications, in float32 on a CPU.

Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin and Gray 2016, arXiv 1509.09308, section 4)
computes 4 x 4 pixels of the output from 6 x 6 of the input, a tile:

    Y = A^T [(G g G^T) * (B^T d B)] A

g is the kernel, d a tile of the input, * the product of elements. Summed over the input channels,
the products of elements of all tiles are 36 products of matrices. A, B and G evaluate polynomials
at 0, +-1/sqrt(2), +-sqrt(2) and infinity: with the customary +-1 and +-2 rounding errors are four
times as large (Barabasz et al. 2020, arXiv 1803.10986), with these they are those of torch's own
convolution.

B images, I O channels of the input and of the output, H W rows and columns of the input, Y X of the
output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Pixels of the output of a tile, places of a kernel, pixels of the input of a tile; of one axis.
_OUTPUT, _KERNEL = 4, 3
_INPUT = _OUTPUT + _KERNEL - 1
_POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))
# Tiles that are computed at a time: products of fewer are slow, and more don't stay in the cache.
_CHUNK = 192

# Padding, stride and dilation, of rows and of columns, and the number of groups.
Geometry = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]


def suits(weight: Tensor, geometry: Geometry) -> bool:
    """Return whether a convolution on a CPU is of the kind that this module computes.

    Args:
        weight: [O, I / groups, K, K].
        geometry: of the convolution.
    """
    padding, stride, dilation, groups = geometry
    plain = stride == dilation == (1, 1) and groups == 1
    bordered = padding[0] == padding[1] < _KERNEL
    whole = weight.dtype == torch.float32 and weight.device.type == "cpu"
    return plain and bordered and whole and weight.shape[2:] == (_KERNEL, _KERNEL)


def count_tiles(x: Tensor, padding: int) -> int:
    """Return the number of tiles of all images.

    Args:
        x: [B, I, H, W].
        padding: zeros around the input.
    """
    height, width = (max(0, n + 2 * padding - _KERNEL + 1) for n in x.shape[2:])
    return len(x) * -(-height // _OUTPUT) * -(-width // _OUTPUT)


def transform_weight(weight: Tensor) -> Tensor:
    """Return G g G^T of all kernels, [36, I, O].

    Args:
        weight: [O, I, 3, 3], float32.
    """
    kernels = weight.permute(2, 3, 1, 0).reshape(_KERNEL**2, -1)
    return _on_both_axes(_G, kernels).view(_INPUT**2, weight.shape[1], weight.shape[0])


def convolve(x: Tensor, transformed: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """Convolve with a stride of 1.

    Args:
        x: [B, I, H, W], float32.
        transformed: the result of `transform_weight`, [36, I, O].
        bias: [O], or None.
        padding: zeros around the input, 0 to 2.

    Returns:
        [B, O, Y, X], channels last.
    """
    outputs = transformed.shape[2]
    tiles = _Tiles(len(x), x.shape[2] + 2 * padding - 2, x.shape[3] + 2 * padding - 2)
    size = len(x), outputs, tiles.down * _OUTPUT, tiles.across * _OUTPUT
    order = torch.channels_last
    result = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=order)
    pixels_of_tiles = tiles.of_output(result.permute(0, 2, 3, 1))
    for images, rows, d in tiles.inputs(x, padding):
        products = torch.bmm(d, transformed).view(_INPUT**2, -1)
        found = pixels_of_tiles[:, :, images, rows]
        pixels = _on_both_axes(_AT, products).view(found.shape)
        if bias is None:
            found.copy_(pixels)
        else:
            torch.add(pixels, bias, out=found)
    if size[2:] == (tiles.height, tiles.width):
        return result
    # Not a view, which autograd would forbid to change in place.
    part = result[:, :, : tiles.height, : tiles.width]
    return part.clone(memory_format=order)


def gradient_of_input(gradient: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Return the gradient of the input, [B, I, H, W], channels last.

    Args:
        gradient: of the result, [B, O, Y, X].
        weight: [O, I, 3, 3].
        padding: that of the convolution.
    """
    turned = weight.flip(2, 3).transpose(0, 1)
    return convolve(gradient, transform_weight(turned), None, _KERNEL - 1 - padding)


def gradient_of_weight(gradient: Tensor, x: Tensor, padding: int) -> Tensor:
    """Return the gradient of the weight, [O, I, 3, 3], channels last.

    The products of elements above have the gradient A y A^T for a tile y of the result's, so that
    the kernel's is G^T [sum over tiles of (B^T d B) * (A y A^T)] G.

    Args:
        gradient: of the result, [B, O, Y, X].
        x: [B, I, H, W].
        padding: that of the convolution.
    """
    inputs, outputs = x.shape[1], gradient.shape[1]
    tiles = _Tiles(len(x), *gradient.shape[2:])
    given = _framed(gradient, 0, tiles.down * _OUTPUT, tiles.across * _OUTPUT)
    gradients_of_tiles = tiles.of_output(given)
    total = x.new_zeros(_INPUT**2, inputs, outputs)
    for images, rows, d in tiles.inputs(x, padding):
        y = gradients_of_tiles[:, :, images, rows].reshape(_OUTPUT**2, -1)
        y = _on_both_axes(_AT.t(), y).view(_INPUT**2, -1, outputs)
        total.baddbmm_(d.transpose(1, 2), y)
    result = _on_both_axes(_G.t(), total.view(_INPUT**2, -1))
    result = result.view(_KERNEL, _KERNEL, inputs, outputs).permute(3, 2, 0, 1)
    return result.contiguous(memory_format=torch.channels_last)


def _framed(x: Tensor, padding: int, rows: int, columns: int) -> Tensor:
    """Return maps with zeros around them, [B, rows, columns, C]; a view, if none are needed.

    Args:
        x: [B, C, H, W].
        padding: rows of zeros above and columns on the left; below and on the right they fill up.
        rows: of the result.
        columns: of the result.
    """
    maps = x.permute(0, 2, 3, 1)
    if not padding and maps.shape[1:3] == (rows, columns) and maps.is_contiguous():
        return maps
    framed = x.new_empty(len(x), rows, columns, x.shape[1])
    bottom, right = padding + x.shape[2], padding + x.shape[3]
    framed[:, :padding] = framed[:, bottom:] = 0
    framed[:, padding:bottom, :padding] = framed[:, padding:bottom, right:] = 0
    framed[:, padding:bottom, padding:right] = maps
    return framed


def _on_both_axes(matrix: Tensor, tiles: Tensor) -> Tensor:
    """Return M t M^T of all tiles t.

    Args:
        matrix: M, [m, n].
        tiles: [n * n, any number]: a row is one element of all of them.

    Returns:
        [m * m, the same number].
    """
    m, n = matrix.shape
    rows = torch.mm(matrix, tiles.reshape(n, -1)).view(m, n, -1)
    return torch.bmm(matrix.expand(m, m, n), rows).view(m * m, -1)


@dataclass(frozen=True)
class _Tiles:
    """The tiles of all images.

    Attributes:
        images: number of images.
        height, width: of the output, which tiles may exceed below and on the right.
    """

    images: int
    height: int
    width: int

    @property
    def down(self) -> int:
        return -(-self.height // _OUTPUT)

    @property
    def across(self) -> int:
        return -(-self.width // _OUTPUT)

    def of_output(self, maps: Tensor) -> Tensor:
        """Return a view of maps [B, rows, columns, C] by tiles, [4, 4, B, down, across, C]."""
        blocks = maps.view(self.images, self.down, _OUTPUT, self.across, _OUTPUT, maps.shape[3])
        return blocks.permute(2, 4, 0, 1, 3, 5)

    def inputs(self, x: Tensor, padding: int) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield slices of images and of rows of tiles, and B^T d B of the tiles d in both.

        Args:
            x: [B, I, H, W].
            padding: zeros around it.

        Yields:
            The slices, and [36, T, I] for their T tiles.
        """
        border = _INPUT - _OUTPUT
        rows, columns = self.down * _OUTPUT + border, self.across * _OUTPUT + border
        framed = _framed(x, padding, rows, columns)
        image, row, column, channel = framed.stride()
        size = (_INPUT, _INPUT, self.images, self.down, self.across, x.shape[1])
        stride = (row, column, image, _OUTPUT * row, _OUTPUT * column, channel)
        overlapping = framed.as_strided(size, stride)
        for part, strip in self._chunks():
            d = overlapping[:, :, part, strip].reshape(_INPUT**2, -1)
            yield part, strip, _on_both_axes(_BT, d).view(_INPUT**2, -1, x.shape[1])

    def _chunks(self) -> Iterator[tuple[slice, slice]]:
        """Yield slices of images and of rows of tiles."""
        rows = min(self.down, max(1, _CHUNK // self.across))
        images = max(1, _CHUNK // (self.down * self.across))
        for first in range(0, self.images, images):
            for row in range(0, self.down, rows):
                yield slice(first, first + images), slice(row, row + rows)


def _matrices() -> tuple[Tensor, Tensor, Tensor]:
    """Return A^T, [4, 6], G, [6, 3], and B^T, [6, 6]."""
    finite = np.array(_POINTS)
    scale = np.array([np.prod(p - np.delete(finite, i)) for i, p in enumerate(finite)])

    def powers(count: int) -> np.ndarray:
        at_infinity = np.eye(count)[-1:]
        return np.concatenate([np.vander(finite, count, increasing=True), at_infinity])

    at, g, bt = powers(_OUTPUT).T, powers(_KERNEL), np.linalg.inv(powers(_INPUT)).T
    g[:-1] /= scale[:, None]
    bt[:-1] *= scale[:, None]
    copies = [torch.from_numpy(np.ascontiguousarray(matrix)).float() for matrix in (at, g, bt)]
    return copies[0], copies[1], copies[2]


_AT, _G, _BT = _matrices()
