"""A reward as anyone would write it for TRL."""


def letters(completions, **_):  # type: ignore[no-untyped-def]
    """Return the share of letters in each completion: something even an untrained model varies in."""
    texts = [completion[0]["content"] for completion in completions]
    return [sum(map(str.isalpha, text)) / max(len(text), 1) for text in texts]
