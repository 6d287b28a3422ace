"""Triton's kernels run in its interpreter where there is no GPU.

It has to be asked for before anything imports Triton.
"""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
