"""Dataset formats, dataset checks and data loading."""

from ..requirements import check_requirements

check_requirements()
