"""Chooses which sampled answers become rows of a data set: rejection sampling. Torch-free.

An answer is left out, for the first of these reasons that holds:

    pass_rate          its problem is outside [min_pass_rate, max_pass_rate]
    wrong              the judge says so; where there is no gold answer, none is wrong
    cut                it ends at the length limit, so that a model would learn not to stop
    low_reward         its reward is below `min_reward`, or is missing
    bound_MEMBER       the member of the committee scores it below `bounds.MEMBER`, or could not score it
    language           too few words of its reasoning are in the language of the problem
    long_paragraph     a paragraph has more words than `max_paragraph`
    code               it holds a fenced block of code
    format             the prompt's style cannot write its reasoning with the gold answer
    repeated           a better answer of the problem has the same text, or with distinct=answer gives the same answer
    beyond_keep        the problem has `keep` better ones
    beyond_num_rows    `num_rows` are reached

Source: DeepSeek-R1, section 2.3.3 (arXiv:2501.12948): correct answers of the policy, without mixed languages, long paragraphs
and blocks of code; [deepseek-r1].
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_args

from r1exp.errors import Refused
from r1exp.judgement.keys import key_of
from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.rewards.code_text import blocks
from r1exp.rewards.language_consistency import Language, LanguageConsistency
from r1exp.rewards.scripts import words, words_by_script
from r1exp.stage.sample import Sample, question_of

Row = dict[str, Any]  # a problem of samples.jsonl with its answers
_PARAGRAPH_END = re.compile(r"\n\s*\n")


@dataclass
class Selection:
    """The rows of data.jsonl, and how they were chosen."""

    rows: list[Row] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def select(problems: Sequence[Row], stage: Sample, style: StyleName) -> Selection:
    """Return the data set of the answers that are kept; deterministic, in the order of the problems.

    Args:
        problems: Rows of samples.jsonl.
        stage: What is kept.
        style: Of the prompt.
    """
    dropped: Counter[str] = Counter()
    within = [row for row in problems if _is_within(row, stage)]
    chosen = [_chosen(row, stage, style, dropped) for row in within]
    allowed = _balanced([len(answers) for answers in chosen], within, stage.num_rows)
    kept: list[Row] = []
    num_solved = num_unsolved = 0
    for row, answers, number in zip(within, chosen, allowed, strict=True):
        dropped["beyond_num_rows"] += len(answers) - number
        if answers:
            num_solved += number > 0
            kept += _rows_of(row, answers[:number], several=stage.keep > 1)
        else:
            num_unsolved += 1
            kept += [_problem_of(row)] if stage.keep_unsolved else []
    rates = [row["pass_rate"] for row in problems if row["pass_rate"] is not None]
    dropped["pass_rate"] = sum(len(row["answers"]) for row in problems if not _is_within(row, stage))
    facts = {
        "num_problems": len(problems),
        "num_problems_kept": num_solved + (num_unsolved if stage.keep_unsolved else 0),
        "num_outside_pass_rate": len(problems) - len(within),
        "num_unsolved": num_unsolved,
        "num_written": len(kept),  # rows of data.jsonl
        "unit": "answers",  # of the next three
        "num_rows": sum(len(row["answers"]) for row in problems),
        "num_kept": sum(allowed),
        "dropped": {reason: number for reason, number in sorted(dropped.items()) if number},
        "mean_pass_rate": sum(rates) / len(rates) if rates else None,
    }
    return Selection(kept, facts)


def summary(facts: Row) -> str:
    """Return the counts in one line, for the log of the step."""
    dropped = ", ".join(f"{reason} {number}" for reason, number in facts["dropped"].items())
    return (
        f"{facts['num_kept']} of {facts['num_rows']} answers kept, {facts['num_written']} rows of {facts['num_problems_kept']} of "
        f"{facts['num_problems']} problems; unsolved {facts['num_unsolved']}, outside the pass rates "
        f"{facts['num_outside_pass_rate']}; answers left out: {dropped or 'none'}"
    )


def _is_within(row: Row, stage: Sample) -> bool:
    rate = row["pass_rate"]
    return rate is None or stage.min_pass_rate <= rate <= stage.max_pass_rate


def _chosen(row: Row, stage: Sample, style: StyleName, dropped: Counter[str]) -> list[Row]:
    """Return the answers of a problem that are kept, best first, and count the others."""
    passed = []
    for answer in row["answers"]:
        reason = next(_reasons(row, answer, stage, style), None)
        if reason is None:
            passed.append(answer)
        else:
            dropped[reason] += 1
    passed.sort(key=lambda answer: (answer["reward"] is None, -(answer["reward"] or 0.0)))
    seen: set[Any] = set()
    kept: list[Row] = []
    for answer in passed:
        same = _identity(answer, stage)
        if same in seen:
            dropped["repeated"] += 1
        elif len(kept) == stage.keep:
            dropped["beyond_keep"] += 1
        else:
            kept.append(answer | {"solution": _solution(row, answer, style)})
        seen.add(same)
    return kept


def _reasons(row: Row, answer: Row, stage: Sample, style: StyleName) -> Iterator[str]:
    """Yield why an answer is left out."""
    text, reward = answer["text"], answer["reward"]
    if stage.only_correct and answer["right"] is False:
        yield "wrong"
    if stage.only_correct and not answer.get("finished", True):
        yield "cut"
    if stage.min_reward is not None and (reward is None or reward < stage.min_reward):
        yield "low_reward"
    for name, least in stage.bounds.items():
        scores = answer.get("scores", {})
        if name in scores and (scores[name] is None or scores[name] < least):
            yield f"bound_{name}"
    if stage.min_language_share is not None:
        language = row["columns"].get("language")
        language = language if language in get_args(Language) else stage.language
        if language is not None and _share(language, style, text) < stage.min_language_share:
            yield "language"
    if stage.max_paragraph is not None:
        paragraphs = _PARAGRAPH_END.split(text)
        if any(len(words(paragraph)) > stage.max_paragraph for paragraph in paragraphs):
            yield "long_paragraph"
    if not stage.allow_code and any(True for _ in blocks(text)):
        yield "code"
    if not text.strip() or (row["answer"] is not None and _solution(row, answer, style) is None):
        yield "format"


def _share(language: Language, style: StyleName, text: str) -> float:
    """Return the share of words of the reasoning that are in the language; 1 where it holds no words."""
    reasoning = style_named(style).read_reasoning(text)
    reasoning = text if reasoning is None else reasoning
    if not any(True for _ in words_by_script(reasoning)):
        return 1.0
    return _detector(language, style).share(reasoning)


@cache
def _detector(language: Language, style: StyleName) -> LanguageConsistency:
    return LanguageConsistency(style=style, language=language)


def _identity(answer: Row, stage: Sample) -> Any:
    """Return what two answers of a problem share that count as one: "3.0" and "3" are one answer."""
    read = answer.get("read")
    return (
        key_of(read) if stage.distinct == "answer" and read is not None else ("text", answer["text"].strip())
    )


def _solution(row: Row, answer: Row, style: StyleName) -> str | None:
    """Return what stage=sft writes with the gold answer in the prompt's style; None if that is not possible.

    It is the whole text where its answer is written as the gold one is, else its reasoning: a policy that found 3.0 is shown 3.
    """
    gold, text = row["answer"], answer["text"]
    if gold is None:
        return None
    shape = style_named(style)
    for candidate in (text, shape.read_reasoning(text)):
        if candidate is None or not candidate.strip():
            continue
        try:
            shape.write(candidate, gold)
        except Refused:
            continue
        return candidate
    return None


def _balanced(found: Sequence[int], problems: Sequence[Row], num_rows: int | None) -> list[int]:
    """Return how many answers each problem keeps, so that all problems give one before any gives two.

    In a round that does not fit, the problems that are solved least often come first: they have few answers.
    """
    if num_rows is None or sum(found) <= num_rows:
        return list(found)
    allowed = [0] * len(found)
    hardest = sorted(range(len(found)), key=lambda place: (problems[place]["pass_rate"] or 0.0, place))
    left = num_rows
    for turn in range(1, max(found) + 1):
        for place in hardest:
            if left and found[place] >= turn:
                allowed[place] += 1
                left -= 1
    return allowed


def _problem_of(row: Row) -> Row:
    """Return a problem in the form of dataset=jsonl, without a solution."""
    columns = {name: value for name, value in row["columns"].items() if name != "solution"}
    question = question_of(row)
    if row["answer"] is None and isinstance(question, str):  # only a chat may have no answer
        question = [{"role": "user", "content": question}]
    return {
        **columns,
        "id": row["id"],
        "question": question,
        "answer": row["answer"],
        "pass_rate": row["pass_rate"],
    }


def _rows_of(row: Row, answers: Sequence[Row], *, several: bool) -> Iterator[Row]:
    """Yield a row for each answer: a problem with its solution, or a chat where there is no gold answer."""
    for number, answer in enumerate(answers, start=1):
        found = _problem_of(row) | ({"id": f"{row['id']}-{number}"} if several else {})
        if answer["solution"] is not None:
            yield found | {"solution": answer["solution"]}
            continue
        turns = found.pop("question")
        del found["answer"]
        yield found | {"messages": [*turns, {"role": "assistant", "content": answer["text"]}]}
