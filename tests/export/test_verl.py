"""A run that is written for verl: the settings, what has no counterpart, and the same rewards in verl's own processes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from r1exp.__main__ import main
from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.export.verl import Cluster, export
from r1exp.export.verl_reward import compute_score
from r1exp.model.tiny import build_tiny
from r1exp.plan.steps import planned_steps
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context
from r1exp.rewards.committee import Committee

VERL = Path(__file__).parents[2] / ".venv" / "verl" / "bin" / "python"
ROOT = Path(__file__).parents[2]
DATA = ["stage=rl", "tracking=none", "dataset.num_train=400"]
LINE = [*DATA, "model=hf", "trainer.lr_scheduler_type=constant"]

Exported = Callable[..., Path]


@pytest.fixture
def exported(compose_line: Callable[..., Experiment], tmp_path: Path) -> Exported:
    """Write a run with a small model in a folder, and return where."""

    def write(*overrides: str) -> Path:
        model = tmp_path / "model"
        if not model.exists():
            build_tiny(compose_line("stage=rl").run.model, model)
        experiment = compose_line(*LINE, f"model.path={model}", *overrides)
        (step,) = [step for step in planned_steps(experiment) if step.name == experiment.focus]
        export(step, experiment.name, tmp_path / "out", Cluster(nodes=2, devices=4))
        return tmp_path / "out"

    return write


def settings(folder: Path) -> dict[str, str]:
    """Return verl's settings in the command of an export."""
    lines = (folder / "run.sh").read_text().replace("\\\n", " ").splitlines()[-1].split()
    return dict(word.strip("'").lstrip("+").split("=", 1) for word in lines if "=" in word)


def test_the_settings_of_grpo_are_verl_s(exported: Exported) -> None:
    found = settings(exported("beta=0.01", "num_generations=4", "algorithm.minibatches=2", "max_steps=20"))
    expected = {
        "algorithm.adv_estimator": "grpo",
        "algorithm.norm_adv_by_std_in_grpo": "True",
        "data.train_batch_size": "64",
        "actor_rollout_ref.actor.ppo_mini_batch_size": "32",
        "actor_rollout_ref.rollout.n": "4",
        "actor_rollout_ref.actor.loss_agg_mode": "seq-mean-token-mean",
        "actor_rollout_ref.actor.kl_loss_coef": "0.01",
        "actor_rollout_ref.actor.use_kl_loss": "True",
        "actor_rollout_ref.rollout.top_k": "-1",
        "trainer.total_training_steps": "10",
        "actor_rollout_ref.actor.optim.lr_warmup_steps": "5",
        "trainer.nnodes": "2",
        "trainer.n_gpus_per_node": "4",
    }
    assert {key: found.get(key) for key in expected} == expected


