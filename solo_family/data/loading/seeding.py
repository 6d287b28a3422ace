"""Random numbers that depend on the place in a run, and not on what the process did before."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """Seed `random`, numpy and torch's CPU generator in the `with` block, and restore them after.

    Args:
        entropy: non-negative integers, which together are the seed.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    # Not torch.manual_seed, which would seed the GPUs too, in worker processes that have none.
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def seed_all(*entropy: int) -> None:
    """Seed `random`, numpy, and torch on all devices.

    Args:
        entropy: non-negative integers, which together are the seed.
    """
    words = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.manual_seed(int(words[2]))
