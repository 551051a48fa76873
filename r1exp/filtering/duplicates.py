"""Finds rows that are copies of an earlier row: with the same words, or with nearly the same n-grams of words.

Near duplicates: the Jaccard similarity of the sets of n-grams is at least a bound. Candidates are found by locality-sensitive hashing
of MinHash signatures (library datasketch), and each is verified with the n-grams themselves, so that the estimate of a signature
decides nothing alone. A row is compared with the earlier rows that are kept, in order: of a chain of rows, each similar to the next
one only, every second one stays.

Memory holds numbers, not texts: 20 bytes a row, and while near duplicates are searched 4 bytes more for each band. The bands of
signatures and the n-grams are in files of a scratch folder, 8 bytes for each band of a row and for each of its n-grams.

Source: MinHash, Broder 1997 (On the resemblance and containment of documents); deduplication of training data with it,
Lee et al. (arXiv:2107.06499).
"""

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from r1exp.filtering.texts import Hashes, folded_rows, ngrams, whole

_MISSED: Final = 0.9  # weight of a missed pair, against 0.1 of a pair that is verified in vain; decides bands and rows of a band
_MOST_COMPARED: Final = 8  # kept rows of one bucket that a row is compared with
_CHUNK: Final = 1 << 16  # rows whose bands are read at once
_SEED: Final = 1  # of the permutations


