"""benchmarks/claims.py on canned rows; its claims can be planned; docs/claims.md agrees with the results that are committed."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from r1exp.config.compose import session
from r1exp.plan.members import command_of, members_of

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "claims").glob("*.yaml"))


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "claims", raising=False)
    return importlib.import_module("claims")


def claim(claims: ModuleType, **given: Any) -> Any:
    return claims.Claim.model_validate(
        {
            "paper": "A paper", "arxiv": "2500.00001", "sentence": "it helps", "test": "with against without", "control": ["beta=0"],
            "treatment": ["beta=0.1"], "seeds": 3, "measure": "accuracy", "direction": "higher", "margin": 3.0, **given,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("direction", "low", "high", "expected"),
    [
        pytest.param("higher", 0.5, 9.0, "holds", id="above zero"),
        pytest.param("higher", 0.5, 2.0, "holds", id="above zero, less than the margin"),
        pytest.param("higher", -2.0, 2.0, "fails", id="no effect as large as the margin"),
        pytest.param("higher", -9.0, -5.0, "fails", id="the other way"),
        pytest.param("higher", -2.0, 9.0, "undecided", id="zero and more than the margin are possible"),
        pytest.param("lower", -9.0, -0.5, "holds", id="below zero"),
        pytest.param("lower", -2.0, 2.0, "fails", id="no fall as large as the margin"),
        pytest.param("lower", -9.0, 2.0, "undecided", id="zero and a large fall are possible"),
        pytest.param("not_lower", -2.9, 9.0, "holds", id="no loss as large as the margin"),
        pytest.param("not_lower", -9.0, -3.1, "fails", id="a loss larger than the margin"),
        pytest.param("not_lower", -9.0, 9.0, "undecided", id="a large loss is possible"),
    ],
)
def test_the_interval_and_the_margin_decide_the_verdict(
    claims: ModuleType, direction: str, low: float, high: float, expected: str
) -> None:
    assert claim(claims, direction=direction).verdict(low, high) == expected


def test_a_measure_that_does_not_exist_is_refused(claims: ModuleType) -> None:
    with pytest.raises(ValueError, match="measure: accurracy; give one of: accuracy, accuracy_gain"):
        claim(claims, measure="accurracy")


def test_the_difference_is_paired_by_seed(claims: ModuleType) -> None:
    arms = {"control": claims.Arm([10.0, 20.0, 30.0], 1.0), "treatment": claims.Arm([14.0, 25.0, 36.0], 2.0)}
    found = claims.result_of(claim(claims), arms)
    assert found["difference"] == pytest.approx(5.0)
    assert found["low"] == pytest.approx(
        5.0 - 4.302653 / 3**0.5
    )  # t with 2 degrees of freedom; standard deviation 1
    assert found["verdict"] == "holds"
    assert found["core_minutes"] == 3.0


def test_a_change_within_runs_needs_no_control(claims: ModuleType) -> None:
    alone = claim(claims, control=None, measure="entropy_change", direction="lower")
    found = claims.result_of(alone, {"treatment": claims.Arm([-1.0, -2.0, -3.0], 1.0)})
    assert found["difference"] == pytest.approx(-2.0)


@pytest.fixture
def step(tmp_path: Path) -> Path:
    evaluated = [
        {"step": at, f"eval/validation/{how}/accuracy": value}
        for at, values in ((0, (0.3, 0.6)), (6, (0.5, 0.65)))
        for how, value in zip(("sampled", "greedy"), values, strict=True)
    ]
    trained = [
        {"step": at, "entropy": 1.0 - 0.1 * at, "completions/mean_length": at, "groups_with_signal": 1.0 / at}
        for at in range(1, 7)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in evaluated + trained))
    kept = [
        {"step": at, "tokens": tokens, "rewards": {"strict": score}}
        for at, tokens, score in ((1, 99, 0.0), (6, 10, 0.0), (6, 12, 0.0), (6, 50, 2.0))
    ]
    (tmp_path / "completions").mkdir()
    (tmp_path / "completions" / "6.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in kept))
    return tmp_path


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        pytest.param("accuracy", 50.0, id="last evaluation"),
        pytest.param("accuracy_gain", 20.0, id="last less first"),
        pytest.param("sharpening", 15.0, id="gain in sampled less gain in greedy"),
        pytest.param("entropy", 0.45, id="last third"),
        pytest.param("entropy_change", -0.4, id="last third less first"),
        pytest.param("length_change", 4.0, id="length of the last third less the first"),
        pytest.param("signal_change", 100.0 * (11 / 60 - 0.75), id="groups with signal, in points"),
        pytest.param("wrong_length", 11.0, id="wrong answers of the last third"),
    ],
)
def test_a_step_gives_the_measure(claims: ModuleType, step: Path, measure: str, expected: float) -> None:
    assert claims.MEASURES[measure][1](step) == pytest.approx(expected)


def test_an_arm_is_a_sweep_over_the_seeds_and_adds_up_its_processor_time(
    claims: ModuleType, step: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed: list[list[str]] = []

    seconds = iter((60.0, 3.0))

    def run(words: list[str]) -> tuple[int, float]:
        typed.append(words[3:])
        place = Path(next(word for word in words if word.startswith("hydra.sweep.dir=")).partition("=")[2])
        for seed in range(3):
            steps = place / str(seed) / "steps"
            steps.mkdir(parents=True, exist_ok=True)
            if not (steps / "02-rl").exists():
                (steps / "01-sft").mkdir()
                (steps / "02-rl").symlink_to(step)
        return 0, next(seconds)

    monkeypatch.setattr(claims, "run_counted", run)
    for minutes in (1.0, 1.05):
        arm = claims.run_arm("a claim", ["beta=0"], claim(claims), tmp_path / "runs", 2)
        assert (arm.values, arm.core_minutes) == ([50.0] * 3, pytest.approx(minutes))
    assert typed[0][:4] == ["-m", "beta=0", "seed=1,2,3", "sweep.parallel=2"]


@pytest.mark.parametrize(("effect", "expected"), [(1.0, 10), (0.5, 34), (2.0, 5)])
def test_the_number_of_seeds_is_that_of_the_paired_t_test(
    claims: ModuleType, effect: float, expected: int
) -> None:
    assert claims.seeds_needed(3.0 / effect, 3.0) == expected


def test_the_contrasts_of_the_ablation_are_those_of_its_four_settings(claims: ModuleType) -> None:
    def found(control: list[float], treatment: list[float]) -> dict[str, Any]:
        return {"arms": {"control": {"values": control}, "treatment": {"values": treatment}}}

    text = claims.ablation(
        {
            "partial_credit": found([40.0, 42.0], [44.0, 46.0]),
            "partial_credit_after_sft": found([30.0, 32.0], [36.0, 38.0]),
        }
    )
    assert "| GRPO alone | 41.0 (sd 1.4; 40.0 to 42.0) | 45.0 (sd 1.4; 44.0 to 46.0) |" in text
    assert "| partial credit less strict, mean of both | +5.0 [+5.0, +5.0] points | 2 |" in text
    assert "| SFT first less GRPO alone, mean of both rewards | -9.0 [-9.0, -9.0] points | 2 |" in text
    assert "| what SFT first adds to the effect of partial credit | +2.0 [+2.0, +2.0] points | 2 |" in text


def test_the_page_has_the_results_that_are_committed(claims: ModuleType) -> None:
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert claims.with_tables(page) == page
    for name, result in claims.results().items():
        again = claims.result_of(
            claims.claim_of(name),
            {arm: claims.Arm(each["values"], each["core_minutes"]) for arm, each in result["arms"].items()},
        )
        numbers = ("difference", "low", "high")
        assert [again[key] for key in numbers] == pytest.approx([result[key] for key in numbers]), name
        assert again["core_minutes"] == pytest.approx(result["core_minutes"], abs=0.11), (
            name
        )  # sums of rounded numbers
        assert (again["verdict"], again["design"]) == (result["verdict"], result["design"]), name


@pytest.mark.parametrize("name", NAMES)
def test_a_claim_names_itself_in_its_line_to_try(name: str) -> None:
    head = (ROOT / "claims" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[:3]
    assert head[1].startswith("# Source: ")
    assert head[2] == f"#   make claims CLAIM={name}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_a_claim_can_be_planned(name: str, claims: ModuleType) -> None:
    found = claims.claim_of(name)
    for arm in found.arms().values():
        typed = claims.command(arm, 2)
        with session([], []):
            assert len(members_of(command_of(typed[1:], True))) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_processor_time_holds_processes_that_outlive_the_command() -> None:
    work = "import time\nwhile time.process_time() < 0.3: pass"
    command = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {work!r}], start_new_session=True)"
    )
    measure = f"import sys, claims; print(claims.run_counted([sys.executable, '-c', {command!r}]))"
    found = subprocess.run(
        [sys.executable, "-c", measure], cwd=ROOT / "benchmarks", capture_output=True, text=True, check=True
    )
    code, seconds = json.loads(found.stdout.replace("(", "[").replace(")", "]"))
    assert code == 0
    assert seconds >= 0.3
