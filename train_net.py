#!/usr/bin/env python3
"""Trains or evaluates a model: train_net.py --config-file FILE [--eval-only] [KEY VALUE ...]."""

import sys

from solo_family.heap import keep_freed_memory
from solo_family.starting import load, use_utf8
from solo_family.threads import choose_before_torch

if __name__ == "__main__":
    use_utf8()
    keep_freed_memory()
    choose_before_torch()
    sys.exit(load("solo_family.engine.main").main())
