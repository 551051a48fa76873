"""Programs are scored by their test cases; where they cannot be run, the rewards abstain."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from pydantic import TypeAdapter, ValidationError

from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import UNREADABLE_GOLD, Abstain, Context, Score
from r1exp.rewards.check import check
from r1exp.rewards.code import NO_CASES, BinaryCode, Code, CodeFormat, code_cheats
from r1exp.rewards.code_text import blocks, language_named, read_cases, read_program, written
from r1exp.rewards.committee import Committee
from r1exp.rewards.menu import RewardSettings
from r1exp.sandbox import bubblewrap
from r1exp.sandbox.base import Case, Language, Limits
from r1exp.sandbox.local import Local
from r1exp.sandbox.piston import Piston

CONF = Path(__file__).parents[2] / "conf" / "rewards" / "code.yaml"
CASES = [
    {"input": "1 2", "output": "3"},
    {"input": "5 5", "output": "10\n"},
    {"input": "0 0", "output": "0"},
    {"input": "-1 1", "output": "0"},
]
ADD = "a, b = map(int, input().split())\nprint(a + b)"
SMALL = Limits(cpu_seconds=1.0, wall_seconds=20.0, max_timeouts=1, memory_mib=256)

Make = Callable[..., Completion]


def sums(cases: object = CASES, **columns: object) -> Problem:
    return Problem("sums", "Read two numbers and print their sum.", ADD, {"test_cases": cases} | columns)


def program(source: str, label: str = "python", style: StyleName = "think_answer") -> Completion:
    return Completion(style_named(style).write("Add them.", f"```{label}\n{source}\n```"), 20)


def score(
    reward: Code | BinaryCode | CodeFormat, completion: Completion, problem: Problem | None = None
) -> Score:
    return reward.score(problem or sums(), completion, Context())


@pytest.mark.parametrize(
    ("source", "share", "all_or_nothing"),
    [
        pytest.param(ADD, 1.0, 1.0, id="right"),
        pytest.param("print(0)", 0.5, 0.0, id="right for two of four"),
        pytest.param("print(3); raise SystemExit(1)", 0.0, 0.0, id="right output, wrong exit code"),
        pytest.param("print(3)\nprint(4)", 0.0, 0.0, id="right first line only"),
        pytest.param("while True: pass", 0.0, 0.0, id="endless loop"),
        pytest.param("print(3", 0.0, 0.0, id="no program"),
    ],
)
def test_the_score_is_the_share_of_passed_cases(source: str, share: float, all_or_nothing: float) -> None:
    made = program(source)
    assert score(Code(style="think_answer", sandbox=Local(), limits=SMALL), made) == share
    assert score(BinaryCode(style="think_answer", sandbox=Local(), limits=SMALL), made) == all_or_nothing


def test_the_language_is_set_by_the_settings_or_by_the_row() -> None:
    source = "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }"
    by_settings = Code(style="think_answer", language="cpp", sandbox=Local())
    by_row = Code(style="think_answer", sandbox=Local())
    assert score(by_settings, program(source, "cpp")) == 1.0
    assert score(by_row, program(source, "c++"), sums(language="C++17")) == 1.0
    assert score(by_row, program(source, "cpp")) == 0.0  # the row asks for Python


def test_a_program_in_the_wrong_place_scores_0() -> None:
    reward = Code(style="think_answer", sandbox=Local())
    fenced = written("python", ADD)
    assert score(reward, Completion(f"<think>{fenced}</think><answer>see above</answer>", 20)) == 0.0
    assert score(reward, Completion(fenced, 20)) == 0.0
    assert score(reward, Completion("", 0)) == 0.0


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        pytest.param(sums(None), NO_CASES, id="no column"),
        pytest.param(sums([]), NO_CASES, id="no cases"),
        pytest.param(sums("not JSON"), UNREADABLE_GOLD, id="no JSON"),
        pytest.param(sums([{"input": 3, "output": "3"}]), UNREADABLE_GOLD, id="a number for a text"),
        pytest.param(
            sums([{"input": "", "output": "", "type": "function_call"}]), UNREADABLE_GOLD, id="calls"
        ),
        pytest.param(sums(language="cobol"), UNREADABLE_GOLD, id="unknown language"),
    ],
)
def test_the_reward_abstains_where_the_data_is_broken(problem: Problem, reason: Abstain) -> None:
    assert score(Code(style="think_answer", sandbox=Local()), program(ADD), problem) == reason


@pytest.mark.parametrize("kind", [Code, BinaryCode])
def test_the_reward_abstains_where_the_sandbox_is_down(kind: type[Code | BinaryCode]) -> None:
    nowhere = Piston(urls=("http://127.0.0.1:9/api/v2",), retries=0)
    reward = kind(style="think_answer", sandbox=nowhere)
    assert score(reward, program("print(0)")) == Abstain("sandbox unavailable")
    assert "start Piston" in (reward.cannot_run_because() or "")
    assert Code(style="think_answer", sandbox=Local()).cannot_run_because() is None


def test_a_deadline_before_the_limits_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"raise deadline or lower limits\.total_seconds"):
        Code(style="think_answer", sandbox=Local(), deadline=60.0)


def test_the_committee_runs_programs_in_its_workers_and_an_endless_loop_scores_0() -> None:
    committee = Committee({"code": Code(style="think_answer", sandbox=Local(), limits=SMALL)}, num_workers=2)
    made = [program(ADD), program("while True: pass"), program("print(0)")]
    try:
        assert committee.score([sums()] * 3, made, Context())["code"] == [1.0, 0.0, 0.5]
    finally:
        committee.close()


@pytest.mark.parametrize("style", ["think_answer", "reasoning_answer", "reasoning_summary", "boxed", "plain"])
def test_gold_scores_the_maximum_and_no_cheat_does(style: StyleName) -> None:
    top = {"prompt": {"style": style}, "rewards": OmegaConf.load(CONF)}
    values = OmegaConf.to_container(OmegaConf.create(top), resolve=True)
    assert isinstance(values, dict)
    small = json.loads(SMALL.model_dump_json())
    for name in ("code", "binary_code"):
        values["rewards"][name]["limits"] = small
    rewards = TypeAdapter(dict[str, RewardSettings]).validate_json(json.dumps(values["rewards"]), strict=True)
    report = check(rewards, style, [sums()])
    assert report.ok, report.text()
    lines = {line.probe: line.scores for line in report.lines}
    assert lines["gold"] == {"code": 1.0, "binary_code": 1.0, "code_format": 1.0}
    for name in code_cheats():
        assert lines[name]["code"] == 0.0


@pytest.mark.parametrize("language", ["python", "cpp", "javascript"])
def test_a_cheat_scores_0_in_either_language(language: Language) -> None:
    reward = Code(style="think_answer", language=language, sandbox=Local(), limits=SMALL)
    if lacking := reward.cannot_run_because():
        pytest.skip(lacking)
    problem = sums([{"input": "1 2", "output": "3"}])
    for name, fenced in code_cheats(reward.language).items():
        made = Completion(style_named("think_answer").write("", fenced), 20)
        assert reward.score(problem, made, Context()) == 0.0, name


@pytest.mark.parametrize(
    ("style", "text", "points"),
    [
        pytest.param("think_answer", "<think>x</think><answer>```python\n1\n```</answer>", 1.0, id="right"),
        pytest.param("think_answer", "<think>x</think><answer>Here:\n```python\n1\n```\n</answer>", 1.0, id="words before it"),
        pytest.param("think_answer", "<think>x</think><answer>```python\n1\n```\nDone.</answer>", 0.0, id="words after it"),
        pytest.param("think_answer", "<think>x</think><answer>```\n1\n```</answer>", 0.0, id="no label"),
        pytest.param("think_answer", "<think>x</think><answer>```cpp\n1\n```</answer>", 0.0, id="another language"),
        pytest.param("think_answer", "<think>```python\n1\n```</think><answer>x</answer>", 0.0, id="in the reasoning"),
        pytest.param("think_answer", "<answer>```python\n1\n```</answer>", 0.0, id="no template"),
        pytest.param("think_answer", "<think>x</think><answer>```python\n1</answer>", 0.0, id="not closed"),
        pytest.param("boxed", "First.\n\\boxed{```python\n{1: 2}\n```}", 1.0, id="boxed"),
        pytest.param("boxed", "First.\n```python\nprint('}')\n```", 1.0, id="boxed, without a box"),
        pytest.param("boxed", "```python\n1\n```\n\\boxed{1}", 0.0, id="boxed, something else in the box"),
        pytest.param("plain", "First.\n```python\n1\n```\n", 1.0, id="plain"),
        pytest.param("plain", "```python\n1\n```\n#### 1", 0.0, id="plain, something after it"),
    ],
)  # fmt: skip
def test_code_format_depends_on_the_prompt_style(style: StyleName, text: str, points: float) -> None:
    assert score(CodeFormat(style=style), Completion(text, 20)) == points


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        pytest.param("```python\na\nb\n```", ["a\nb"], id="one"),
        pytest.param("```py\na\n```\n```\nb\n```", ["a", "b"], id="two"),
        pytest.param("```python\nprint('```')\n```", ["print('```')"], id="fence in a string"),
        pytest.param("```python\na", [], id="not closed"),
        pytest.param("```python\n```python\na\n```", ["```python\na"], id="opened twice"),
        pytest.param("  ```python\n  a\n  ```  ", ["  a"], id="indented"),
        pytest.param("``` python\r\na\r\n```\r\n", ["a\r"], id="windows"),
        pytest.param("````python\na\n```\nb\n````", ["a\n```\nb"], id="four ticks"),
        pytest.param("```python\na\n````", ["a"], id="closed with more ticks"),
        pytest.param("~~~python\na\n```\n~~~", ["a\n```"], id="tildes"),
        pytest.param("~~~\na\n```", [], id="closed with others"),
        pytest.param("```x``` is code\n```py\na\n```", ["a"], id="code within a line"),
    ],
)
def test_blocks_are_read_line_by_line(text: str, sources: list[str]) -> None:
    assert [block.source for block in blocks(text)] == sources


@pytest.mark.parametrize(
    "opening",
    ['```python title="x"', "``` python", "````py", "~~~python", "~~~~ Python3 {1,3-4}", "```{.python .numberLines}",
     "```python:main.py", "```python{2}", "```", "~~~"],
)  # fmt: skip
def test_every_way_to_open_a_fence_holds_a_program(opening: str) -> None:
    closing = "".join(character for character in opening if character in "`~")
    assert read_program("plain", "python", f"Here:\n{opening}\nprint(1)\n{closing}\n") == "print(1)"
    assert read_program("plain", "cpp", f"{opening}\nprint(1)\n{closing}") == (
        "print(1)" if set(opening) <= set("`~") else None
    )


def test_a_program_that_contains_a_fence_is_written_with_a_longer_one() -> None:
    source = 'print("""\n```\n""")'
    assert read_program("plain", "python", written("python", source)) == source


def test_a_language_whose_tool_is_missing_abstains_with_the_reason_and_check_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bubblewrap.node.cache_clear()
    reward = Code(style="plain", language="javascript", sandbox=Local(), limits=SMALL)
    problem = Problem("seven", "Print 7.", "console.log(7)", {"test_cases": [["", "7"]]})
    with monkeypatch.context() as patched:
        patched.setattr(
            bubblewrap.shutil, "which", lambda name, path=None: None if "node" in name else f"/usr/bin/{name}"
        )
        done = reward.score(problem, Completion("```js\nconsole.log(7)\n```", 9), Context())
        report = check({"code": reward}, "plain", [problem])
    bubblewrap.node.cache_clear()
    assert done == Abstain("node not installed")
    assert not report.ok
    assert (
        "rewards.code cannot score here: node is not installed; type: apt-get install nodejs" in report.text()
    )


@pytest.mark.parametrize(
    "text", ["```python\n" * 100_000, "```\n" * 250_001, "`" * 1_000_000], ids=["open", "pairs", "ticks"]
)
def test_a_megabyte_of_fences_is_read_quickly(text: str) -> None:
    assert read_program("plain", "python", text) is None


