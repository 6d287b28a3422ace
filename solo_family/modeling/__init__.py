"""What two or more methods share, and what every model does before and after its own part."""

from ..requirements import check_requirements

check_requirements()
