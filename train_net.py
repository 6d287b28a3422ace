#!/usr/bin/env python3
"""Trains or evaluates a model: train_net.py --config-file FILE [--eval-only] [KEY VALUE ...]."""

import sys

from solo_family.engine.main import main

if __name__ == "__main__":
    sys.exit(main())
