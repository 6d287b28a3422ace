"""Weights of other sources under our names."""

from ..requirements import check_requirements

check_requirements()
