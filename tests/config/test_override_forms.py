"""Every form of override in Hydra's documentation: what it becomes, or what the refusal says to type.

Sources: https://hydra.cc/docs/1.3/advanced/override_grammar/basic/ and .../extended/.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.config.compose import expanded, session
from r1exp.errors import Refused
from r1exp.plan.members import Member, command_of, members_of


@pytest.fixture(autouse=True, scope="module")
def one_session() -> Iterator[None]:
    """Initialize Hydra once for the whole table."""
    with session():
        yield


def members(*line: str, is_multirun: bool = True) -> list[Member]:
    return members_of(command_of(line, is_multirun))


SWEEPS = [
    ("a comma list", "seed=1,2", ["seed=1", "seed=2"]),
    ("a comma list of options", "model=tiny,tiny", ["model=tiny", "model=tiny"]),
    ("a list of quoted texts", "name='a b','c'", ["name='a b'", "name='c'"]),
    ("a list that is not ASCII", "name=中,b", ["name='中'", "name=b"]),
    ("spaces after commas", "seed=1, 2", ["seed=1", "seed=2"]),
    ("null among values", "dataset.seed=0,1", ["dataset.seed=0", "dataset.seed=1"]),
    ("choice", "seed=choice(1,2)", ["seed=1", "seed=2"]),
    ("choice of one", "seed=choice(3)", ["seed=3"]),
    ("range", "seed=range(1,4)", ["seed=1", "seed=2", "seed=3"]),
    ("range from 0", "seed=range(3)", ["seed=0", "seed=1", "seed=2"]),
    ("range with a step", "seed=range(1,6,2)", ["seed=1", "seed=3", "seed=5"]),
    ("range with names", "seed=range(start=1,stop=6,step=2)", ["seed=1", "seed=3", "seed=5"]),
    ("range downwards", "seed=range(3,1,-1)", ["seed=3", "seed=2"]),
    ("range of floats", "beta=range(0.0,0.3,0.1)", ["beta=0.0", "beta=0.1", "beta=0.2"]),
    ("sort", "seed=sort(3,1,2)", ["seed=1", "seed=2", "seed=3"]),
    ("sort downwards", "seed=sort(3,1,2,reverse=true)", ["seed=3", "seed=2", "seed=1"]),
    ("sort of a choice", "seed=sort(choice(3,1))", ["seed=1", "seed=3"]),
    ("sort of a range", "seed=sort(range(3,0,-1))", ["seed=1", "seed=2", "seed=3"]),
    ("tag", "seed=tag(a,b,choice(1,2))", ["seed=1", "seed=2"]),
    ("int of floats", "seed=int(1.0,2.0)", ["seed=1", "seed=2"]),
    ("float of a range", "beta=float(range(0,2))", ["beta=0.0", "beta=1.0"]),
    ("str of a choice", "name=str(choice(a,b))", ["name=a", "name=b"]),
    ("bool", "evaluation.greedy=bool(1,0)", ["evaluation.greedy=True", "evaluation.greedy=False"]),
    ("glob", "prompt=glob(reasoning*)", ["prompt=reasoning_answer", "prompt=reasoning_summary"]),
    ("glob without", "prompt=glob(*,exclude=[reas*,think*])", ["prompt=boxed", "prompt=plain"]),
    ("glob of several", "prompt=glob([box*,pl*])", ["prompt=boxed", "prompt=plain"]),
    ("dictionaries", "rewards.graded={exact:2},{exact:3}", ["rewards.graded={exact:2}", "rewards.graded={exact:3}"]),
    ("lists", "trainer.loss_type=grpo,bnpo", ["trainer.loss_type=grpo", "trainer.loss_type=bnpo"]),
    ("lists of lists", "tracking.tags=[a,b],[c]", ["tracking.tags=[a,b]", "tracking.tags=[c]"]),
    ("a step's key", "pipeline.steps.sft.set.max_steps=5,6",
     ["pipeline.steps.sft.set.max_steps=5", "pipeline.steps.sft.set.max_steps=6"]),
    ("++", "++beta=0,0.1", ["++beta=0", "++beta=0.1"]),
    ("+", "+trainer.adam_beta1=0.8,0.9", ["+trainer.adam_beta1=0.8", "+trainer.adam_beta1=0.9"]),
    ("a list of committees", "rewards=[strict,graded],dapo", ["rewards=[strict,graded]", "rewards=dapo"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("override", "expected"), [pytest.param(text, found, id=name) for name, text, found in SWEEPS]
)
def test_a_sweep_form_becomes_its_members(override: str, expected: list[str]) -> None:
    assert [line[-1] for line in expanded([override])] == expected


@pytest.mark.parametrize(
    "override",
    ["seed=shuffle(1,2,3)", "seed=shuffle(range(1,4))", "seed=shuffle(list=[1,2,3])", "seed=shuffle(choice(1,2,3))"],
)  # fmt: skip
def test_shuffled_values_are_all_run(override: str) -> None:
    if "list=" in override:  # a list that is shuffled is one value
        with pytest.raises(Refused, match="seed="):
            members(override)
        return
    assert sorted(line[-1] for line in expanded([override])) == ["seed=1", "seed=2", "seed=3"]


def test_two_sweeps_multiply() -> None:
    assert expanded(["seed=1,2", "beta=0,0.1"]) == [
        ("seed=1", "beta=0"), ("seed=1", "beta=0.1"), ("seed=2", "beta=0"), ("seed=2", "beta=0.1"),
    ]  # fmt: skip


SINGLE = [
    ("an integer", "seed=3", ("seed", 3)),
    ("a float", "beta=1e-2", ("beta", 0.01)),
    ("a truth value", "evaluation.greedy=false", ("evaluation.greedy", False)),
    ("null", "evaluation.num_problems=null", ("evaluation.num_problems", None)),
    ("plain text", "name=some_name", ("name", "some_name")),
    ("text with spaces inside", "name=two words", ("name", "two words")),
    ("quoted text", "name='a, b'", ("name", "a, b")),
    ("text in double quotes", 'name="a = b"', ("name", "a = b")),
    ("an escaped character", r"name=a\,b", ("name", "a,b")),
    ("text that is not ASCII", "name=中文", ("name", "中文")),
    ("accents", "name=évaluation-1", ("name", "évaluation-1")),
    ("quoted text that is not ASCII", "name='中 文'", ("name", "中 文")),
    ("empty text", "prompt.system=", ("prompt.system", "")),
    ("quoted empty text", "prompt.system=''", ("prompt.system", "")),
    ("a list", "tracking.wandb.tags=[a,b]", ("tracking.wandb.tags", ["a", "b"])),
    ("a dictionary", "model.rows_per_device={sft: 8, rl: 4}", ("model.rows_per_device.sft", 8)),
    ("a nested key", "model.lora.r=4", ("model.lora.r", 4)),
    ("an interpolation", "dataset.seed=${seed}", ("dataset.seed", 1)),
    ("an environment variable as a number", "seed=${oc.env:SEED_OF_A_TEST}", ("seed", 7)),
    ("with a default", "seed=${oc.env:NO_SUCH_VARIABLE,5}", ("seed", 5)),
    ("within a text", "name=run-${oc.env:SEED_OF_A_TEST}", ("name", "run-7")),
    ("adding with +", "+trainer.adam_beta1=0.8", ("trainer.adam_beta1", 0.8)),
    ("adding or changing with ++", "++seed=4", ("seed", 4)),
    ("a cast", "seed=int(3.0)", ("seed", 3)),
    ("a mapping of one's own with +", "+rewards.other={kind: strict, style: plain}", ("rewards.other.kind", "strict")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("override", "expected"), [pytest.param(text, found, id=name) for name, text, found in SINGLE]
)
def test_a_form_of_one_value(
    override: str, expected: tuple[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEED_OF_A_TEST", "7")
    (member,) = members(override, is_multirun=False)
    step = member.experiment.steps[-1]
    values = member.experiment.run if expected[0] == "name" else step.config
    found = values.model_dump(mode="json")
    for part in expected[0].split("."):
        found = found[part]
    assert found == expected[1]


def test_a_deletion_removes_a_member_of_the_committee() -> None:
    (member,) = members("~rewards.xml_count", is_multirun=False)
    assert set(member.experiment.steps[-1].config.rewards or {}) == {"graded"}
    (member,) = members("~rewards.xml_count.points=0.2", is_multirun=False)  # only if it has this value
    assert "xml_count" in (member.experiment.steps[-1].config.rewards or {})


def test_several_committees_are_merged() -> None:
    (member,) = members("rewards=[strict,graded]", is_multirun=False)
    assert {"strict", "graded"} <= set(member.experiment.steps[-1].config.rewards or {})


REFUSED = [
    ("an interval", "seed=interval(1,4)", "hydra/sweeper=basic runs listed values only"),
    ("a tagged interval", "beta=tag(log,interval(0.001,0.1))", "choose a sweeper that samples: hydra/sweeper=optuna"),
    ("an unknown function", "seed=uniform(1,2)", "Unknown function 'uniform'. Available: bool,choice"),
    ("a function of nothing it takes", "prompt=sort(glob(*))", "Glob is incompatible"),
    ("a glob of nothing", "prompt=glob(nothing*)", "matches no option"),
    ("a glob over a key", "seed=glob(*)", "seed is no config group"),
    ("an option that does not exist", "model=tiny,tini", "Did you mean model=tiny?"),
    ("a package of another place", "+prompt@other=plain", "other"),
    ("a package to be changed", "model@other=tiny", "Could not override"),
    ("+ of a key that exists", "+seed=2", "type seed=... without the +"),
    ("~ of a key that does not exist", "~nothing", "does not exist"),
    ("~ of another value", "~seed=9", "seed"),
    ("an open quote", "name='a", "cannot read the override"),
    ("a list for a group of one", "model=[tiny,hf]", "takes one option"),
    ("null for a group", "rewards=null", "name of an option"),
    ("a missing environment variable", "seed=${oc.env:NO_SUCH_VARIABLE}", "which is not set"),
    ("a key of a step that does not exist", "pipeline.steps.sfx.set.max_steps=1", "Did you mean sft?"),
    ("no value", "seed=", "seed"),
    ("a mistake in brackets", "tracking.tags=[a", "cannot read the override"),
    ("a folder of Hydra", "hydra.run.dir=somewhere", "paths.run=DIR"),
    ("a launcher of Hydra", "hydra/launcher=joblib", "type sweep.parallel=auto"),
    ("a launcher of Hydra for SLURM", "hydra/launcher=submitit_slurm", "type launcher=slurm"),
    ("an unknown launcher of Hydra", "hydra/launcher=ray", "sweep.parallel=auto for members side by side"),
    ("a setting of a launcher of Hydra", "hydra.launcher.n_jobs=3", "type sweep.parallel=3"),
    ("a sweeper that is not installed", "hydra/sweeper=nevergradd", "no such sweeper is installed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("override", "part"), [pytest.param(text, found, id=name) for name, text, found in REFUSED]
)
def test_a_form_that_cannot_work_is_refused(
    override: str,
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "-m", override]) == 2
    message = capsys.readouterr().err
    assert part in message
    assert "Traceback" not in message
