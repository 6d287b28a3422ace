"""Datasets: their formats, the checks of them, and how they are loaded."""

from ..requirements import check_requirements

check_requirements()
