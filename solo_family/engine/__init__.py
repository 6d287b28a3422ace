"""Training: the trainer, its hooks, and the body of train_net.py."""

from ..requirements import check_requirements

check_requirements()
