"""The parts that two or more methods share, and the first and last steps of every model."""

from ..requirements import check_requirements

check_requirements()
