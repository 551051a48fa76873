"""What several rooms' tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from r1exp.config.compose import session
from r1exp.config.experiment import Experiment, experiment_from

GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k"  # beside a contributor's checkout, or absent


@pytest.fixture
def compose_line() -> Iterator[Callable[..., Experiment]]:
    """Return a function that composes the words of a command line."""
    with session():
        yield lambda *words: experiment_from(words)
