"""Problems won and lost, and the texts of a page."""

import json
from pathlib import Path
from typing import Any

from r1exp.paths import RunPaths, StepPaths
from r1exp.report.answers import changed_problems, completions_of, shortened, spread, within_budget


def test_problems_are_won_and_lost_with_both_answers(tmp_path: Path, make_run: Any) -> None:
    paths = RunPaths(make_run(tmp_path / "run", won=5))
    (found,) = changed_problems(paths.step(1, "evaluate-pre"), paths.step(3, "evaluate-post"), 2)
    # Right before: 0, 3, 6, ...; right after: these without 3, and 1, 2, 4.
    assert found["decoding"] == "sampled"
    assert found["won"]["number"] == 3 and found["lost"]["number"] == 1
    assert [row["problem"] for row in found["won"]["rows"]] == ["test-1", "test-2"]
    (lost,) = found["lost"]["rows"]
    assert lost["problem"] == "test-3" and lost["gold"] == "8"
    assert lost["before"]["correct"] and not lost["after"]["correct"]


def test_with_several_samples_the_share_of_right_answers_decides(tmp_path: Path) -> None:
    for name, outcomes in (("before", [True, False]), ("after", [True, True])):
        path = StepPaths(tmp_path / name).results.answers
        path.parent.mkdir(parents=True)
        rows = [{"problem_id": "p", "mode": "sampled", "suite": "gsm8k", "text": str(each), "correct": each} for each in outcomes]  # fmt: skip
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = changed_problems(StepPaths(tmp_path / "before"), StepPaths(tmp_path / "after"), 5)
    assert found["decoding"] == "gsm8k, sampled"
    assert found["won"]["rows"][0]["before"]["text"] == "False"


def test_items_are_evenly_spread_and_a_long_text_is_cut_in_its_middle() -> None:
    assert spread(range(10), 3) == [0, 3, 6]
    assert spread(range(2), 3) == [0, 1]
    cut = shortened("a" * 2000 + "b" * 2000)
    assert cut.startswith("aaa") and cut.endswith("bbb") and "[... 1000 characters ...]" in cut


def test_rows_beyond_the_budget_are_left_out_in_the_same_way_each_time() -> None:
    rows = [{"text": "x" * 100, "index": index} for index in range(100)]
    kept = within_budget(rows, 2000)
    assert kept == within_budget(rows, 2000)
    assert 10 < len(kept) < 20 and kept[0]["index"] == 0
    assert within_budget(rows, 10**6) == rows


def test_a_line_that_is_being_written_is_passed_over(tmp_path: Path) -> None:
    paths = StepPaths(tmp_path)
    paths.completions.mkdir()
    paths.completions_at(3).write_text('{"step": 3, "completion": "whole"}\n{"step": 3, "compl')
    assert [(row["at"], row["text"]) for row in completions_of(paths)] == [(3, "whole")]
