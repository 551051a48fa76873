"""Reads the texts of a report: the problems that a step won or lost with both answers, and sampled completions.

Both are cut down to a budget of characters, always in the same way: evenly spread over what there is, with a note on how many of how many
are shown. Torch-free.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from r1exp.paths import StepPaths

Json = dict[str, Any]
Item = TypeVar("Item")
_MAX_TEXT = 3000  # characters of a text; the middle of a longer one is left out


def rows_of(path: Path) -> Iterator[Json]:
    """Yield the rows of a file of JSON lines; a line that is damaged, or still being written, is passed over."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict):
                    yield row
    except OSError:  # not there, or of another user
        return


def spread(items: Sequence[Item], number: int) -> list[Item]:
    """Return `number` of the items, evenly spread from the first on; all of them if there are not more."""
    if len(items) <= number:
        return list(items)
    return [items[len(items) * index // number] for index in range(number)]


def shortened(text: Any) -> str:
    """Return a text whose middle is left out where it is too long for a page."""
    whole = "" if text is None else str(text)
    if len(whole) <= _MAX_TEXT:
        return whole
    half = _MAX_TEXT // 2
    return f"{whole[:half]} [... {len(whole) - 2 * half} characters ...] {whole[-half:]}"


def changed_problems(before: StepPaths, after: StepPaths, max_rows: int) -> list[Json]:
    """Return for each decoding (and suite) of two evaluations the problems whose outcome changed, with both answers.

    A problem is won if the share of right answers rose, and lost if it fell. Shown are the first right and the first wrong
    answer that make the difference.

    Args:
        before: The earlier evaluation.
        after: The later one, on the same problems.
        max_rows: Problems that are kept of those won, and of those lost.
    """
    prompts = {row.get("problem"): row.get("prompt") for row in _kept(before, after)}
    sides = [_by_problem(rows_of(paths.results.answers)) for paths in (before, after)]
    found = []
    for decoding in dict.fromkeys(key[0] for key in sides[1]):
        rows: dict[str, list[Json]] = {"won": [], "lost": []}
        for key, later in sides[1].items():
            earlier = sides[0].get(key)
            if key[0] != decoding or earlier is None or _share(earlier) == _share(later):
                continue
            is_won = _share(later) > _share(earlier)
            rows["won" if is_won else "lost"].append(
                {
                    "problem": key[1],
                    "prompt": shortened(later[0].get("prompt") or prompts.get(key[1])),
                    "gold": str(later[0].get("gold", "")),
                    "before": _answer(earlier, not is_won),
                    "after": _answer(later, is_won),
                }
            )
        if rows["won"] or rows["lost"]:
            found.append({"decoding": decoding} | {
                outcome: {"number": len(each), "rows": spread(each, max_rows)} for outcome, each in rows.items()
            })  # fmt: skip
    return found


def _kept(*steps: StepPaths) -> Iterator[Json]:
    """Yield the rows of the kept completions of evaluations, which have the prompts of the first problems."""
    for paths in steps:
        yield from rows_of(paths.completions / "evaluation.jsonl")


def _by_problem(rows: Iterator[Json]) -> dict[tuple[str, str], list[Json]]:
    """Return (decoding, problem) -> rows; with several suites, the decoding is preceded by the suite."""
    found: dict[tuple[str, str], list[Json]] = {}
    for row in rows:
        suite = f"{row['suite']}, " if row.get("suite") else ""
        found.setdefault((f"{suite}{row.get('mode', '')}", str(row.get("problem_id", ""))), []).append(row)
    return found


def _share(rows: Sequence[Json]) -> float:
    return sum(bool(row.get("correct")) for row in rows) / len(rows)


def _answer(rows: Sequence[Json], is_right: bool) -> Json:
    """Return the first answer that is right, or wrong; the first of all where there is none."""
    row = next((row for row in rows if bool(row.get("correct")) == is_right), rows[0])
    return {
        "text": shortened(row.get("text")),
        "read": row.get("answer"),
        "correct": bool(row.get("correct")),
    }


def completions_of(paths: StepPaths) -> list[Json]:
    """Return the kept completions of a step: of its optimizer steps, or of its evaluation or samples."""
    others = "samples.jsonl" if paths.results.samples.exists() else "evaluation.jsonl"
    files: list[tuple[int | None, Path]] = [
        *paths.all_completions().items(),
        (None, paths.completions / others),
    ]
    found = []
    for step, path in files:
        for row in rows_of(path):
            kept = {
                "at": step,
                "problem": row.get("problem"),
                "prompt": shortened(row.get("prompt")),
                "gold": None if row.get("answer") is None else str(row["answer"]),
                "text": shortened(row.get("completion")),
                **{name: row.get(name) for name in ("tokens", "cut", "reward", "advantage", "rewards", "mode", "correct")},
            }  # fmt: skip
            found.append({name: value for name, value in kept.items() if value is not None})
    return found


def within_budget(rows: Sequence[Json], max_characters: int) -> list[Json]:
    """Return rows evenly spread over all of them, as many as the budget of characters allows."""
    size = sum(len(json.dumps(row, ensure_ascii=False)) for row in rows)
    if size <= max_characters:
        return list(rows)
    return spread(rows, max(len(rows) * max_characters // size, 1))
