"""Checkpoints of other code bases: recognise them and give their weights our names."""

from ..requirements import check_requirements

check_requirements()
