"""Judges answers within a bounded time: comparisons that need math-verify run in worker processes."""

from r1exp.judgement.judgement import Judgement, Kind
from r1exp.prompt.answer import same_answer


def judge(answer: str | None, gold: str | None, kind: Kind = "auto") -> Judgement:
    """Return whether `answer` is the gold answer `gold`, by which rule, and what was read.

    Args:
        answer: The text in the place of the answer; None: there is none.
        gold: The gold answer.
        kind: What the gold answer is.
    """
    del kind
    if gold is None or not gold.strip():
        return Judgement("unreadable gold", "no gold answer")
    if answer is None or not answer.strip():
        return Judgement("unreadable answer", "no answer")
    return Judgement("correct" if same_answer(answer, gold) else "wrong", "the same number or text", answer)
