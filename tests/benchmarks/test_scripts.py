"""Each script of benchmarks/ runs at the smallest size and prints its table; its figures are not tested."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Packages that a machine with only PyTorch, transformers and pure-Python wheels does not have.
COMPILED = ("pydantic", "pydantic_core", "wandb", "hydra", "omegaconf", "math_verify", "deepspeed", "vllm")


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of benchmarks/ and return its exit code and output."""
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        pytest.param("overhead.py", ["--processes=2", "--turns=1"], "r1exp / bare TRL: ", id="overhead"),
        pytest.param("data.py", ["--rows=2000"], ".parquet      all     1,900", id="data"),
        pytest.param("coverage.py", ["--runs=20", "--only=exact"], "| 2000 | 94.4 |", id="coverage"),
        pytest.param(
            "races.py", ["--races=20", "--only=two"], "| two settings, 3 points apart | ", id="races"
        ),
        pytest.param("judgement.py", ["0.01"], "10^{12}", id="judgement"),
        pytest.param("rewards.py", ["0.01"], "time grows with the power", id="rewards"),
        pytest.param(
            "health.py",
            ["--only=weak_signal"],
            "| `weak_signal` | random weights, `rewards=strict` | 10 |",
            id="health",
        ),
        pytest.param("sandbox.py", ["2"], "95% interval", id="sandbox"),
        pytest.param("sandbox_memory.py", ["timers"], "exited 0 128", id="sandbox_memory"),
        pytest.param(
            "rollout.py",
            ["--rounds=2", "--prompts=2"],
            "vllm_colocate / hf: ",
            marks=pytest.mark.skipif(find_spec("vllm") is None, reason="needs vLLM: type make vllm"),
            id="rollout",
        ),
        pytest.param(
            "algorithms.py",
            ["--processes=2", "--turns=1", "--sft-steps=2", "--only=ppo-separate"],
            "| ppo separate |",
            id="algorithms",
        ),
    ],
)
def test_a_benchmark_prints_its_table(script: str, arguments: list[str], expected: str) -> None:
    done = run(script, *arguments)
    assert expected in done.stdout, done.stderr
    assert done.returncode in (0, 1), done.stderr  # 1: a target is missed, which is allowed at this size


@pytest.mark.slow
def test_without_a_gpu_the_benchmark_names_what_was_not_measured() -> None:
    done = run("gpu.py", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no CUDA GPU on this machine; not measured: tokens/s of rollout")


@pytest.mark.slow
def test_configurations_are_planned_without_a_gpu_and_measured_on_any_device(tmp_path: Path) -> None:
    planned = run("gpu_configurations.py", "--plan")
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.count("not measured") == 12
    none = run("gpu_configurations.py", CUDA_VISIBLE_DEVICES="")
    assert none.stdout.startswith("no CUDA GPU on this machine; not measured: peak memory")
    small = ["--device=cpu", "--shape=tiny", "--turns=1", f"--out={tmp_path}", "--only", "base", "lora"]
    done = run("gpu_configurations.py", *small)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "gpu_configurations.json").read_text())["rows"]
    assert all(row["figures"]["peak_bytes"] > 0 for row in rows.values())


@pytest.mark.slow
def test_the_gpu_benchmark_needs_only_pure_python_wheels(tmp_path: Path) -> None:
    # Optional parts need some of them, and TRL imports those that it finds.
    optional = ("trackio", "mlflow", "bitsandbytes")
    hidden = f"import sys\nfor name in {(*COMPILED, *optional)}:\n    sys.modules[name] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hidden)
    arguments = ["--device=cpu", "--shape=tiny", "--turns=1", f"--out={tmp_path}"]
    done = run("gpu.py", *arguments, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "Not figures of a GPU" in done.stdout
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert set(result["rows"]) == {"sft", "grpo", "ppo"}
    assert (tmp_path / "gpu.md").read_text() in done.stdout
    assert result["rows"]["grpo"]["r1exp"]["rollout_tokens_per_s"] > 0
    assert result["rows"]["sft"]["bare"]["training_tokens_per_s"] > 0
