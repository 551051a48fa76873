"""The page of a run or sweep: its numbers are those of summary.json, and no text of a model is taken for markup."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from r1exp.report.numbers import value_at
from r1exp.report.page import PAGE
from r1exp.report.records import read_run
from r1exp.report.write import target_of, write_pages, write_pages_if_possible

NASTY = "</script><img src=x onerror=alert(1)><!-- ]]> & \u2028 {{ 7*7 }}"


class Reader(HTMLParser):
    """Reads the numbers of a page, and its text outside of numbers and code."""

    VOID = frozenset({"meta", "link", "input", "br", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.numbers: list[tuple[list[str], float, str]] = []
        self.tags: list[str] = []
        self.text = ""
        self.scripts: dict[str, str] = {}
        self._open: list[str] = []
        self._attributes: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self._open.append(tag)
        self._attributes = dict(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = set(self._open)
        if self._open and self._open[-1] == "data":
            path = json.loads(self._attributes["data-from"])
            self.numbers.append((path, float(self._attributes["value"]), data))
        elif "script" in inside:
            self.scripts[self._attributes.get("id", "")] = data
        elif not inside & {"code", "pre", "style", "dl", "title", "h1"}:
            self.text += data


def shown_as(value: float) -> set[str]:
    return {f"{value:.4g}", f"{value:.2g}", f"{value:,.0f}", f"{100 * value:.1f}", f"{100 * value:+.1f}"}


def check_numbers(page: str, content: dict[str, Any]) -> Reader:
    reader = Reader(page)
    for path, value, text in reader.numbers:
        assert value == value_at(content, path), path
        assert text in shown_as(value)
    assert re.findall(r"\d\.\d", reader.text) == []  # every number with decimals is one of them
    return reader


def test_every_number_of_a_run_is_in_its_summary(tmp_path: Path, make_run: Any) -> None:
    run = make_run(tmp_path / "run", overrides=("beta=0.01",))
    page = write_pages(target_of([run]), draws=False).read_text()
    reader = check_numbers(page, json.loads((run / "summary.json").read_text()))
    paths = {tuple(path) for path, _, _ in reader.numbers}
    assert ("post_grpo_accuracy", "sampled", "high") in paths
    assert ("comparisons", "post_grpo - pre_grpo", "sampled", "p_holm") in paths
    assert ("steps", "rl", "segments", "kl", "mid") in paths
    assert ("steps", "rl", "rewards", "graded", "variance_share") in paths
    assert ("steps", "rl", "health", "0", "step") in paths


def test_every_number_of_a_sweep_is_in_its_summary(tmp_path: Path, make_run: Any) -> None:
    for number in range(4):
        seed = number % 2
        make_run(
            tmp_path / str(number),
            overrides=(f"beta={number // 2}", f"seed={seed}"),
            won=(5, 6, 8, 11)[number],
        )
    make_run(tmp_path / "4", overrides=("beta=7", "seed=0"), state="failed", objective=None)
    page = write_pages(target_of([tmp_path]), draws=False).read_text()
    content = json.loads((tmp_path / "sweep-summary.json").read_text())
    reader = check_numbers(page, content)
    assert ("settings", "1", "against_best", "low") in {tuple(path) for path, _, _ in reader.numbers}
    assert content["settings"][0]["overrides"] == ["beta=1"]
    assert content["settings"][0]["objective"] == pytest.approx(
        content["settings"][0]["accuracy"]["sampled"]["value"]
    )
    assert content["settings"][2]["num_runs"] == 0  # the failed one is last
    assert "1 of 5 runs are not finished" in reader.text


def test_measures_of_suites_are_shown(tmp_path: Path, make_run: Any) -> None:
    rate = {"value": 0.625, "n": 20, "low": 0.4, "high": 0.8}
    measured = {
        "post_grpo": {"gsm8k": {"sampled": {"exact": rate, "pass@4": rate, "output_tokens_max": 257}}}
    }
    run = make_run(tmp_path / "run", evaluations=measured)
    reader = check_numbers(write_pages(target_of([run]), draws=False).read_text(), read_run(run).summary)
    found = {tuple(path): text for path, _, text in reader.numbers}
    assert found["evaluations", "post_grpo", "gsm8k", "sampled", "pass@4", "value"] == "62.5"
    assert found["evaluations", "post_grpo", "gsm8k", "sampled", "output_tokens_max"] == "257"


def test_no_text_of_a_model_or_a_user_is_taken_for_markup(tmp_path: Path, make_run: Any) -> None:
    plain = Reader(
        write_pages(target_of([make_run(tmp_path / "plain", overrides=("x=1",))]), draws=False).read_text()
    )
    run = make_run(tmp_path / "nasty", overrides=(f"x={NASTY}",), text=NASTY, name=NASTY)
    page = write_pages(target_of([run]), draws=False).read_text()
    reader = Reader(page)
    assert reader.tags == plain.tags
    assert NASTY not in page
    data = json.loads(reader.scripts["data"])
    assert data["texts"][0]["text"] == f"{NASTY} 0"
    assert data["changed"][0]["won"]["rows"][0]["after"]["text"].startswith(NASTY)


def test_a_page_asks_for_nothing_from_the_network(tmp_path: Path, make_run: Any) -> None:
    page = write_pages(target_of([make_run(tmp_path / "run")]), draws=False).read_text()
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)|url\((?!#)|@import""", page)
    assert "default-src 'none'" in page


