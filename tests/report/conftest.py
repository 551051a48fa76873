"""Run directories for the tests of reports, with every file that a report reads; no model is trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1exp.evaluation.outcomes import compare
from r1exp.statistics.intervals import clustered_proportion

MakeRun = Callable[..., Path]


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _steps(num_steps: int, learns: float) -> list[dict[str, Any]]:
    return [
        {
            "step": step, "reward": 1 + learns * step, "rewards/graded/mean": 0.5 + learns * step,
            "rewards/format/mean": 0.5, "rewards/graded/variance_share": 0.75, "rewards/format/variance_share": 0.25,
            "rewards/graded/abstained": 0.125, "kl": 0.01 * step, "entropy": 1 / step, "grad_norm": 0.3,
            "completions/mean_length": 20.0, "completions/clipped_ratio": 0.0, "beta": 0.005, "step_time": 1.5,
            "eval/arithmetic/greedy/accuracy": 0.5, "eval/arithmetic/greedy/low": 0.4, "eval/arithmetic/greedy/high": 0.6,
        }
        for step in range(1, num_steps + 1)
    ]  # fmt: skip


def _answers(folder: Path, outcomes: list[bool], text: str) -> None:
    rows = [
        {"problem_id": f"test-{index}", "mode": "sampled", "text": f"{text} {index}", "answer": "7", "gold": "8", "correct": each}
        for index, each in enumerate(outcomes)
    ]  # fmt: skip
    _write_rows(folder / "artifact" / "answers.jsonl", rows)


@pytest.fixture
def make_run() -> MakeRun:
    """Return a function that writes the directory of a finished quickstart-like run and returns it."""

    def make(
        folder: Path,
        *,
        overrides: tuple[str, ...] = (),
        text: str = "an answer",
        won: int = 5,
        num_steps: int = 9,
        learns: float = 0.1,
        **changes: Any,
    ) -> Path:
        before, after = (
            [index % 3 == 0 for index in range(20)],
            [index % 3 == 0 or index < won for index in range(20)],
        )
        before[3], after[3] = True, False
        names = [
            ("evaluate-pre", "pre_grpo", "evaluate"),
            ("rl", "grpo", "rl"),
            ("evaluate-post", "post_grpo", "evaluate"),
        ]
        rewards = {"graded": {"kind": "graded", "weight": 2.0}, "format": {"kind": "format", "weight": 1.0}}
        rules = {"kl_high": {"metric": "kl", "above": 0.4}}
        steps = [
            {"index": index, "name": name, "label": label, "batch": {} if kind == "rl" else None, "config": {
                "stage": {"kind": kind}, "algorithm": {"kind": "grpo"} if kind == "rl" else None,
                "rewards": rewards if kind == "rl" else None, "dataset": {"kind": "arithmetic"}, "health": {"rules": rules},
            }}
            for index, (name, label, kind) in enumerate(names, start=1)
        ]  # fmt: skip
        folders = {
            name: folder / "steps" / f"{index:02d}-{name}"
            for index, (name, _, _) in enumerate(names, start=1)
        }
        for path in folders.values():
            path.mkdir(parents=True)
        _answers(folders["evaluate-pre"], before, text)
        _answers(folders["evaluate-post"], after, text)
        _write_rows(folders["rl"] / "metrics.jsonl", _steps(num_steps, learns))
        event = {
            "step": 7,
            "rule": "kl_high",
            "value": 0.5,
            "action": "warn",
            "sentence": "kl was 0.5, above 0.4",
        }
        _write_rows(folders["rl"] / "health.jsonl", [event])
        kept = [
            {"step": 2, "problem": f"train-{index}", "prompt": f"How much? {text}", "answer": "8", "completion": f"{text} {index}",
             "tokens": 12, "cut": False, "reward": 1.5, "advantage": 0.5, "rewards": {"graded": 1.0, "format": None}}
            for index in range(8)
        ]  # fmt: skip
        _write_rows(folders["rl"] / "completions" / "step-000002.jsonl", kept)
        scores = {
            f"{label}_accuracy": {"sampled": _interval(each)}
            for label, each in (("pre_grpo", before), ("post_grpo", after))
        }
        test = compare([[each] for each in before], [[each] for each in after])
        summary = {
            "run_id": folder.name, "name": "mine", "overrides": list(overrides), "state": "done",
            "steps": {name: {"state": "done", "seconds": 12.5} for name in folders},
            "comparisons": {"post_grpo - pre_grpo": {"sampled": test}}, **scores,
            "objective": sum(after) / 20, "objective_of": "post_grpo sampled", "seconds": 37.5, "elapsed_seconds": 38.0,
        } | changes  # fmt: skip
        config = {"model": {"kind": "tiny"}, "beta": 0.005}
        manifest = {"run_id": folder.name, "created": "2026-11-22T01:00:00+00:00", "config": config, "choices": {"dataset": "arithmetic"},
                    "steps": {"rl": config}, "versions": {"python": "3.11.7"}, "seed": 1, "step_keys": ["a1b2"]}  # fmt: skip
        plan = {"name": "mine", "steps": steps, "working_directory": "/somewhere"}
        for name, content in (("plan", plan), ("manifest", manifest), ("summary", summary)):
            (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        return folder

    return make


def _interval(outcomes: list[bool]) -> dict[str, float]:
    found = clustered_proportion([[each] for each in outcomes])
    return {"value": found.value, "n": found.n, "low": found.low, "high": found.high}
