"""Keeps problems out of training, to evaluate a model on while it trains. They are never test problems.

A data set with a split `validation` of its own gives its problems, without those whose question is in the training or the test
split; its training split stays whole. Elsewhere the questions of the training split with the smallest SHA-256 are held out, so
that the choice depends only on the questions, and not on the order of rows or the other columns. Where a question occurs in
several rows, none of them is trained on. Only problems with a gold answer are chosen.
"""

from collections.abc import Iterable, Iterator
from heapq import nsmallest

from r1exp.dataset.base import Dataset
from r1exp.dataset.columns import digest_of
from r1exp.errors import Refused
from r1exp.records import Problem


def validation_problems(dataset: Dataset, number: int) -> list[Problem]:
    """Return at most `number` problems that `training_problems` leaves out, in the order of their hashes.

    Raises:
        Refused: there are none, or none would be left to train on.
    """
    own = dataset.own_validation()
    if own is None:
        problems = _smallest(dataset.stream("train"), number)
        held_out = set(map(digest_of, problems))
        if all(digest_of(problem) in held_out for problem in dataset.stream("train")):
            raise Refused(
                f"evaluation.num_validation={number} would hold out all questions of the training split; lower it"
            )
        return problems
    problems = _smallest(own, number)
    chosen = {digest_of(problem) for problem in problems}
    trained = {digest for problem in dataset.stream("train") if (digest := digest_of(problem)) in chosen}
    problems = [problem for problem in problems if digest_of(problem) not in trained]
    if not problems:
        raise Refused(
            "the split `validation` of the data set has no problem with an answer that is in neither the training nor the "
            "test split, so that nothing can be evaluated during training; set evaluation.every=null"
        )
    return problems


def training_problems(dataset: Dataset, number: int) -> Iterator[Problem]:
    """Yield the problems of the training split, without those held out for validation.

    Args:
        dataset: The data set.
        number: Problems that are held out; 0: none.
    """
    if number == 0 or dataset.own_validation() is not None:
        yield from dataset.stream("train")
        return
    held_out = {digest_of(problem) for problem in validation_problems(dataset, number)}
    yield from (problem for problem in dataset.stream("train") if digest_of(problem) not in held_out)


def _smallest(problems: Iterable[Problem], number: int) -> list[Problem]:
    """Return the problems with the smallest digests, one for each question."""
    kept: dict[int, Problem] = {}
    for problem in problems:
        if not (problem.answer or "").strip():
            continue
        kept.setdefault(digest_of(problem), problem)
        if len(kept) >= 2 * number + 1000:  # a large data set is never held in memory
            kept = {digest: kept[digest] for digest in nsmallest(number, kept)}
    return [kept[digest] for digest in nsmallest(number, kept)]
