"""Runs an evaluation harness on a model, in a virtual environment of its own, and reads its results.

lm_eval (EleutherAI's lm-evaluation-harness) and lighteval have tasks such as AIME, GPQA, MMLU and IFEval, with prompts, judges
and metrics of their own, and need other versions of libraries than r1exp. Each is a process of its own environment,
`<environment of r1exp>/harness/NAME`, which `python -m r1exp.evaluation.harness NAME` makes. The model is loaded by the harness
with transformers, or answers through the vLLM server that r1exp started for the step (lm_eval). Torch-free.
"""

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1exp.errors import Refused, StepFailed
from r1exp.evaluation.harness_results import Task, tasks_of_lighteval, tasks_of_lm_eval
from r1exp.evaluation.settings import HarnessName

# The versions that r1exp was tested with.
REQUIREMENTS: dict[HarnessName, tuple[str, ...]] = {
    "lm_eval": ("lm_eval[hf,api]==0.4.13", "transformers==5.17.0", "torch==2.13.0"),
    # lighteval 0.13 calls functions that huggingface_hub 2 and xxhash 4 no longer have.
    "lighteval": (
        "lighteval==0.13.0", "transformers==5.17.0", "torch==2.13.0", "huggingface_hub==1.33.0", "xxhash==3.8.2",
    ),
}  # fmt: skip
# Of the ranks of a step, which a harness would join.
_OF_RANKS = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "GROUP_RANK",
)
_PREFIXES = ("ACCELERATE_", "TORCHELASTIC_", "PYTHONPATH")
_MODEL = "model"  # name of the link to the model in the folder of the harness


@dataclass(frozen=True)
class HarnessRun:
    """What a harness is asked to do."""

    harness: HarnessName
    tasks: tuple[str, ...]
    tasks_path: Path | None  # lm_eval: folder of task files; lighteval: Python file with TASKS_TABLE
    python: Path  # of its environment
    model: str  # folder or hub id
    base: str | None  # of adapters: the model that they belong to; None: `model` is whole
    revision: str | None  # on the hub
    dtype: str
    trusts_code: bool
    server: (
        tuple[str, str] | None
    )  # base URL and served name of a vLLM server; None: transformers loads the model
    device: str  # cpu or cuda
    num_problems: int | None  # of each task; None: all
    seed: int


def environment_of(harness: HarnessName) -> Path:
    """Return the folder of a harness's virtual environment."""
    return Path(sys.prefix) / "harness" / harness


def python_of(harness: HarnessName, given: str | None) -> Path:
    """Return the Python of a harness's environment: the given one, or that of the environment that r1exp makes."""
    return Path(given).expanduser() if given else environment_of(harness) / "bin" / "python"


def version_of(harness: HarnessName, given: str | None = None) -> str | None:
    """Return the installed version of a harness, without starting it; None if it is not installed."""
    lib = python_of(harness, given).parent.parent / "lib"
    found = sorted(lib.glob(f"python3*/site-packages/{harness}-*.dist-info"))
    return found[-1].name.removeprefix(f"{harness}-").removesuffix(".dist-info") if found else None


def how_to_install(harness: HarnessName) -> str:
    """Return what to type to install a harness."""
    return f"python -m r1exp.evaluation.harness {harness}"


def refuse_missing(harness: HarnessName, given: str | None) -> None:
    """Raise Refused if the environment of a harness is not there, or does not have it."""
    python = python_of(harness, given)
    if version_of(harness, given) is None:
        what = f"{python} has no {harness}" if python.exists() else f"there is no {python}"
        advice = "or name another Python with evaluation.harness_python=FILE"
        raise Refused(f"evaluation.harness={harness}: {what}; type: {how_to_install(harness)}, {advice}")


