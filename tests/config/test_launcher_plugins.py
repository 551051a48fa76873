"""Launcher plug-ins of Hydra are refused with the same settings as r1exp has them."""

from pathlib import Path

import pytest

from r1exp.__main__ import main


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        pytest.param(["hydra/launcher=joblib", "hydra.launcher.n_jobs=-1"], "type sweep.parallel=auto", id="joblib"),
        pytest.param(
            ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"],
            "type sweep.parallel=auto; nothing is like hydra.launcher.timeout_min=5",
            id="submitit_local",
        ),
        pytest.param(
            [
                "hydra/launcher=submitit_slurm",
                "hydra.launcher.partition=gpu",
                "hydra.launcher.timeout_min=60",
                "hydra.launcher.mem_gb=32",
                "hydra.launcher.array_parallelism=8",
            ],
            "type launcher=slurm launcher.partition=gpu launcher.time=60 launcher.extra=['--mem=32G'] sweep.parallel=8",
            id="submitit_slurm",
        ),
    ],
)  # fmt: skip
def test_the_settings_of_a_launcher_plugin_are_translated(
    line: list[str], instead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "-m", "seed=1,2", *line]) == 2
    assert instead in capsys.readouterr().err


def test_a_launcher_plugin_that_a_file_chooses_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /hydra/launcher: joblib\n"
    )
    (tmp_path / "hydra" / "launcher").mkdir(parents=True)
    (tmp_path / "hydra" / "launcher" / "joblib.yaml").write_text("n_jobs: 3\n")
    assert main(["plan", "-m", "--config-dir", str(tmp_path), "sweeps=mine", "seed=1,2"]) == 2
    assert "hydra/launcher=joblib in a file" in capsys.readouterr().err
