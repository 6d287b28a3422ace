"""Read the precision of torch's float32 matrix products, whichever of its settings was used."""

from __future__ import annotations

import torch


def tf32_allowed() -> bool:
    """Return whether torch's own products of float32 matrices on a GPU may round to TensorFloat-32.

    Newer versions of torch (from 2.9 on) have two families of settings: `fp32_precision`, of one
    operator, of a backend or of all, and the older `allow_tf32` and `set_float32_matmul_precision`.
    Reading an older one after a newer one was set raises RuntimeError; the newer one follows both,
    and is what torch's own operators read.
    """
    matmul = torch.backends.cuda.matmul
    try:
        precision = matmul.fp32_precision
    except AttributeError:
        # This version of torch has only the older settings, which can't be mixed up.
        return bool(matmul.allow_tf32)
    return bool(precision == "tf32")
