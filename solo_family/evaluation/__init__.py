"""Metrics: detectron2's evaluators, those that it lacks, and an analysis of what costs AP."""

from ..requirements import check_requirements

check_requirements()
