"""Finds the evaluated question that a row is a copy of, word for word or with other numbers, names and order of sentences.

A row is a copy of a question if one of these holds:

    whole   both have the same words; or the question has fewer than `whole_below` words, and they stand in the row one after the
            other (of fewer than four words, the row must have no others)
    near    of the weights of the question's masked n-grams the row has at least `similarity`; and so has the question of those of
            the row, or they share at least 20 n-grams (a long question inside of a longer row)
    ngram   they share one n-gram of `shared_ngram` words, as they are written

The weight of an n-gram is log((1 + Q) / q), where q of the Q questions have it, so that words which many questions share count for
little; n-grams of more than a tenth of the questions (and of more than ten) are left out.

A form that stands for three or more different questions, or that many rows have (`is_template`), is a template, as in
generated sums: numbers and names are what its questions ask about, so that only whole copies of them count.

Source: GPT-3, appendix C (arXiv:2005.14165): 13-grams; open-r1's decontamination script: 8-grams. The masked form and its two
thresholds are r1exp's own (docs/filter.md).
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from r1exp.filtering.texts import Hashes, folded, masked_ngrams, ngrams, plain_hashes, whole

How = Literal["whole", "near", "ngram"]

_MANY_SHARED: Final = 20  # n-grams that a question and a longer row share
_CONSECUTIVE: Final = 4  # words of a question from which it may stand inside of a row
_QUESTIONS_OF_A_TEMPLATE: Final = 3
_ROWS_OF_A_TEMPLATE: Final = 20  # rows, or 1 % of all rows if those are more


@dataclass(frozen=True, slots=True)
class Copy:
    """The evaluated question that a row is a copy of."""

    question: int  # number of the question, in the order in which they were added
    how: How
    share: float  # of the question's n-grams that the row has, by weight; 1.0 for a whole copy


class EvaluatedQuestions:
    """All evaluated questions, as hashes: about 24 bytes for each word of theirs."""

    def __init__(
        self, *, similarity: float | None, ngram: int, whole_below: int, shared_ngram: int | None = None
    ) -> None:
        """Prepare to add questions.

        Args:
            similarity: Smallest share of n-grams of a near copy; None: near copies are not looked for.
            ngram: Words of a masked n-gram.
            whole_below: Words; a shorter question is compared whole.
            shared_ngram: Words of an n-gram that no row may share; None: it may.
        """
        self._similarity = similarity
        self._ngram = ngram
        self._whole_below = whole_below
        self._shared_ngram = shared_ngram
        self._whole: dict[int, int] = {}  # hash of all words -> question
        self._short: dict[int, dict[int, int]] = defaultdict(dict)  # number of words -> hash -> question
        self._forms: dict[int, list[int]] = defaultdict(list)  # hash of a masked form -> questions
        self._masked: dict[int, Hashes] = {}  # question -> its masked n-grams
        self._plain: list[Hashes] = []
        self._index: _Index | None = None
        self._plain_index: _Index | None = None
        self.num_questions = 0

    def add(self, text: str) -> None:
        """Add the next question. The same words a second time count as the first question."""
        number, self.num_questions = self.num_questions, self.num_questions + 1
        plain = plain_hashes(text)
        key = whole(plain)
        if len(plain) == 0 or key in self._whole:
            return
        self._whole[key] = number
        if len(plain) < self._whole_below:
            if len(plain) >= _CONSECUTIVE:
                self._short[len(plain)][int(folded(plain, len(plain))[0])] = number
            return
        if self._shared_ngram is not None:
            self._plain.append(
                np.stack([found := ngrams(plain, self._shared_ngram), np.full_like(found, number)])
            )
        if self._similarity is not None:
            grams = masked_ngrams(text, self._ngram)
            self._masked[number] = grams
            self._forms[whole(grams)].append(number)

    def finish(self) -> None:
        """Build the index; called once, after the last question."""
        templates = {
            number
            for questions in self._forms.values()
            if len(questions) >= _QUESTIONS_OF_A_TEMPLATE
            for number in questions
        }
        self.num_templates = len(templates)
        kept = [
            np.stack([grams, np.full_like(grams, number)])
            for number, grams in self._masked.items()
            if number not in templates
        ]
        self._index = _Index(kept, self.num_questions) if kept else None
        self._plain_index = _Index(self._plain, self.num_questions) if self._plain else None
        self._forms.clear()
        self._masked.clear()
        self._plain.clear()

    def find(self, text: str) -> Copy | None:
        """Return the question that a row is a copy of, the most similar one; None if there is none."""
        plain = plain_hashes(text)
        number = self._whole.get(whole(plain))
        if number is not None:
            return Copy(number, "whole", 1.0)
        for length, questions in self._short.items():
            for key in folded(plain, length).tolist():
                if key in questions:
                    return Copy(questions[key], "whole", 1.0)
        if self._index is not None and self._similarity is not None:
            found = self._index.nearest(masked_ngrams(text, self._ngram), self._similarity)
            if found is not None:
                return Copy(found[0], "near", found[1])
        if self._plain_index is None or self._shared_ngram is None or len(plain) < self._shared_ngram:
            return None
        found = self._plain_index.largest(ngrams(plain, self._shared_ngram))
        return None if found is None else Copy(found[0], "ngram", found[1])


class _Index:
    """Which questions have an n-gram, and what it weighs."""

    def __init__(self, grams: list[NDArray[np.uint64]], num_questions: int) -> None:
        """Build it.

        Args:
            grams: Of each question, shape (2, n-grams): hashes, and the question's number.
            num_questions: Of all data sets.
        """
        hashes, questions = np.concatenate(grams, axis=1)
        order = np.argsort(hashes, kind="stable")
        self._questions = questions[order].astype(np.int64)
        self._known, first, counts = np.unique(hashes[order], return_index=True, return_counts=True)
        self._bounds = np.append(first, len(hashes))
        self._rarest = math.log(1.0 + num_questions)
        weights = self._rarest - np.log(counts)
        weights[counts > max(10, num_questions / 10)] = 0.0
        self._weights = weights
        self._totals = np.bincount(self._questions, np.repeat(weights, counts), minlength=num_questions)

    def nearest(self, grams: Hashes, similarity: float) -> tuple[int, float] | None:
        """Return the question of which the row has the largest share of n-grams, and the share.

        Args:
            grams: The different n-grams of a row.
            similarity: Smallest share of the question's n-grams, and of the row's.
        """
        questions, positions, own = self._found(grams)
        best: tuple[float, int] | None = None
        if len(questions) == 0:
            return None
        candidates, inverse, counts = np.unique(questions, return_inverse=True, return_counts=True)
        shared = np.bincount(inverse, self._weights[positions])
        shares = shared / self._totals[candidates]
        fits = (shares >= similarity) & ((shared >= similarity * own) | (counts >= _MANY_SHARED))
        for candidate in np.flatnonzero(fits):
            best = max(best or (0.0, 0), (float(shares[candidate]), -int(candidates[candidate])))
        return None if best is None else (-best[1], min(best[0], 1.0))

    def largest(self, grams: Hashes) -> tuple[int, float] | None:
        """Return the question that shares most of its n-grams with a row, and their share; None if none shares any."""
        questions, positions, _ = self._found(grams)
        if len(questions) == 0:
            return None
        candidates, inverse = np.unique(questions, return_inverse=True)
        shares = np.bincount(inverse, self._weights[positions]) / self._totals[candidates]
        best = int(np.argmax(shares))
        return int(candidates[best]), float(shares[best])

    def _found(self, grams: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
        """Return (questions, positions of the n-gram that each has, weight of all n-grams of the row)."""
        place = np.minimum(np.searchsorted(self._known, grams), len(self._known) - 1)
        is_known = self._known[place] == grams
        known = place[is_known]
        own = float(self._weights[known].sum()) + self._rarest * int((~is_known).sum())
        known = known[self._weights[known] > 0.0]
        if len(known) == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), own
        questions = [self._questions[self._bounds[each] : self._bounds[each + 1]] for each in known]
        return np.concatenate(questions), np.repeat(known, [len(part) for part in questions]), own


def is_template(num_copies: int, num_rows: int) -> bool:
    """Return whether a question that many rows are near copies of is a template, and not a question that was copied."""
    return num_copies > max(_ROWS_OF_A_TEMPLATE, num_rows / 100)


def templates_of(copies: Counter[int], num_rows: int) -> frozenset[int]:
    """Return the questions that are templates by the number of rows that are near copies of them."""
    return frozenset(question for question, number in copies.items() if is_template(number, num_rows))
