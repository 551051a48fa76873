from collections.abc import Callable

import pytest

from r1exp.prompt.settings import StyleName
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NOT_APPLICABLE, Context
from r1exp.rewards.tags import Format, TagCount, XmlCount

MakeProblem = Callable[..., Problem]
MakeCompletion = Callable[..., Completion]

NOW = Context()
WHOLE = "<think>6x7</think>\n<answer>42</answer>"


@pytest.mark.parametrize(
    ("text", "format_", "tag_count", "xml_count"),
    [
        pytest.param(WHOLE, 1.0, 1.0, 0.8, id="the template"),
        pytest.param("hm " + WHOLE, 0.0, 1.0, 0.8, id="words before it"),
        pytest.param("<think>6x7</think> 42", 0.0, 0.5, 0.4, id="no answer tags"),
        pytest.param("<think><think>6x7</think> 42", 0.0, 0.25, 0.4, id="a tag twice"),
        pytest.param("<answer>42", 0.0, 0.25, 0.2, id="cut off"),
        pytest.param("42", 0.0, 0.0, 0.0, id="no tags"),
    ],
)
def test_the_three_tag_rewards_go_from_strict_to_lenient(
    text: str,
    format_: float,
    tag_count: float,
    xml_count: float,
    problem: MakeProblem,
    completion: MakeCompletion,
) -> None:
    style: StyleName = "think_answer"
    assert Format(style=style).score(problem(), completion(text), NOW) == format_
    assert TagCount(style=style).score(problem(), completion(text), NOW) == tag_count
    assert XmlCount(style=style).score(problem(), completion(text), NOW) == pytest.approx(xml_count)


def test_xml_count_adds_points_for_each_tag_up_to_a_maximum(
    problem: MakeProblem, completion: MakeCompletion
) -> None:
    reward = XmlCount(style="think_answer", points=0.5, most=0.8)
    texts = ["<think>", "<think></think>", WHOLE]
    assert [reward.score(problem(), completion(text), NOW) for text in texts] == [0.5, 0.8, 0.8]


@pytest.mark.parametrize("style", ["boxed", "plain"])
def test_tag_counters_abstain_for_a_style_without_tags(
    style: StyleName, problem: MakeProblem, completion: MakeCompletion
) -> None:
    for reward in (TagCount(style=style), XmlCount(style=style)):
        assert reward.score(problem(), completion("42"), NOW) == NOT_APPLICABLE
