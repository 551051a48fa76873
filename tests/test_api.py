"""The Python interface: the same checks, plan and results as the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import r1exp
from r1exp.__main__ import main

FAST = ["debug=fast", "tracking=none", "launcher.threads_per_process=1"]


def test_importing_and_composing_does_not_import_torch() -> None:
    code = "import sys, r1exp; r1exp.compose('beta=0.01').plan(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_composed_run_has_the_composed_values_and_cannot_be_changed() -> None:
    run = r1exp.compose("rewards=vote_partial", "beta=0.01")
    assert [step.name for step in run.steps][-2:] == ["rl", "evaluate-post-grpo"]
    rl = run.steps[3]
    assert rl.config.rewards is not None and "vote_partial" in rl.config.rewards
    assert rl.trainer_args["beta"] == 0.01
    with pytest.raises(ValueError, match="frozen"):
        rl.config.beta = 0.5  # type: ignore[misc]  # what is tested


def test_the_plan_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "beta=0.01"]) == 0
    assert r1exp.compose("beta=0.01").plan() == capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(["betta=1"], "Did you mean beta", id="misspelt key"),
        pytest.param(["seed=1,2"], "compose makes one run", id="several values"),
    ],
)
def test_a_mistake_is_refused_as_on_the_command_line(overrides: list[str], message: str) -> None:
    with pytest.raises(r1exp.Refused, match=message):
        r1exp.compose(*overrides)


def test_options_of_a_folder_are_found(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nbeta: 0.25\n")
    assert r1exp.compose("experiment=mine", config_dirs=[tmp_path]).steps[3].config.beta == 0.25
    search_path = f"hydra.searchpath=[file://{tmp_path}]"
    assert r1exp.compose("experiment=mine", search_path).steps[3].config.beta == 0.25


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(r1exp.Refused, match="not the directory of a run"):
        r1exp.open_run(tmp_path)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'composse'"):
        r1exp.composse  # noqa: B018 - the access is what is tested


@pytest.mark.slow
def test_a_run_from_python_gives_its_results_as_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = r1exp.compose(*FAST, "evaluation.before=false").run()
    run = r1exp.open_run(ran.folder)
    assert run.state == "done"
    assert list(run.scores["label"]) == ["post_sft", "post_sft", "post_grpo", "post_grpo"]
    last = run.scores[run.scores["mode"] == "sampled"].iloc[-1]
    assert run.objective == last["value"]
    metrics = run.metrics
    rl = metrics[metrics["step"] == "rl"]
    assert list(rl[rl["kl"].notna()]["global_step"]) == [1, 2]
    answers = run.completions
    assert len(answers) == 2 * 2 * 16  # two evaluations, sampled and greedy, of 16 problems
    greedy = answers[(answers["label"] == "post_grpo") & (answers["mode"] == "greedy")]
    assert greedy["correct"].mean() == run.summary["post_grpo_accuracy"]["greedy"]["value"]
    assert (run.paths("rl").artifact / "config.json").is_file()
    assert os.listdir(tmp_path) == ["runs"]  # noqa: PTH208 - nothing else is left behind
