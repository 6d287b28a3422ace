"""Metrics: detectron2's evaluators, further ones, and an analysis of the errors that cost AP."""

from ..requirements import check_requirements

check_requirements()
