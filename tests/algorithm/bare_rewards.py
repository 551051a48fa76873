"""Reward functions in TRL's form."""

import re


def letters(completions, **_):  # type: ignore[no-untyped-def]
    """Return the share of letters in each completion, which varies even for an untrained model."""
    texts = [completion[0]["content"] for completion in completions]
    return [sum(map(str.isalpha, text)) / max(len(text), 1) for text in texts]


def strict(completions, answer, **_):  # type: ignore[no-untyped-def]
    """Return 2 points for the exact answer in its tag, else 0."""
    texts = [completion[0]["content"] for completion in completions]
    found = [re.findall(r"<answer>(.*?)</answer>", text, re.S) for text in texts]
    return [
        2.0 if tags and tags[-1].strip() == gold else 0.0 for tags, gold in zip(found, answer, strict=True)
    ]


def large(completions, answer, **_):  # type: ignore[no-untyped-def]
    """Return 1 if the sum in the prompt is large, else 0; the completion has no effect."""
    return [1.0 if int(gold) >= 16 else 0.0 for gold in answer]
