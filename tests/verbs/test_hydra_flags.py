"""The options of Hydra that show something: --cfg, --info, --hydra-help."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from r1exp.__main__ import main


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """Restore the loggers that Hydra configures for --info and hydra.verbose."""
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def shown(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(line) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(["--cfg", "job", "beta=0.3"], {"beta": 0.3}, id="job"),
        pytest.param(["--cfg=job", "--resolve"], {"learning_rate": 2e-4}, id="resolved"),
        pytest.param(["plan", "-c", "job", "-p", "model.lora"], {"r": 0}, id="a package"),
        pytest.param(["--cfg", "job", "--package", "step.sft"], {"max_steps": 150}, id="a step"),
        pytest.param(
            ["--cfg", "job", "--package", "step.rl.trainer"], {"epsilon": 0.2}, id="a part of a step"
        ),
        pytest.param(["--cfg", "hydra", "-p", "hydra.job"], {"chdir": False}, id="Hydra's"),
        pytest.param(["--cfg", "all", "seed=1,2", "-m"], {"seed": 1}, id="a sweep, without what is listed"),
    ],
)
def test_the_configuration_is_shown_as_yaml(
    line: list[str], expected: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    found = yaml.safe_load(shown(line, capsys))
    assert found.items() >= expected.items()


def test_each_kind_has_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert "hydra" not in yaml.safe_load(shown(["--cfg", "job"], capsys))
    assert set(yaml.safe_load(shown(["--cfg", "hydra"], capsys))) == {"hydra"}
    assert {"hydra", "model"} <= set(yaml.safe_load(shown(["--cfg", "all"], capsys)))


def test_a_single_value_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(["--cfg", "job", "--package", "seed", "seed=4"], capsys) == "# @package seed\n4\n"


def test_a_configuration_that_would_be_refused_is_shown_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--cfg", "job", "bta=1"]) == 2
    printed = capsys.readouterr()
    assert "bta: 1" in printed.out
    assert "Did you mean beta?" in printed.err


@pytest.mark.parametrize(
    ("topic", "part"),
    [
        pytest.param([], "Hydra 1.3", id="all"),
        pytest.param(["searchpath"], "/conf", id="searchpath"),
        pytest.param(["defaults"], "algorithm/grpo", id="defaults"),
        pytest.param(["defaults-tree"], "<root>", id="defaults-tree"),
        pytest.param(["plugins"], "BasicSweeper", id="plugins"),
        pytest.param(["config"], "learning_rate: ${model.learning_rate.rl}", id="config"),
    ],
)
def test_hydra_s_information_is_shown(
    topic: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in shown(["--info", *topic], capsys)


def test_hydra_s_help_names_what_r1exp_does_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--shell-completion" in shown(["--hydra-help"], capsys)


def test_verbose_shows_debug_messages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "stage=sft", "hydra.verbose=[a.logger]"]) == 0
    assert logging.getLogger("a.logger").level == logging.DEBUG


@pytest.mark.parametrize(
    ("line", "part"),
    [
        pytest.param(["--cfg", "jb"], "Did you mean --cfg job?", id="kind"),
        pytest.param(["--info", "default"], "Did you mean --info defaults?", id="topic"),
        pytest.param(["--cfg", "job", "-p", "nothing"], "has no such key", id="package"),
        pytest.param(["--cfg", "job", "-p", "step.sfx"], "step.sft, step.rl", id="step"),
        pytest.param(["--cfg", "job", "--lr=3"], "In r1exp it is learning_rate", id="a key with dashes"),
        pytest.param(["--config-name=x"], "experiment=NAME", id="config name"),
        pytest.param(["--package", "x"], "--cfg job --package KEY", id="package alone"),
        pytest.param(
            ["plan", "hydra.job.chdir=true"], "relative paths start there", id="a setting of no effect"
        ),
    ],
)
def test_a_mistake_is_refused(line: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line) == 2
    assert part in capsys.readouterr().err


def test_a_pipe_that_is_closed_early_ends_quietly(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m r1exp --info | head -1",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("Hydra 1.3.8", "")
