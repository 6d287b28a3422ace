"""What must be set before anything is imported.

Triton's kernels run in its interpreter where there is no GPU. Tensors of tests are small: one
thread computes them, in processes that tests start, too.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
