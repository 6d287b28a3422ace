"""Time models and operators: `python -m solo_family benchmark`."""

from .benchmark import add_arguments, run

__all__ = ["add_arguments", "run"]