@pytest.mark.slow
def test_fifty_runs_with_long_names_and_texts_fit_in_five_megabytes(tmp_path: Path, make_run: Any) -> None:
    long = "rewards.graded.a_long_name_of_a_setting=" + "x" * 120
    for number in range(50):
        make_run(tmp_path / str(number), overrides=(f"{long}{number}",), text="y" * 9000, num_steps=300)
    page = write_pages(target_of([tmp_path]), draws=False)
    assert page.stat().st_size < 5e6
    data = json.loads(Reader(page.read_text()).scripts["data"])
    assert "evenly spread" in data["notes"]["texts"] and "thinned" in data["notes"]["curves"]


def test_a_failed_run_says_what_went_wrong_with_the_end_of_its_log(tmp_path: Path, make_run: Any) -> None:
    steps = {"rl": {"state": "failed", "seconds": 1.0, "reason": "rank 0 failed first: <b>"}}
    run = make_run(tmp_path / "run", state="failed", steps=steps, objective=None, comparisons={})
    (run / "steps/02-rl/log.txt").write_text("first\n" * 100 + "the last line\n")
    text = write_pages(target_of([run]), draws=False).read_text()
    assert "rank 0 failed first: &lt;b&gt;" in text and "the last line" in text
    assert "Not finished: step" in Reader(text).text


def test_a_run_that_measured_and_logged_nothing_has_a_page(tmp_path: Path, make_run: Any) -> None:
    run = make_run(
        tmp_path / "run",
        steps={},
        objective=None,
        comparisons={},
        post_grpo_accuracy={},
        pre_grpo_accuracy={},
    )
    for path in (run / "steps").rglob("*.jsonl"):
        path.unlink()
    assert "No accuracy was measured" in write_pages(target_of([run]), draws=False).read_text()


def test_an_error_in_a_report_is_said_and_does_not_end_the_run(
    tmp_path: Path, make_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    run = make_run(
        tmp_path / "run", steps={"rl": {"state": "done", "seconds": 1.0, "timing": {}, "health": [{}]}}
    )
    write_pages_if_possible(run)
    assert "no report.html: KeyError: 'step'" in capsys.readouterr().err
    assert not (run / "report.html").exists()


def test_the_license_of_the_chart_library_is_beside_it_and_in_the_page(tmp_path: Path, make_run: Any) -> None:
    license = (PAGE / "uPlot-LICENSE.txt").read_text()
    assert "MIT License" in license
    assert license in write_pages(target_of([make_run(tmp_path / "run")]), draws=False).read_text()
