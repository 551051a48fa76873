"""The plan of a run, and of a sweep, as one screen."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from r1exp.assets import CONF, SWEEPS
from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.plan.devices import given_hardware
from r1exp.plan.durations import as_clock
from r1exp.plan.screen import HEIGHT, WIDTH, screen_of
from r1exp.plan.show import plan_text
from r1exp.plan.steps import planned_steps
from r1exp.stage.step import Step
from r1exp.step.status import Status

H100 = given_hardware("h100", "8")
ON_GIVEN_PAIRS = ("dpo_preferences", "rlhf_preferences")  # shown by the experiments with ultrafeedback
SHIPPED = [
    *(
        f"pipeline={file.stem}"
        for file in sorted((CONF / "pipeline").glob("*.yaml"))
        if file.stem not in ("none", *ON_GIVEN_PAIRS)
    ),
    *(f"experiment={file.stem}" for file in sorted((CONF / "experiment").glob("*.yaml"))),
]
# Their focus step is no RL.
WITHOUT_RL = (
    *(f"pipeline={name}" for name in ("limo_sft", "limo_sft_twin", "sft_distil", "sft_rft")),
    *(f"experiment={name}" for name in ("gemma2_limo_sft", "limo_sft_twin")),
)
GPU = ("launcher=zero3", "launcher.num_processes=8", "rollout=vllm_colocate")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fits(text: str) -> bool:
    """Whether a plan has one screen; one of more than ten steps may have three lines for each further one."""
    lines = text.splitlines()
    num_steps = sum(re.match(r"\s*\d+  \S", line) is not None for line in lines)
    height = HEIGHT + 3 * (num_steps - 9 if num_steps > 10 else 0)
    return len(lines) <= height and HEIGHT < 40 and max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize("choice", SHIPPED)
def test_every_shipped_pipeline_and_experiment_fits_on_one_screen(choice: str) -> None:
    typed = [
        "seed=1",
        "name=fits",
        *([] if choice in WITHOUT_RL else ["beta=0.01"]),
        "debug=fast",
        "evaluation.samples=2",
        "learning_rate=0.001",
        *(GPU[:2] if choice == "pipeline=sft_distil" else GPU),  # its student samples with transformers
    ]
    assert fits(plan_text([choice, *typed], given=H100))


@pytest.mark.slow
@pytest.mark.parametrize("choice", SHIPPED)
def test_every_shipped_pipeline_and_experiment_fits_on_one_screen_as_it_is(choice: str) -> None:
    assert fits(plan_text([choice]))


SWEPT = {"limo_sft_first": ["experiment=gemma2_limo_sft_grpo"]}  # sweep -> the experiment that it varies


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(file.stem for file in SWEEPS.glob("*.yaml")))
def test_every_shipped_sweep_fits_on_one_screen(name: str) -> None:
    text = plan_text([f"sweeps={name}", *SWEPT.get(name, [])])
    assert fits(text)
    assert re.search("runs[,;]", text.splitlines()[0])
    assert " times for " in text or "once for all" in text or name in SWEPT
    assert ("some runs have other steps" in text) == (name in ("algorithms", "critic", "race_of_algorithms"))


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def test_the_screen_says_what_runs_on_what_and_what_was_typed() -> None:
    text = plan_text(
        ["rewards=vote_partial", "beta=0.01", "launcher=ddp", "pipeline.steps.sft.set.max_steps=100"]
    )
    assert text.splitlines()[0].startswith(
        "quickstart: tiny (0.6 M) on arithmetic; sft, then rl; 2 processes (ddp) on "
    )
    assert line_of(text, "rewards=vote_partial").split() == ["rewards=vote_partial", "rl", "graded"]
    assert line_of(text, "beta=0.01").split() == ["beta=0.01", "rl", "0.005"]
    assert line_of(text, "launcher=ddp").split() == ["launcher=ddp", "every", "step", "auto"]
    assert line_of(text, "pipeline.steps").split()[1:] == ["sft", "150"]
    assert "32 prompts x 8 = 256" in line_of(text, "4  rl (focus)") and "(2 ranks x 128)" in text
    assert line_of(text, "rewards  ").split(maxsplit=1)[1] == "vote_partial 1 + format 1; logged only: strict"
    assert "tokens: " in line_of(text, "prompt")
    assert line_of(text, "odd").split() == ["odd", "nothing"]


def test_a_mapping_that_sets_a_step_is_shown_with_the_step_and_chooses_its_rewards() -> None:
    text = plan_text(
        ["rewards=strict", "pipeline.steps.rl={use:{stage:rl,rewards:vote_partial},set:{beta:0.3}}"]
    )
    assert " rl " in line_of(text, "pipeline.steps.rl={")
    assert "vote_partial 1" in line_of(text, "rewards ")


@pytest.mark.parametrize(
    ("arguments", "key", "was"),
    [
        pytest.param(["learning_rate=1e-3"], "learning_rate", "0.0002", id="an interpolation is resolved"),
        pytest.param(["experiment=gemma2_gsm8k_vote", "beta=0.1"], "beta", "0.005", id="of an experiment"),
        pytest.param(["experiment=gemma2_gsm8k_vote", "model=tiny"], "model", "gemma-2-2b-it", id="option of an experiment"),
        pytest.param(["pipeline=rlhf_ppo", "algorithm=grpo"], "algorithm", "ppo", id="option of a pipeline's step"),
        pytest.param(["experiment=qwen2.5_gsm8k", "model=tiny"], "model", "qwen2.5-0.5b", id="option of a pipeline's experiment"),
        pytest.param(["name=mine"], "name", "quickstart", id="of the run"),
        pytest.param(["+rewards.x={kind: strict, weight: 0, style: think_answer}"], "+rewards.x", "-", id="a new key"),
    ],
)  # fmt: skip
def test_the_screen_says_what_applied_before(arguments: list[str], key: str, was: str) -> None:
    line = line_of(plan_text(arguments), f"{key}=" if key != "+rewards.x" else key)
    assert line.split()[-1] == was


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["device=h100", "devices=8"], "8 devices and 1 process, so that some stay unused: type launcher=zero2 launcher.num_processes=8", id="unused"),
        pytest.param(["device=h100", "devices=8", "launcher=ddp"], "nothing", id="all of them"),
        pytest.param(["device=h100", "devices=4", "launcher=ddp", "launcher.num_processes=2", "rollout=vllm_server"], "nothing", id="3 ranks do not divide the batch"),
        pytest.param(["model=qwen2.5-1.5b"], "type device=h100 devices=8", id="a large model on a CPU"),
        pytest.param(["device=l4", "model=qwen2.5-1.5b", "rollout.batch_size=4"], "launcher=zero3 with more processes", id="states too large"),
        pytest.param(["device=4GB", "model.rows_per_device.rl=256", "max_completion_length=1500"], "model.rows_per_device.rl=32", id="passes too large"),
        pytest.param(["trainer.num_iterations=2"], "off-policy: 2 optimizer steps", id="off-policy"),
        pytest.param(["launcher=ddp", "launcher.num_processes=4", "algorithm.prompts_per_step=2"], "split across ranks", id="groups"),
        pytest.param(["dataset.num_train=70"], "each epoch drops 6 of 70", id="dropped"),
        pytest.param(["rewards=vote_partial", "rewards.vote_partial.scope=group_shared"], "adds nothing to GRPO's", id="constant"),
    ],
)  # fmt: skip
def test_the_screen_says_what_is_odd(arguments: list[str], said: str) -> None:
    words = dict(text.split("=") for text in arguments if text.startswith("device"))
    overrides = ["stage=rl", *(text for text in arguments if not text.startswith("device"))]
    given = given_hardware(words.get("device"), words.get("devices"))
    text = " ".join(plan_text(overrides, given=given).split())
    assert said in text.partition(" odd ")[2]


def test_memory_is_compared_with_the_given_card_and_known_without_the_data() -> None:
    text = plan_text(["experiment=gemma2_gsm8k_vote"], given=given_hardware("h100", "1"))
    assert "h100 has 85.5 GB (79.6 GiB)" in text
    assert "GB ~ (" in line_of(text, "2  grpo") and "prompts of 512 tokens assumed" in text


def test_given_cards_do_not_change_the_keys_of_steps(compose_line: Callable[..., Experiment]) -> None:
    here, there = (planned_steps(compose_line(*more)) for more in ((), ("launcher.device=cuda",)))
    assert [step.key for step in here] == [step.key for step in there]
    assert "launcher.device" not in plan_text(["beta=0.01"], given=H100)


def write_finished(folder: Path, name: str, key: str, step: Step, seconds: float) -> None:
    path = folder / "runs" / ".store" / "steps" / f"{key}-variant"
    path.mkdir(parents=True)
    step.model_copy(update={"name": name, "run_id": "12-00-00-earlier"}).write(path)
    Status(state="done", seconds=seconds).write(path)


def test_time_comes_from_earlier_steps_of_the_same_kind_and_is_else_unknown(
    frozen: Callable[..., Step], compose_line: Callable[..., Experiment], tmp_path: Path
) -> None:
    def time_of(*overrides: str) -> str:
        experiment = compose_line(
            "stage=sft", "launcher=local", "evaluation.before=false", "evaluation.after=false", *overrides
        )
        return line_of(screen_of(experiment, planned_steps(experiment)), "1  sft").rpartition(")")[2].strip()

    assert time_of() == "?"
    earlier = frozen("stage=sft", "max_steps=100")
    write_finished(tmp_path, "sft", earlier.key, earlier, 90.0)
    assert time_of("max_steps=100", "seed=7", "learning_rate=0.1") == "1:30"
    assert time_of("max_steps=200") == "~3:00"  # scaled
    assert time_of("max_steps=1000") == "?"  # too far from it
    assert time_of("max_steps=100", "stage.rows_per_step=128") == "?"  # other work
    experiment = compose_line(
        "stage=sft", "launcher=local", "evaluation.before=false", "evaluation.after=false", "max_steps=100"
    )
    text = screen_of(experiment, planned_steps(experiment))
    assert "reused (1:30)" in text and "reused from 12-00-00-earlier" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.6, "0:09"), (750.0, "12:30"), (7500.0, "2:05:00"), (59.7, "1:00")]
)
def test_seconds_are_shown_as_on_a_clock(seconds: float, text: str) -> None:
    assert as_clock(seconds) == text


def test_a_step_of_another_version_in_the_store_is_no_evidence(
    compose_line: Callable[..., Experiment], tmp_path: Path
) -> None:
    path = tmp_path / "runs" / ".store" / "steps" / "old"
    path.mkdir(parents=True)
    (path / "status.json").write_text('{"state": "finished"}', encoding="utf-8")
    experiment = compose_line()
    assert "no earlier run to tell" in screen_of(experiment, planned_steps(experiment))


def test_a_sweep_says_what_is_computed_once() -> None:
    text = plan_text(["beta=0,0.01", "seed=1,2"], is_multirun=True)
    assert text.startswith("quickstart: 4 runs, 20 steps, 14 of them different")
    assert line_of(text, "beta=0,0.01").split() == ["beta=0,0.01", "rl", "0.005"]
    assert "2 times for 4 runs" in line_of(text, "2  sft")
    assert "4 times" in line_of(text, "4  rl")
    assert "once for all" in plan_text(["stage=rl", "beta=0,0.01"], is_multirun=True)
    assert line_of(text, "3  beta=0.01 seed=2")


def test_a_prompt_that_the_chat_template_refuses_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    (model / "model.safetensors").touch()
    template = "{{ raise_exception('no turns at all') }}"
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}), encoding="utf-8")
    with pytest.raises(Refused, match="chat template"):
        plan_text(["stage=rl", "model=hf", f"model.path={model}"])


def widest(lines: Sequence[str]) -> int:
    return max(len(line) for line in lines)


def test_the_full_plan_is_not_wider_than_a_terminal_and_its_files_are_what_is_written() -> None:
    text = plan_text(["launcher=zero3", "rewards=vote_partial"], view="full")
    assert widest(text.splitlines()) <= WIDTH
    assert "{{" not in text
    assert "groups are split" in plan_text(
        ["stage=rl", "launcher=ddp", "launcher.num_processes=4", "algorithm.prompts_per_step=2"], view="full"
    )
    launch = plan_text(["stage=rl", "launcher=zero3"], view="launch")
    _, _, rest = launch.partition("deepspeed.json:\n")
    content = json.loads(rest.partition("accelerate.yaml:")[0])
    assert content["zero_optimization"]["stage"] == 3
    assert "Configuration" not in launch


def test_the_screen_says_what_this_machine_lacks_and_not_for_other_hardware() -> None:
    endpoint = [
        "stage=evaluate",
        "rollout=endpoint",
        "rollout.model=x",
        "rollout.api_key_env=R1EXP_TEST_NO_KEY",
    ]
    assert "r1exp would not start here: rollout.api_key_env=R1EXP_TEST_NO_KEY" in plan_text(endpoint)
    assert "would not start" not in plan_text(endpoint, given=H100)
