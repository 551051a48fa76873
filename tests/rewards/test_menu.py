"""What `kind` can name: a reward of r1exp, or a reward class or reward function of any package."""

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context
from r1exp.rewards.code import Code
from r1exp.rewards.committee import Committee
from r1exp.rewards.function import Function
from r1exp.rewards.menu import REWARDS, RewardSettings, reward_class
from r1exp.rewards.strict import Strict
from r1exp.sandbox.piston import Piston
from r1exp.settings import Settings

Write = Callable[..., str]

BRIEF = """
from typing import Annotated
from pydantic import Field
from r1exp.rewards.base import Reward

class Brief(Reward):
    limit: Annotated[int, Field(gt=0)] = 10  # tokens
    bonuses: tuple[float, float] = (0.0, 1.0)

    @property
    def span(self):
        return self.bonuses

    def score(self, problem, completion, context):
        return self.bonuses[completion.num_tokens <= self.limit]
"""


class Run(Settings):
    """A model with rewards, as `StepConfig` has them."""

    rewards: Annotated[dict[str, RewardSettings], Field(min_length=1)]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module of a user's package and returns its name."""
    package = f"mine_{tmp_path.name.replace('-', '_')}"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")

    def write(source: str, name: str = "rewards") -> str:
        target = tmp_path / package / f"{name}.py"
        target.write_text(textwrap.dedent(source))
        return package if name == "__init__" else f"{package}.{name}"

    return write


def run(**rewards: dict[str, Any]) -> Run:
    return Run.model_validate_json(json.dumps({"rewards": rewards}), strict=True)


def errors(**rewards: dict[str, Any]) -> list[tuple[tuple[int | str, ...], str, str]]:
    with pytest.raises(ValidationError) as raised:
        run(**rewards)
    return [(error["loc"], error["type"], error["msg"]) for error in raised.value.errors()]


@pytest.mark.parametrize("kind", REWARDS.kinds())
def test_every_kind_names_the_class_that_has_this_kind(kind: str) -> None:
    assert reward_class(kind).model_fields["kind"].default == kind