def test_each_algorithm_has_its_own_settings(exported: Exported, tmp_path: Path) -> None:
    found = settings(exported("algorithm=ppo", "beta=0.02"))
    assert (found["algorithm.adv_estimator"], found["algorithm.lam"]) == ("gae", "0.95")
    assert (found["algorithm.use_kl_in_reward"], found["algorithm.kl_ctrl.kl_coef"]) == ("True", "0.02")
    (tmp_path / "out").rename(tmp_path / "ppo")
    found = settings(exported("algorithm=gspo"))
    assert found["actor_rollout_ref.actor.policy_loss.loss_mode"] == "gspo"
    assert found["actor_rollout_ref.actor.clip_ratio_high"] == "0.0004"
    (tmp_path / "out").rename(tmp_path / "gspo")
    found = settings(exported("algorithm=dr_grpo", "max_completion_length=32"))
    assert found["actor_rollout_ref.actor.loss_scale_factor"] == "32"
    assert found["algorithm.norm_adv_by_std_in_grpo"] == "False"
    (tmp_path / "out").rename(tmp_path / "dr_grpo")
    found = settings(exported("algorithm=dapo", "~rewards.soft_overlong"))
    assert found["algorithm.filter_groups.max_num_gen_batches"] == "4"
    assert found["actor_rollout_ref.actor.clip_ratio_high"] == "0.28"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algorithm=rloo"], "rloo has no counterpart"),
        (["stage=sft"], "sft has no counterpart"),
        (["rewards=majority_vote"], r"rewards\.majority_vote needs the other completions"),
        (["algorithm=dapo"], r"rewards\.soft_overlong needs the number of tokens"),
        (["trainer.lr_scheduler_type=linear"], r"lr_scheduler_type=linear: verl has constant and cosine"),
        (["trainer.mask_truncated_completions=true"], "mask_truncated_completions"),
        (["algorithm=ppo", "algorithm.critic.kind=shared"], r"critic\.kind=shared"),
        (["algorithm.kl.target=0.1"], r"algorithm\.kl\.target"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(
    overrides: list[str], message: str, exported: Exported, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=message):
        exported(*overrides)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_exists_is_not_written_into(exported: Exported) -> None:
    exported()
    with pytest.raises(Refused, match="output=DIR"):
        exported()


@pytest.mark.parametrize("arguments", [[], ["verll"], ["verl", "devices=0"], ["verl", "stage=rl"]])
def test_the_verb_refuses_what_it_cannot_write(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", *arguments]) == 2
    assert list(tmp_path.iterdir()) == []


def answers_to(problems: list[Problem]) -> list[tuple[int, str]]:
    """Return completions of all kinds: right, wrong, without tags, in another form."""
    forms = (
        "<think>x</think>\n<answer>{}</answer>",
        "<think>x\n<answer>{}</answer>",
        "{}",
        "<think>x</think>\n<answer>{} apples</answer>",
        "<think>x</think>\n<answer>{}.0</answer> and more",
    )
    return [
        (number, forms[number % len(forms)].format(problem.answer if number % 3 else "7"))
        for number, problem in enumerate(problems)
    ]


def expected_scores(experiment: Experiment, answers: list[tuple[int, str]]) -> list[float | None]:
    problems = experiment.run.dataset.load("train")
    committee = Committee(experiment.run.rewards or {})
    _, totals = committee.totals(
        [problems[number] for number, _ in answers],
        [Completion(text, num_tokens=0) for _, text in answers],
        Context(),
    )
    committee.close()
    return totals


def test_the_reward_function_gives_the_committee_s_numbers(
    exported: Exported, compose_line: Callable[..., Experiment]
) -> None:
    folder = exported()
    rows = pq.read_table(folder / "train.parquet").to_pylist()
    experiment = compose_line(*DATA)
    answers = answers_to(list(experiment.run.dataset.load("train"))[:50])
    found = [
        compute_score(
            rows[number]["data_source"],
            text,
            rows[number]["reward_model"]["ground_truth"],
            rows[number]["extra_info"],
            committee=str(folder / "committee.json"),
        )
        for number, text in answers
    ]
    assert [each["score"] for each in found] == expected_scores(experiment, answers)
    assert {each["graded/abstained"] for each in found} == {0.0}


@pytest.mark.integration
@pytest.mark.skipif(not VERL.exists(), reason="needs verl in an environment of its own: make verl")
def test_verl_composes_the_settings_and_its_reward_manager_gives_the_same_numbers(
    exported: Exported, compose_line: Callable[..., Experiment], tmp_path: Path
) -> None:
    folder = exported()
    experiment = compose_line(*DATA)
    answers = answers_to(list(experiment.run.dataset.load("train"))[:200])
    files = [tmp_path / name for name in ("overrides.json", "answers.json", "scores.json")]
    words = (folder / "run.sh").read_text().replace("\\\n", " ").splitlines()[-1].split()[3:]
    files[0].write_text(json.dumps([word.strip("'") for word in words]))
    files[1].write_text(json.dumps(answers))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            str(tmp_path),
            str(ROOT),
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("r1exp-*.whl")
    subprocess.run(
        [str(VERL), "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", str(wheel)],
        check=True,
    )
    script = Path(__file__).with_name("verl_side.py")
    subprocess.run([str(VERL), str(script), *map(str, files)], check=True, cwd=tmp_path)
    found = json.loads(files[2].read_text())
    assert [each["total"] for each in found] == pytest.approx(expected_scores(experiment, answers))
    assert len(found) == 200
