"""Misspelt or ill-typed overrides are refused with exit code 2 and the right name, and nothing is written."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.config.compose import groups, session
from r1exp.config.experiment import experiment_from
from r1exp.config.overrides import flat, quote

MUTATIONS = ("dropped", "doubled", "swapped")
ROUTES = ("plain", "+", "++", "yaml")


def mutated(key: str, mutation: str) -> str:
    """Change the middle letter of the last segment of a key."""
    head, _, last = key.rpartition(".")
    middle = len(last) // 2
    if mutation == "dropped":
        changed = last[:middle] + last[middle + 1 :]
    elif mutation == "doubled":
        changed = last[:middle] + last[middle] + last[middle:]
    else:
        index = next(
            (i for i in (*range(middle, len(last) - 1), *range(middle)) if last[i] != last[i + 1]), 0
        )
        changed = last[:index] + last[index + 1 : index + 2] + last[index : index + 1] + last[index + 2 :]
    return f"{head}.{changed}" if head else changed


def leaf_keys() -> dict[str, object]:
    with session():
        return flat(experiment_from([]).composition.values)


LEAVES = leaf_keys()
LEGAL = set(LEAVES)  # a mutation may result in another key that exists


def cases() -> Iterator[tuple[str, str, str]]:
    """Yield key x route x mutation. One of the twelve per key, in turn, is unmarked; the others are marked `matrix`."""
    for number, key in enumerate(LEAVES):
        for turn, (route, mutation) in enumerate(product(ROUTES, MUTATIONS)):
            wrong = mutated(key, mutation)
            if wrong not in LEGAL and wrong.rpartition(".")[2]:
                mark = () if number % 12 == turn else (pytest.mark.matrix,)
                yield pytest.param(key, wrong, route, marks=mark, id=f"{key}-{mutation}-{route}")  # type: ignore[misc]


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    before = sorted(folder.rglob("*"))
    assert main(arguments) == 2
    assert sorted(folder.rglob("*")) == before
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def arguments_with(wrong: str, route: str, folder: Path) -> list[str]:
    if route != "yaml":
        return [f"{'' if route == 'plain' else route}{wrong}=1"]
    (folder / "experiment").mkdir()
    nested = "".join(f"{'  ' * depth}{part}:\n" for depth, part in enumerate(wrong.split(".")))
    (folder / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{nested[:-1]} 1\n")
    return [f"--config-dir={folder}", "experiment=mine"]


suggested: dict[str, bool] = {}


@pytest.mark.parametrize(("key", "wrong", "route"), list(cases()))
def test_a_misspelt_key_is_refused_with_the_right_name(
    key: str,
    wrong: str,
    route: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(["plan", *arguments_with(wrong, route, tmp_path)], capsys, tmp_path)
    suggested[f"{wrong} {route}"] = key.rpartition(".")[2] in re.split(r"[^\w]+", message)


def test_at_most_5_percent_of_the_misspelt_keys_got_a_wrong_suggestion() -> None:
    missed = [case for case, hit in suggested.items() if not hit]
    assert len(missed) <= 0.05 * len(suggested), missed


def group_cases() -> Iterator[tuple[str, str]]:
    with session():
        everything = {name: list(options) for name, options in groups().items()}
    for group, options in everything.items():
        for option in options:
            for mutation in MUTATIONS:
                wrong = mutated(option.replace(".", "~"), mutation).replace("~", ".")
                if wrong not in options and wrong:
                    yield pytest.param(group, option, wrong, id=f"{group}={wrong}")  # type: ignore[misc]


@pytest.mark.parametrize(("group", "option", "wrong"), list(group_cases()))
def test_a_misspelt_option_is_refused_with_the_right_name(
    group: str,
    option: str,
    wrong: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert option in refusal(["plan", f"{group}={wrong}"], capsys, tmp_path)


def test_no_correct_key_is_refused() -> None:
    # Pipelines are files; their values are typed as pipeline.steps.NAME.set.KEY, which test_experiment.py tests.
    typed = [f"{key}={quote(value)}" for key, value in LEAVES.items() if not key.startswith("pipeline")]
    with session():
        together = experiment_from(typed)
        assert together.run.model_dump() == experiment_from([]).run.model_dump()


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        pytest.param("seed=abc", "integer", id="text for an integer"),
        pytest.param("learning_rate=fast", "number", id="text for a number"),
        pytest.param("max_steps=-1", "greater than 0", id="negative"),
        pytest.param("max_steps=0", "greater than 0", id="zero steps"),
        pytest.param("learning_rate=0", "greater than 0", id="a learning rate of zero"),
        pytest.param("beta=-0.1", "greater than or equal to 0", id="a negative beta"),
        pytest.param("beta=nan", "finite", id="NaN"),
        pytest.param("learning_rate=inf", "finite", id="infinite"),
        pytest.param("num_generations=true", "integer", id="true for an integer"),
        pytest.param("num_generations=2.5", "integer", id="2.5 for an integer"),
        pytest.param("num_generations=1", "needs at least 2", id="one completion per group"),
        pytest.param("seed=10.0", "integer", id="10.0 for an integer"),
        pytest.param("model.lora.r=-1", "greater than or equal to 0", id="a negative rank"),
        pytest.param("launcher=local launcher.num_processes=2", "1", id="two processes of launcher=local"),
        pytest.param("rewards.graded.weight=-1", "greater than or equal to 0", id="a negative weight"),
        pytest.param("trainer.epsilon=much", "takes float", id="text for a trainer's number"),
        pytest.param("trainer.lr_scheduler_type=cosinus", "cosine", id="an unknown scheduler"),
        pytest.param(
            "trainer.learning_rate=1e-5", "set learning_rate", id="a trainer argument with an owner"
        ),
        pytest.param("name=null", "string", id="no name"),
        pytest.param("num_generations=7 max_steps=two", "max_steps", id="the wrong one of two"),
    ],
)
def test_an_ill_typed_value_is_refused(
    overrides: str,
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert part in refusal(overrides.split(), capsys, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        pytest.param(["pln"], "Did you mean plan", id="a misspelt verb"),
        pytest.param(["stage=sft", "pipeline=sft_grpo"], "one of the two", id="stage and pipeline"),
        pytest.param(["pipeline=none"], "nothing to run", id="neither"),
        pytest.param(["stage=sft", "beta=0.1"], "does not read beta", id="a field the stage does not read"),
        pytest.param(["seed=1,2"], "put -m", id="a sweep without -m"),
        pytest.param(
            ["+rewards.mine={kind: 'json:dumps', wieght: 1}"],
            "rewards.mine.weight",
            id="a key of the user's own reward",
        ),
        pytest.param(
            [
                "rewards=vote_partial",
                "rewards.vote_partial.scope=group",
                "rewards.vote_partial.confidence=true",
            ],
            "log-probabilities",
            id="confidence votes without log-probabilities",
        ),
        pytest.param(
            ["algorithm=dpo", "trainer.loss_type=[sigmoid]", "trainer.loss_weights=[1.0,10.0]"],
            "give each loss a weight",
            id="a loss without a weight",
        ),
        pytest.param(
            ["algorithm=dpo", "pipeline.steps.dpo.set.trainer.label_smoothing=0.1"],
            "has no effect with",
            id="label smoothing that no loss reads",
        ),
        pytest.param(
            ["+rewards.x.kind=tag_count"],
            "rewards.x.style: has no value; give one: rewards.x.style=... (rewards.graded.style is think_answer)",
            id="a required field of a new reward",
        ),
        pytest.param(["+rewards.x.kind=tag_cuont"], "Did you mean tag_count?", id="a misspelt kind"),
        pytest.param(
            ["+rewards.x={kind: length, judged_by: gradd}"],
            "judged_by=gradd must name a member",
            id="a judge that is no member",
        ),
        pytest.param(["~rewards.graded.kind"], "rewards.graded: has no kind", id="a reward without its kind"),
        pytest.param(["tracking.wandb.kind=wandbb"], "Did you mean wandb?", id="a misspelt kind of a union"),
        pytest.param(["model.dtype=bf16"], "Did you mean bfloat16?", id="a misspelt choice"),
        pytest.param(
            ["+health.rules.mine.metric=kl"], "health.rules.mine.window: has no value", id="a rule's field"
        ),
        pytest.param(
            ["+health.rules.kl_hgh.above=1"],
            "kl_hgh.above: there is no such key. Did you mean health.rules.kl_high.above? A new entry needs "
            "health.rules.kl_hgh.metric.",
            id="a misspelt rule, in one line",
        ),
        pytest.param(
            ["rollout=vllm_server", "rollout.staleness=1"],
            "rollout.staleness: rollout=vllm_server has no such key: completions are sampled ahead in a process of their own",
            id="a setting that vLLM cannot have",
        ),
        pytest.param(
            ["trainer.max_tool_calling_iterations=3"], "has no effect", id="an argument that does nothing"
        ),
        pytest.param(["trainer.eval_steps=10"], "set evaluation.*", id="evaluation by TRL"),
        pytest.param(
            ["trainer.sapo_temperature_neg=1.0"],
            "only with trainer.loss_type=sapo",
            id="an argument of another loss",
        ),
        pytest.param(
            ["trainer.loss_type=cispo"], "type trainer.epsilon_high=5.0", id="CISPO without a bound"
        ),
        pytest.param(
            ["trainer.loss_type=cispo", "trainer.epsilon_high=0.28"],
            "not a distance from 1",
            id="CISPO with the bound of a ratio's distance",
        ),
        pytest.param(
            ["trainer.use_transformers_continuous_batching=true"],
            "convert the weights that are trained",
            id="weights converted by continuous batching",
        ),
        pytest.param(["trainer.save_strategy=best"], "set trainer.save_steps", id="saving the best"),
        pytest.param(["--multi"], "no such option", id="an unknown flag"),
        pytest.param(["model=hf"], "model.path", id="a model without a path"),
        pytest.param(
            ["model.path=/nowhere/at/all"], "no such folder", id="a model folder that does not exist"
        ),
        pytest.param(["dataset=jsonl"], "dataset.path", id="a data set without a path"),
        pytest.param(
            ["dataset=jsonl", "dataset.path=nowhere.jsonl"], "nowhere.jsonl", id="a file that does not exist"
        ),
        pytest.param(["dataset.num_train=8"], "fewer than", id="too little data"),
        pytest.param(
            ["launcher=ddp", "launcher.num_processes=3"], "share equally", id="a batch that does not divide"
        ),
        pytest.param(["-m", "seed=1,x"], "seed", id="one bad member of a sweep"),
        pytest.param(["--config-dir=/nowhere"], "no such folder", id="a config folder that does not exist"),
        pytest.param(
            ["paths.runs=/proc/nowhere"], "cannot be written", id="an output folder that cannot be written"
        ),
    ],
)
def test_a_request_that_cannot_work_is_refused_before_anything_is_written(
    arguments: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert part in refusal(arguments, capsys, tmp_path)


def test_a_refusal_is_quick(tmp_path: Path) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "r1exp", "bta=0.1"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert done.stderr == "r1exp: bta: there is no such key. Did you mean beta?\n"
    assert time.monotonic() - started < 10  # takes 2 s on an idle machine
