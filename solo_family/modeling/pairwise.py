"""Compare every predicted mask with every true one: sums over pixels, in float32.

N predicted masks, G true ones, h w of both, C chunks of the pixels, P pixels of a chunk. Shapes are
those of one image; a batch has further dimensions in front.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# A product of [N, h w] and [h w, G] is too narrow to keep a GPU busy, but one product for each
# chunk of pixels does. On a CPU a single product is fastest.
_LEAST_PIXELS = {"cpu": 2**62}
_LEAST_PIXELS_ELSEWHERE = 1024


@torch.no_grad()
def pairwise_dice(logits: Tensor, targets: Tensor, *, eps: float) -> Tensor:
    """Return the dice coefficient of every pair, with squares in the denominator.

    Args:
        logits: [..., N, h, w].
        targets: [..., G, h, w], bool or 0 to 1.
        eps: see `dice_loss`, which is one minus the coefficient of one pair.

    Returns:
        float32 [..., N, G], without gradient.
    """
    with torch.autocast(logits.device.type, enabled=False):
        p, q = _in_chunks(logits).sigmoid(), _in_chunks(targets)
        overlap = _sums_of_products(p, q)
        return 2 * overlap / (_sums_of_pairs(p * p, q * q) + 2 * eps)


@torch.no_grad()
def pairwise_focal_and_dice(
    logits: Tensor, targets: Tensor, *, alpha: float, gamma: float
) -> tuple[Tensor, Tensor]:
    """Return the mean focal loss of every pair, and MaskFormer's dice coefficient.

    Args:
        logits: [..., N, h, w].
        targets: [..., G, h, w], bool or 0 to 1.
        alpha: see `focal_loss`, whose mean over pixels is returned for each pair.
        gamma: see `focal_loss`.

    Returns:
        float32 [..., N, G] each, without gradient; the coefficient is one minus `dice_loss` with
        `squared=False, eps=0, smooth=1`.
    """
    with torch.autocast(logits.device.type, enabled=False):
        x, q = _in_chunks(logits), _in_chunks(targets)
        factors = x.new_empty((3, *x.shape))
        of_one, of_zero, p = factors.unbind()
        torch.sigmoid(x, out=p)
        # The focal loss is linear in the target: that of a 1 where the target is 1, that of a 0
        # elsewhere.
        log_p = F.logsigmoid(x)
        torch.pow(1 - p, gamma, out=of_one).mul_(log_p)
        torch.pow(p, gamma, out=of_zero).mul_(log_p.sub_(x))
        ones, zeros, overlap = _sums_of_products(factors, torch.stack([q, 1 - q, q])).unbind()
        focal = (ones * -alpha).add_(zeros, alpha=alpha - 1) / logits.shape[-2:].numel()
        return focal, (2 * overlap + 1) / (_sums_of_pairs(p, q) + 1)


def _in_chunks(masks: Tensor) -> Tensor:
    """Return masks [..., N, h, w] in float32 as [..., C, N, P]."""
    pixels = masks.flatten(-2)
    chunks = _num_chunks(pixels.shape[-1], masks.device.type)
    if chunks == 1:
        return pixels.unsqueeze(-3).float()
    parts = pixels.unflatten(-1, (chunks, pixels.shape[-1] // chunks)).movedim(-2, -3)
    return torch.empty(parts.shape, dtype=torch.float32, device=masks.device).copy_(parts)


def _num_chunks(pixels: int, device_type: str) -> int:
    """Return the number of equal chunks, of whole groups of four, that pixels are divided into."""
    least = _LEAST_PIXELS.get(device_type, _LEAST_PIXELS_ELSEWHERE)
    fitting = (n for n in range(pixels // least, 1, -1) if pixels % (4 * n) == 0)
    return next(fitting, 1)


def _sums_of_products(one: Tensor, other: Tensor) -> Tensor:
    """Return sums over all pixels, [..., N, G], of [..., C, N, P] and [..., C, G, P]."""
    return (one @ other.mT).sum(-3)


def _sums_of_pairs(one: Tensor, other: Tensor) -> Tensor:
    """Return the sum of both over all pixels, [..., N, G], of [..., C, N, P], [..., C, G, P]."""
    return one.sum((-3, -1))[..., :, None] + other.sum((-3, -1))[..., None, :]