def test_only_the_rewards_that_are_used_are_imported() -> None:
    code = (
        "import sys; from r1exp.rewards.menu import reward_class; reward_class('strict');"
        "print(sorted(n for n in sys.modules if n in ('r1exp.rewards.strict', 'r1exp.rewards.judge', 'torch')))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "['r1exp.rewards.strict']\n"


def test_an_unknown_kind_is_refused_with_the_nearest_one_and_the_list() -> None:
    ((location, _, message),) = errors(right={"kind": "stict", "style": "plain"})
    assert location == ("rewards", "right")
    assert "kind=stict" in message
    assert "Did you mean strict?" in message
    assert "vote_partial, xml_count" in message


def test_a_class_of_ones_own_is_a_member_with_its_own_settings(write: Write) -> None:
    kind = f"{write(BRIEF)}:Brief"
    member = run(short={"kind": kind, "limit": 5, "bonuses": [-1.0, 2.0]}).rewards["short"]
    assert type(member).__name__ == "Brief"
    assert (member.kind, member.model_dump()["limit"], member.weight) == (kind, 5, 1.0)
    committee = Committee({"short": member})
    completions = [Completion("x", 5), Completion("x", 6)]
    scores = committee.score([Problem("p", "p")] * 2, completions, Context())
    assert scores == {"short": [2.0, -1.0]}


def test_the_class_in_the_documentation_works(write: Write) -> None:
    doc = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(from pydantic.*?)```", doc, re.DOTALL)
    member = run(short={"kind": f"{write(example)}:Brief", "limit": 120}).rewards["short"]
    scores = [member.score(Problem("p", "p"), Completion("x", length), Context()) for length in (120, 121)]
    assert scores == [1.0, 0.0]


@pytest.mark.parametrize(
    ("settings", "location", "kind_of_error"),
    [
        pytest.param({"limt": 5}, "limt", "extra_forbidden", id="an unknown key"),
        pytest.param({"limit": "5"}, "limit", "int_type", id="a text for a number"),
        pytest.param({"limit": 0}, "limit", "greater_than", id="outside the range"),
        pytest.param({"weight": -1.0}, "weight", "greater_than_equal", id="a negative weight"),
    ],
)
def test_the_settings_of_ones_own_class_are_checked_strictly(
    write: Write, settings: dict[str, Any], location: str, kind_of_error: str
) -> None:
    ((found, type_, _),) = errors(short={"kind": f"{write(BRIEF)}:Brief", **settings})
    assert (found, type_) == (("rewards", "short", location), kind_of_error)


def test_a_dump_contains_the_fields_of_each_class_and_restores_it(write: Write) -> None:
    piston = {"kind": "piston", "urls": ["http://a:2000", "http://b:2000"]}
    before = run(
        short={"kind": f"{write(BRIEF)}:Brief", "bonuses": [0.5, 1.5]},
        right={"kind": "strict", "style": "plain", "points": 3.0},
        code={"kind": "code", "style": "plain", "sandbox": piston},
        mine={"kind": "json:dumps", "arguments": {"indent": 2}},
    )
    dumped = before.model_dump(mode="json")
    assert dumped["rewards"]["right"]["points"] == 3.0
    assert dumped["rewards"]["short"]["bonuses"] == [0.5, 1.5]
    assert dumped["rewards"]["code"]["sandbox"]["urls"] == ["http://a:2000", "http://b:2000"]
    assert json.loads(before.model_dump_json()) == dumped
    after = Run.model_validate_json(before.model_dump_json(), strict=True)
    assert after == before
    assert isinstance(after.rewards["right"], Strict)
    assert isinstance(after.rewards["code"], Code)
    assert isinstance(after.rewards["code"].sandbox, Piston)
    assert isinstance(after.rewards["mine"], Function)


NEVER = "raise RuntimeError('imported')\n"


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("def reward(completions, **kwargs): ...", id="a function"),
        pytest.param("async def reward(completions, **kwargs): ...", id="a coroutine function"),
        pytest.param("reward = print", id="an assignment"),
        pytest.param("from json import dumps as reward", id="a function from elsewhere"),
        pytest.param("class reward:\n    def __call__(self, completions, **kwargs): ...", id="no base class"),
        pytest.param("from r1exp.rewards.base import Reward\nclass reward(Reward): ...\ndef reward(): ...", id="last wins"),
        pytest.param("", id="not there"),
    ],
)  # fmt: skip
def test_a_reward_function_is_not_imported_in_this_process(write: Write, source: str) -> None:
    module = write(NEVER + source)
    assert reward_class(f"{module}:reward") is Function


def test_a_callable_class_that_is_no_reward_is_a_function(write: Write) -> None:
    module = write("class Base: ...\nclass Callable(Base):\n    def __call__(self, completions): ...")
    assert reward_class(f"{module}:Callable") is Function


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("from .parts import Brief", id="relative"),
        pytest.param(
            "from .parts import Brief as Short\nBrief = Short\nfrom .parts import Brief", id="twice"
        ),
        pytest.param("try:\n    from .parts import Brief\nexcept ImportError:\n    raise", id="inside try"),
    ],
)
def test_a_class_is_found_where_its_package_imports_it(write: Write, source: str) -> None:
    write(BRIEF, "parts")
    package = write(source, "__init__")
    assert reward_class(f"{package}:Brief").__name__ == "Brief"


def test_a_class_that_is_only_assigned_says_how_to_name_it(write: Write) -> None:
    module = write(f"{BRIEF}\nShort = Brief")
    reward = Function(kind=f"{module}:Short")
    with pytest.raises(ValueError, match=rf"{module}:Short is a reward class, .* type kind={module}:Brief"):
        reward.score_group(Problem("p", "p"), [Completion("x", 5)], Context())


@pytest.mark.parametrize(
    ("source", "part"),
    [
        pytest.param("class Brief(", "is not valid Python", id="a syntax error"),
        pytest.param(f"import no_such_package\n{BRIEF}", "no_such_package", id="an import that fails"),
    ],
)
def test_a_class_whose_module_is_broken_is_refused_with_the_reason(
    write: Write, source: str, part: str
) -> None:
    module = write(source)
    ((location, _, message),) = errors(short={"kind": f"{module}:Brief"})
    assert location == ("rewards", "short")
    assert module in message
    assert part in message


@pytest.mark.parametrize("kind", ["no_such_package:Brief", "no_such_package.rewards:mine"])
def test_a_package_that_is_not_installed_is_refused(kind: str) -> None:
    ((_, _, message),) = errors(short={"kind": kind})
    assert "'no_such_package', which Python does not find" in message
