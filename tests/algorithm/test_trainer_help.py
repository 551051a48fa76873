"""The descriptions of the trainers' arguments are those of the installed TRL."""

import json

import pytest

from r1exp.algorithm.trainer_fields import every_field
from r1exp.algorithm.trainer_help import _FILE, documented, generate, sentences, trainer_help


def test_every_argument_has_a_description() -> None:
    assert {name for name in every_field() if len(trainer_help(name) or "") < 12} == set()


@pytest.mark.slow
def test_the_descriptions_are_those_of_the_installed_trl() -> None:
    assert json.loads(_FILE.read_text()) == generate(), "run: python -m r1exp.algorithm.trainer_help"


def test_parameters_are_read_from_a_docstring() -> None:
    text = """Head.

        first (`int`, *optional*, defaults to `3`):
            What [`Trainer`] does with **it**. Use [this page](https://example.org):
                - a list
        second(`str`):
            Two
            lines

        > Section
    """
    assert documented(text) == {"first": "What Trainer does with it. Use this page.", "second": "Two lines."}


def test_long_descriptions_are_cut_after_a_sentence() -> None:
    assert sentences(("A sentence of some length. " * 30).strip()).count(".") < 12
