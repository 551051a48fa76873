"""Reasoning and answer of a completion, apart and together."""

import pytest

from r1exp.prompt.reasoning import joined, split_reasoning
from r1exp.prompt.style import style_named


@pytest.mark.parametrize(
    ("style", "text", "expected"),
    [
        pytest.param("think_answer", "<think>a b</think>\nIt is 3.", ("a b", "It is 3."), id="both tags"),
        pytest.param("think_answer", "a b\n</think>\n\n3", ("a b", "3"), id="the template opened it"),
        pytest.param("plain", "<think>a</think>#### 3", ("a", "#### 3"), id="a style without tags"),
        pytest.param("reasoning_answer", "<reasoning>a</reasoning>3", ("a", "3"), id="the tags of the style"),
        pytest.param("reasoning_answer", "<think>a</think>3", ("a", "3"), id="other tags than the style's"),
        pytest.param("think_answer", "<think>cut here", (None, "<think>cut here"), id="never closed"),
        pytest.param(
            "think_answer", "So <think>a</think> 3", (None, "So <think>a</think> 3"), id="text before"
        ),
        pytest.param("boxed", "\\boxed{3}", (None, "\\boxed{3}"), id="none"),
        pytest.param("think_answer", "<think></think>3", ("", "3"), id="an empty block"),
    ],
)
def test_the_reasoning_is_separated_from_the_answer(
    style: str, text: str, expected: tuple[str | None, str]
) -> None:
    assert split_reasoning(text, style_named(style)) == expected


@pytest.mark.parametrize("style", ["think_answer", "reasoning_answer", "reasoning_summary", "boxed", "plain"])
def test_what_is_joined_comes_apart_again(style: str) -> None:
    whole = joined("first, then", "the answer", style_named(style))
    assert split_reasoning(whole, style_named(style)) == ("first, then", "the answer")
    assert joined(None, "the answer", style_named(style)) == "the answer"
