"""Tests that an older torch, or the Triton that comes with it, can't run, and why."""

import pytest
import torch

_IS_OLD = torch.torch_version.TorchVersion(torch.__version__) < "2.5"

# On a GPU the kernels are compiled, whatever the version.
interpreted = pytest.mark.skipif(
    _IS_OLD and not torch.cuda.is_available(),
    reason="the interpreter of Triton 3.0, of torch 2.4, refuses tl.arange of a constant that a "
    "function is given",
)
exports_autocast = pytest.mark.skipif(
    _IS_OLD, reason="torch.export of torch 2.4 can't keep autocast(enabled=False)"
)
compiles_environment = pytest.mark.skipif(
    _IS_OLD, reason="torch.compile of torch 2.4 can't look up a variable that is not set"
)
