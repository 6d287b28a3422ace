"""Metrics: detectron2's evaluators, what it lacks, and what AP is lost to."""

from ..requirements import check_requirements

check_requirements()