def test_the_last_block_of_the_answer_is_the_program() -> None:
    answer = "```python\n1\n```\nbetter:\n```python\n2\n```\n```json\n3\n```"
    assert read_program("think_answer", "python", f"<think>x</think><answer>{answer}</answer>") == "2"
    assert read_program("plain", "python", answer) is None  # the text ends with something else
    assert read_program("plain", "python", "```python\n" + "1" * 70_000 + "\n```") is None  # too long


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(CASES[:1], id="list"),
        pytest.param(json.dumps(CASES[:1]), id="JSON"),
        pytest.param(
            {"language": "python", "test_cases": [CASES[0] | {"type": "stdin_stdout"}]},
            id="verification_info",
        ),
        pytest.param([["1 2", "3"]], id="pairs"),
    ],
)
def test_every_form_of_cases_is_read(value: object) -> None:
    assert read_cases(value) == [Case("1 2", "3")]


@pytest.mark.parametrize(
    ("name", "language"),
    [("python", "python"), ("Python3", "python"), ("python3.11", "python"), ("py", "python"), ("C++17", "cpp"), ("cpp", "cpp"), (None, "cpp")],
)  # fmt: skip
def test_a_language_has_several_names(name: str | None, language: str) -> None:
    assert language_named(name, "cpp") == language
