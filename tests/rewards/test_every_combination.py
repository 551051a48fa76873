"""Every committee of conf/rewards passes its check on the data that it can serve, and is refused by name on the others.

Committees whose service is not started here (judges, a reward model) are left out: tests/rewards/test_yaml.py checks their
other members. Prompt styles take turns; test_yaml.py has every committee in each.
"""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from r1exp.dataset.arithmetic import Arithmetic
from r1exp.prompt.settings import StyleName
from r1exp.records import Problem
from r1exp.rewards.base import Reward
from r1exp.rewards.check import check

FOLDER = Path(__file__).parents[2] / "conf" / "rewards"
STYLES: tuple[StyleName, ...] = (
    "think_answer",
    "reasoning_answer",
    "reasoning_summary",
    "boxed",
    "plain",
)
SUMS = Arithmetic(
    kind="arithmetic", seed=0, num_train=50, num_test=5, num_operands=3, max_operand=10, test_share=0.25
)
TOOL = '[{"name": "add", "parameters": {"type": "dict", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}]'
DATA: dict[str, list[Problem]] = {  # rows as the data sets of conf/dataset give them
    "arithmetic": SUMS.first("train", 2),
    "gsm8k": [Problem("a", "Ann sold 48 clips, then half as many. How many?", "72", {"solution": "48+24 = 72"})],
    "math500": [
        Problem("a", "Convert (0,3) to polar form.", r"\left( 3, \frac{\pi}{2} \right)", {"level": 2}),
        Problem("b", "Write the sum in p and q.", "p - q", {"level": 5}),
        Problem("c", "Who runs fastest?", r"\text{Evelyn}", {"level": 2}),
    ],
    "aime": [Problem("a", "Find m + n.", "204", {"year": "2024"})],
    "texts": [Problem("a", "What is the capital of France?", "Paris", {"aliases": ["the city of Paris"]})],
    "options": [
        Problem("a", "What is the capital of France?", "1", {"choices": ["Rome", "Paris", "Oslo"]}),
        Problem("b", "What is the capital of Italy?", "A", {"choices": ["Rome", "Paris", "Oslo"]}),
    ],
    "programs": [Problem("a", "Print 7.", "print(7)", {"test_cases": [["", "7"]]})],
    "calls": [Problem("a", "Add 3.", None, {"function": TOOL, "ground_truth": '[{"add": {"a": [3]}}]'})],
    "objects": [
        Problem("a", "Ann is 3.", '{"age": 3}', {"schema": '{"required": ["age"], "type": "object"}'})
    ],
    "lengths": [Problem("a", "What is 3 + 4?", "7", {"target_length": 10})],
    "instructions": [
        Problem(
            "a",
            "Write about a river without commas.",
            "The river runs.",
            {"instruction_id_list": ["punctuation:no_comma", "keywords:existence"],
             "kwargs": [{}, {"keywords": ["river"]}]},
        )
    ],
}  # fmt: skip
# Of data sets with a gold answer; what reads columns of its own serves the data that have them.
SERVES = {
    **dict.fromkeys(
        (
            "dapo",
            "graded",
            "kimi",
            "language",
            "majority_vote",
            "match",
            "open_r1",
            "r1_zero",
            "reasoning",
            "reasoning_any_language",
            "strict",
            "vote_partial",
        ),
        set(DATA) - {"calls"},
    ),
    "choice": {"options"},
    "code": {"programs"},
    "function_call": {"calls"},
    "json_schema": {"objects"},
    "l1": {"lengths"},
    "instructions": {"instructions"},
    # Their own data: test_reasoning_gym.py, test_countdown.py and test_committees_on_data.py.
    **{name: set() for name in ("reasoning_gym", "countdown", "code_ioi", "code_codeforces")},
}
NEED_A_SERVICE = {"judge", "group_judge", "rubric", "reward_model", "helpful_harmless", "all_scenarios"}
PAIRS = [(committee, data) for committee in SERVES for data in DATA]


def test_the_table_has_every_committee() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == SERVES.keys() | NEED_A_SERVICE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("committee", "data", "style"),
    [(*pair, style) for pair, style in zip(PAIRS, cycle(STYLES), strict=False)],
)
def test_a_committee_passes_or_is_refused(
    committee: str, data: str, style: StyleName, composed: Callable[..., dict[str, Reward]]
) -> None:
    report = check(composed(FOLDER / f"{committee}.yaml", style), style, DATA[data])
    assert report.ok is (data in SERVES[committee]), report.text()
    if not report.ok:
        member, says = report.failures[0].split(" scored none of ")
        assert member.startswith("rewards.") and "gold answers included" in says