def run_harness(run: HarnessRun, folder: Path) -> list[Task]:
    """Run a harness and return its results.

    Args:
        run: What it is asked to do.
        folder: A new folder for its files: log, answers of each task, results.

    Raises:
        Refused: the environment of the harness is not there.
        StepFailed: the harness failed, or wrote no results.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = _linked(run.model, folder)
    command = _commands[run.harness](run, model)
    log = folder / "harness.log"
    with log.open("w", encoding="utf-8") as output:
        try:
            done = subprocess.run(
                command, cwd=folder, env=_environment(run), stdout=output, stderr=output, check=False
            )
        except OSError as error:
            raise Refused(
                f"evaluation.harness={run.harness}: {run.python} cannot be started ({error.strerror})"
            ) from error
    if done.returncode != 0:
        raise StepFailed(f"{run.harness} failed: {_last_line(log)}; its log is {log}")
    reader = tasks_of_lm_eval if run.harness == "lm_eval" else tasks_of_lighteval
    return reader(folder / "out")


def _linked(model: str, folder: Path) -> str:
    """Return a relative name for a local model: lighteval would write its cache into the folder of an absolute one."""
    if not Path(model).is_dir():
        return model
    link = folder / _MODEL
    link.unlink(missing_ok=True)
    link.symlink_to(Path(model).resolve())
    return _MODEL


def _environment(run: HarnessRun) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _OF_RANKS and not name.startswith(_PREFIXES)
    }
    if run.device == "cpu":
        kept["CUDA_VISIBLE_DEVICES"] = ""
    return kept | {"TOKENIZERS_PARALLELISM": "false"}


def _lm_eval(run: HarnessRun, model: str) -> list[str]:
    if run.server is None:
        kind = "hf"
        arguments = {
            "pretrained": run.base or model,
            "dtype": run.dtype,
            "trust_remote_code": run.trusts_code,
        }
        arguments |= {} if run.base is None else {"peft": model}
        arguments |= {} if run.revision is None else {"revision": run.revision}
    else:
        url, name = run.server
        kind = "local-completions"
        arguments = {"base_url": f"{url}/v1/completions", "model": name, "tokenizer": model}
        arguments |= {"tokenizer_backend": "huggingface", "num_concurrent": 16}
    path = [] if run.tasks_path is None else ["--include_path", str(run.tasks_path.resolve())]
    limit = [] if run.num_problems is None else ["--limit", str(run.num_problems)]
    return [
        str(run.python), "-m", "lm_eval", "run", "--model", kind, "--model_args", _joined(arguments),
        "--tasks", ",".join(run.tasks), "--output_path", "out", "--log_samples", "--seed", str(run.seed),
        "--batch_size", "16" if run.server is None else "1", "--device", run.device, "--apply_chat_template", *path, *limit,
    ]  # fmt: skip


def _lighteval(run: HarnessRun, model: str) -> list[str]:
    arguments = {"model_name": run.base or model, "dtype": run.dtype, "trust_remote_code": run.trusts_code}
    arguments |= {"batch_size": 16, "cache_dir": "cache"}
    arguments |= {} if run.revision is None else {"revision": run.revision}
    path = [] if run.tasks_path is None else ["--custom-tasks", str(run.tasks_path.resolve())]
    limit = [] if run.num_problems is None else ["--max-samples", str(run.num_problems)]
    return [
        str(run.python), "-m", "lighteval", "accelerate", _joined(arguments), ",".join(run.tasks), "--output-dir", "out",
        "--save-details", *path, *limit,
    ]  # fmt: skip


def _joined(arguments: dict[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in arguments.items())


_commands = {"lm_eval": _lm_eval, "lighteval": _lighteval}


def _last_line(log: Path) -> str:
    lines = [line.strip(" │╰─╯") for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it wrote nothing")


def install(harness: HarnessName) -> None:
    """Make the virtual environment of a harness and install it there."""
    folder = environment_of(harness)
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "-U", "pip"], check=True)
    subprocess.run([*pip, *REQUIREMENTS[harness]], check=True)


def main(names: Sequence[str]) -> None:
    """Install the harnesses that are named."""
    wrong = [name for name in names if name not in REQUIREMENTS]
    if wrong or not names:
        raise SystemExit(f"usage: {how_to_install('lm_eval')}; harnesses: {', '.join(REQUIREMENTS)}")
    for harness in REQUIREMENTS:
        if harness in names:
            install(harness)


if __name__ == "__main__":
    main(sys.argv[1:])