class Duplicates:
    """Collects the rows of a data set, and finds the duplicates among them."""

    def __init__(self, scratch: Path, *, similarity: float | None, ngram: int, permutations: int) -> None:
        """Prepare to add rows.

        Args:
            scratch: An empty folder for files that are needed until the end.
            similarity: Smallest Jaccard similarity of near duplicates; None: only exact ones are found.
            ngram: Words of an n-gram.
            permutations: Hash functions of a signature.
        """
        self._keys = array("Q")  # hash of all words of a row; 0: no words
        self._rows = array("I")  # number of each row that was added
        self._ngram = ngram
        self._near = None if similarity is None else _NearDuplicates(scratch, similarity, permutations)

    def add(self, number: int, hashes: Hashes) -> None:
        """Add a row.

        Args:
            number: Of the row; larger than that of the row before.
            hashes: Of its words, shape (words,).
        """
        self._rows.append(number)
        self._keys.append(whole(hashes))
        if self._near is not None:
            self._near.add(ngrams(hashes, self._ngram))

    def exact(self, is_out: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
        """Yield (row, earlier row with the same words), in order.

        Args:
            is_out: Which of all rows are left out already, shape (rows,); what is found is added.
        """
        keys, rows = np.frombuffer(self._keys, np.uint64), np.frombuffer(self._rows, np.uint32)
        chosen = np.flatnonzero(~is_out[rows] & (keys != 0))
        _, first, inverse = np.unique(keys[chosen], return_index=True, return_inverse=True)
        partners = rows[chosen[first[inverse]]]
        own = rows[chosen]
        is_copy = partners != own
        is_out[own[is_copy]] = True
        yield from zip(own[is_copy].tolist(), partners[is_copy].tolist(), strict=True)

    def near(self, is_out: NDArray[np.bool_]) -> Iterator[tuple[int, int, float]]:
        """Yield (row, earlier row that is kept, their similarity), in order; `is_out` as in `exact`."""
        if self._near is not None:
            yield from self._near.find(np.frombuffer(self._rows, np.uint32), is_out)

    def close(self) -> None:
        """Close the files."""
        if self._near is not None:
            self._near.close()


class _NearDuplicates:
    def __init__(self, scratch: Path, similarity: float, permutations: int) -> None:
        from datasketch import MinHash, MinHashLSH  # imports SciPy, which planning does without

        chosen = MinHashLSH(similarity, permutations, weights=(1.0 - _MISSED, _MISSED))
        self.num_bands, self._rows_per_band = chosen.b, chosen.r
        self._similarity = similarity
        self._minhash = MinHash(permutations, seed=_SEED, hashfunc=int)
        self._bounds = array("Q", [0])  # of each row's n-grams in their file
        self._paths = scratch / "bands", scratch / "ngrams"
        self._files: list[Any] = [path.open("wb") for path in self._paths]

    def add(self, grams: Hashes) -> None:
        self._minhash.clear()
        self._minhash.update_batch((grams >> np.uint64(32)).tolist())
        signature = self._minhash.hashvalues[: self.num_bands * self._rows_per_band].astype(np.uint64)
        bands = folded_rows(signature.reshape(self.num_bands, self._rows_per_band))
        self._files[0].write(bands.tobytes())
        self._files[1].write(grams.tobytes())
        self._bounds.append(self._bounds[-1] + len(grams))

    def find(self, rows: NDArray[np.uint32], is_out: NDArray[np.bool_]) -> Iterator[tuple[int, int, float]]:
        for file in self._files:
            file.flush()
        bounds = np.frombuffer(self._bounds, np.uint64)
        has_ngrams = np.diff(bounds) > 0
        candidates = np.flatnonzero(~is_out[rows] & has_ngrams)
        buckets = _Buckets(self._paths[0], self.num_bands, len(rows), candidates)
        grams = np.memmap(self._paths[1], np.uint64, "r") if bounds[-1] else np.zeros(0, np.uint64)

        def of(position: int) -> Hashes:
            return np.asarray(grams[int(bounds[position]) : int(bounds[position + 1])])

        for position, shared in buckets.shared():
            own = of(position)
            for earlier in buckets.kept_in(shared):
                similarity = jaccard(own, of(earlier))
                if similarity >= self._similarity:
                    is_out[rows[position]] = True
                    yield int(rows[position]), int(rows[earlier]), similarity
                    break
            else:
                buckets.keep(position, shared)

    def close(self) -> None:
        for file in self._files:
            file.close()


class _Buckets:
    """The buckets of all bands that more than one row is in, and the rows of each that are kept."""

    def __init__(self, path: Path, num_bands: int, num_rows: int, candidates: NDArray[np.intp]) -> None:
        self._candidates = candidates
        self._groups = np.zeros(
            (len(candidates), num_bands), np.int32
        )  # bucket + 1 of a row; 0: it is alone there
        self._kept: dict[int, list[int]] = {}  # bucket -> its first kept rows
        if len(candidates) == 0:
            return
        bands = np.memmap(path, np.uint64, "r", shape=(num_rows, num_bands))
        number = 0
        for band in range(num_bands):
            keys = np.empty(len(candidates), np.uint64)
            for start in range(0, len(candidates), _CHUNK):
                chunk = candidates[start : start + _CHUNK]
                keys[start : start + len(chunk)] = bands[chunk, band]
            _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
            is_shared = counts > 1
            names = np.zeros(len(counts), np.int32)
            names[is_shared] = np.arange(number + 1, number + 1 + int(is_shared.sum()), dtype=np.int32)
            number += int(is_shared.sum())
            self._groups[:, band] = names[inverse]

    def shared(self) -> Iterator[tuple[int, list[int]]]:
        """Yield (row, its buckets with other rows), of the rows that have any, in order."""
        for place in np.flatnonzero(self._groups.any(axis=1)):
            groups = self._groups[place]
            yield int(self._candidates[place]), groups[groups > 0].tolist()

    def kept_in(self, buckets: list[int]) -> list[int]:
        """Return the kept rows of buckets, in order."""
        return sorted({row for bucket in buckets for row in self._kept.get(bucket, ())})

    def keep(self, row: int, buckets: list[int]) -> None:
        """Note that a row is kept."""
        for bucket in buckets:
            rows = self._kept.setdefault(bucket, [])
            if len(rows) < _MOST_COMPARED:
                rows.append(row)


def jaccard(one: Hashes, other: Hashes) -> float:
    """Return the Jaccard similarity of two sorted arrays of different numbers; 0.0 if either is empty."""
    if len(one) == 0 or len(other) == 0:
        return 0.0
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)
