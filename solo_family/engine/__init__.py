"""Training: the trainer, its hooks, and the command line of train_net.py."""

from ..requirements import check_requirements

check_requirements()
