"""Decorate Triton's kernels for every version of Triton that torch brings."""

import inspect
from collections.abc import Callable
from typing import Any

import triton


def jit(**options: Any) -> Callable[[Any], Any]:
    """Return `triton.jit` with those options that the installed version has.

    Version 3.0, of torch 2.4, has no `do_not_specialize_on_alignment`: it compiles a kernel once
    more where an alignment differs, with the same results.
    """
    known = inspect.signature(triton.jit).parameters
    return triton.jit(**{name: value for name, value in options.items() if name in known})
