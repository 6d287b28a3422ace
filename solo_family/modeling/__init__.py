"""What two methods or more share, and what every model does before and after its own part."""

from ..requirements import check_requirements

check_requirements()
