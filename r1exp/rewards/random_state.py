"""Keeps the global random generators as they are while a reward is scored.

A reward of a user's own may seed or use them. Without this the completions that are sampled next would depend on it,
and a run with one more reward of weight 0 would have other digits.
"""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore the generators of Python, and of numpy and torch where these are imported, after the block."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    python_state = random.getstate()
    numpy_state = None if numpy is None else numpy.random.get_state()
    torch_state = None if torch is None else torch.get_rng_state()
    has_gpu = torch is not None and torch.cuda.is_initialized()
    gpu_state = torch.cuda.get_rng_state() if torch is not None and has_gpu else None
    try:
        yield
    finally:
        random.setstate(python_state)
        if numpy is not None:
            numpy.random.set_state(numpy_state)
        if torch is not None:
            torch.set_rng_state(torch_state)
            if gpu_state is not None:
                torch.cuda.set_rng_state(gpu_state)
