"""Builds the tables and sentences of a report about rows and answers that a step left out. Torch-free."""

from collections.abc import Iterator, Mapping
from typing import Any

from r1exp.report.numbers import Cell, Code, Number, Sentence, Table, number_at

Json = Mapping[str, Any]
_WHY = {
    "max_prompt_tokens": "prompt has too many tokens",
    "max_total_tokens": "prompt and solution have too many tokens",
    "pass_rate": "pass rate outside of the bounds",
    "language": "in another language",
    "contamination": "copy of an evaluated question",
    "duplicate": "same words as an earlier row",
    "near_duplicate": "nearly the same words as an earlier row",
    "wrong": "not the gold answer",
    "cut": "ended at the length limit",
    "empty": "no text",
    "low_reward": "reward below the bound, or none",
    "long_paragraph": "a paragraph with too many words",
    "code": "a block of code",
    "format": "cannot be written in the prompt's style",
    "repeated": "the same as a better answer to the problem",
    "beyond_keep": "better answers to the problem are kept",
    "beyond_num_rows": "there are enough rows",
}
_NOTE = (
    "Each row or answer counts for the first reason that applies. The artifact of the step lists all of them: dropped.jsonl, "
    "samples.jsonl or answers.jsonl."
)
_EXAMPLES_NOTE = (
    "The first rows of each reason. The number is what decided: tokens, a pass rate, the share of words in the language, the share of "
    "the question's n-grams, or the similarity."
)
_LONGEST = 240  # characters of a text in the table


def filters_of(summary: Json) -> Iterator[tuple[str, Json]]:
    """Yield (step, its facts) of each step that left rows or answers out."""
    for name, entry in summary["steps"].items():
        facts = entry.get("facts")
        if isinstance(facts, Mapping) and isinstance(facts.get("dropped"), Mapping):
            yield name, facts


def dropped_table(summary: Json) -> Table:
    """Return how many rows or answers each reason left out."""
    rows: list[tuple[Cell, ...]] = []
    for name, facts in filters_of(summary):
        path = ("steps", name, "facts")
        rows.append(
            (Code(name), f"{unit_of(facts)} in all", number_at(summary, (*path, "num_rows"), "count") or "")
        )
        rows += [
            (
                Code(name),
                f"{reason}: {_WHY.get(reason, reason)}",
                Number((*path, "dropped", reason), number, "count"),
            )
            for reason, number in facts["dropped"].items()
        ]
        rows.append((Code(name), "kept", number_at(summary, (*path, "num_kept"), "count") or ""))
    return Table("filtered", "Rows that were left out", ("step", "reason", "number"), tuple(rows), _NOTE)


def examples_table(summary: Json) -> Table:
    """Return examples of rows that were left out, with what they are copies of."""
    rows: list[tuple[Cell, ...]] = []
    for name, facts in filters_of(summary):
        for reason, examples in facts.get("examples", {}).items():
            for index, example in enumerate(examples):
                path = ("steps", name, "facts", "examples", reason, str(index), "value")
                rows.append((
                    Code(name), reason, Code(str(example["id"])), Code(_short(example["text"])), Number(path, example["value"]),
                    Code(str(example.get("copy_of", ""))), Code(_short(example.get("copied_text", ""))),
                ))  # fmt: skip
    columns = ("step", "reason", "row", "its text", "number", "copy of", "text of that")
    return Table("dropped", "Examples of rows that were left out", columns, tuple(rows), _EXAMPLES_NOTE)


def verdict_of_filters(summary: Json) -> Sentence | None:
    """Return how many rows each filtering step kept; None where there is none."""
    parts: list[Cell] = []
    for name, facts in filters_of(summary):
        path = ("steps", name, "facts")
        kept, read = (number_at(summary, (*path, key), "count") or "" for key in ("num_kept", "num_rows"))
        parts += [
            " " if parts else "",
            "Step ",
            Code(name),
            " kept ",
            kept,
            " of ",
            read,
            f" {unit_of(facts)}.",
        ]
    return parts or None


def filter_lines(summary: Json) -> Iterator[str]:
    """Yield what a run prints at its end about its filters."""
    for name, facts in filters_of(summary):
        dropped = ", ".join(f"{reason} {number:,}" for reason, number in facts["dropped"].items() if number)
        yield f"{name}: {facts['num_kept']:,} of {facts['num_rows']:,} {unit_of(facts)} kept; left out: {dropped or 'none'}"


def unit_of(facts: Json) -> str:
    """Return what a step left out: rows, or answers of stage=sample and stage=generate."""
    return str(facts.get("unit", "rows"))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
