from collections.abc import Callable

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context
from r1exp.rewards.reasoning_steps import ReasoningSteps

MakeProblem = Callable[..., Problem]
MakeCompletion = Callable[..., Completion]


@pytest.mark.parametrize(
    ("text", "num_markers"),
    [
        pytest.param("Step 1: add. Step 2: double.", 2, id="numbered steps"),
        pytest.param("First, add. Next, double. Finally, stop.", 3, id="ordinal words"),
        pytest.param("first we add and next we double", 0, id="ordinal words inside a clause"),
        pytest.param("First, First, First, First,", 1, id="one marker repeated"),
        pytest.param("1. add\n2. double\n3. stop", 3, id="a numbered list"),
        pytest.param("- add\n- double\n- add", 2, id="bullets, one twice"),
        pytest.param("首先相加，其次相乘，最后停止。", 3, id="Chinese order"),
        pytest.param("第一步：相加。第二步：相乘。步骤3：停止。", 3, id="Chinese steps"),
        pytest.param("2 - 3 = -1", 0, id="a minus sign is not a bullet"),
        pytest.param("", 0, id="nothing"),
    ],
)
def test_different_markers_are_counted(
    text: str, num_markers: int, problem: MakeProblem, completion: MakeCompletion
) -> None:
    reward = ReasoningSteps(style="think_answer", target=4)
    answer = completion(f"<think>{text}</think><answer>1. 2. 3.</answer>")
    assert reward.score(problem(), answer, Context()) == num_markers / 4


def test_more_markers_than_the_target_score_1(problem: MakeProblem, completion: MakeCompletion) -> None:
    reward = ReasoningSteps(style="plain", target=2)
    assert reward.score(problem(), completion("Step 1 Step 2 Step 3"), Context()) == 1.0
