"""stage=evaluate with two suites, from the command line to the printed table."""

import json
from pathlib import Path
from typing import Any

import pytest

from r1exp.__main__ import main

ROW = {
    "question": "Ben has {n} coins and finds 2. How many has he?",
    "answer": "{n}+2=<<{n}+2={m}>>{m}\n#### {m}",
}


def gsm8k(folder: Path, num_problems: int) -> Path:
    """Write small files in the layout of GSM8K."""
    folder.mkdir()
    for name, start in (("train", 100), ("test", 0)):
        rows = [
            {key: text.format(n=start + number, m=start + number + 2) for key, text in ROW.items()}
            for number in range(num_problems)
        ]
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


@pytest.mark.slow
def test_two_suites_are_measured_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = gsm8k(tmp_path / "data", 6)
    arguments = [
        "stage=evaluate",
        "rewards=graded",
        "tracking=none",
        "launcher=local",
        "paths.run=run",
    ]
    arguments += ["evaluation.suites=[arithmetic,gsm8k]", f"evaluation.suites.gsm8k.dataset.path={data}"]
    arguments += ["evaluation.suites.arithmetic.num_problems=5", "evaluation.suites.gsm8k.samples=4"]
    arguments += ["evaluation.best_of=true", "max_completion_length=24"]
    assert main(arguments) == 0
    summary: Any = json.loads((tmp_path / "run" / "summary.json").read_text())
    suites = summary["evaluations"]["evaluate"]
    assert list(suites) == ["arithmetic", "gsm8k"]
    assert summary["evaluate_accuracy"]["sampled"] == suites["arithmetic"]["sampled"]["accuracy"]
    sampled = suites["gsm8k"]["sampled"]
    assert (sampled["accuracy"]["n"], sampled["samples"]) == (6, 4)
    rates = {"accuracy", "exact", "plausible", "format", "cut_off", "pass@2", "pass@4", "cons@4", "best@4"}
    assert all(
        0.0 <= sampled[name]["low"] <= sampled[name]["value"] <= sampled[name]["high"] <= 1.0
        for name in rates
    )
    assert sampled["exact"]["value"] <= sampled["accuracy"]["value"] <= sampled["plausible"]["value"]
    assert 0 < sampled["input_tokens_mean"] <= sampled["input_tokens_max"]
    assert sampled["output_tokens_max"] <= 24
    lines = (
        (tmp_path / "run" / "steps" / "01-evaluate" / "artifact" / "answers.jsonl").read_text().splitlines()
    )
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 5 * 2 + 6 * 5
    assert {row["suite"] for row in rows if row["mode"] == "sampled" and row["reward"] is not None} == set(
        suites
    )
    printed = capsys.readouterr().out
    assert "suite gsm8k, 6 problems:" in printed and "plausibly" in printed and "pass@4" in printed
    assert (
        "| correct format | plausibly correct | exact correct |"
        in (tmp_path / "run" / "report.md").read_text()
    )
