"""TensorBoard, trackio and MLflow, each read back with its own reader."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from r1exp.errors import ExitCode
from r1exp.tracking.base import Tracker
from r1exp.tracking.mlflow import Mlflow
from r1exp.tracking.tensorboard import Tensorboard
from r1exp.tracking.trackers import Trackers
from r1exp.tracking.trackio import Trackio
from tests.tracking.readers import Seen, read_mlflow, read_tensorboard, read_trackio
from tests.tracking.toys import tracked

pytestmark = pytest.mark.integration


def missing(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        find_spec(package) is None, reason=f"{package} is not installed; type: make trackers"
    )


@pytest.mark.parametrize(
    ("tracker", "read"),
    [
        pytest.param(
            lambda name: Tensorboard(kind="tensorboard"),
            lambda name: read_tensorboard(Path()),
            id="tensorboard",
            marks=missing("tensorboard"),
        ),
        pytest.param(
            lambda name: Trackio(kind="trackio", project=name, space=None, server=None),
            read_trackio,
            id="trackio",
            marks=missing("trackio"),
        ),
        pytest.param(
            lambda name: Mlflow(kind="mlflow", project=name, uri=None, tags=("a",)),
            read_mlflow,
            id="mlflow",
            marks=missing("mlflow"),
        ),
    ],
)
def test_what_is_written_is_read_back_also_after_a_resume(
    tracker: Callable[[str], Tracker],
    read: Callable[[str], Seen],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    project = f"p-{tmp_path.name}-{tmp_path.parent.name}"  # trackio has one database for all tests
    settings = {"tracker": tracker(project)}
    first = Trackers(settings, tracked(tmp_path))
    first.log({"kl": 0.5, "rewards/format/mean": 1.0, "loss": None}, 1)
    first.log_completions(
        [{"completion": "2+2=4 | 你好\n.", "reward": 1.0}, {"completion": "5", "reward": None}], 1
    )
    first.log({"kl": 0.25}, 2)
    first.finish(ExitCode.INTERRUPTED)
    with Trackers(settings, tracked(tmp_path), tracked_until=2) as second:
        second.log({"kl": 0.25}, 2)
        second.log({"kl": 0.125}, 3)
        second.alert("kl_high", "kl is above 0.4", "warn", 3)
        second.summarize({"accuracy/greedy": 0.75, "state": "done"})
    seen = read(project)
    assert seen.rows["kl"] == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert seen.rows["rewards/format/mean"] == [(1, 1.0)]
    assert "loss" not in seen.rows
    assert seen.num_runs == 1
    assert "2+2=4" in seen.completions and "你好" in seen.completions
    assert "kl is above 0.4" in seen.alerts
    assert seen.rows["accuracy/greedy"][0][1] == 0.75


@missing("mlflow")
def test_mlflow_has_config_state_and_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    settings = {"mlflow": Mlflow(kind="mlflow", project="p", uri=None, tags=("a",))}
    for code, state in (
        (ExitCode.PREEMPTED, "KILLED"),
        (ExitCode.STOPPED, "FAILED"),
        (ExitCode.DONE, "FINISHED"),
    ):
        Trackers(settings, tracked(tmp_path)).finish(code)
        client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
        experiment = client.get_experiment_by_name("p")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        assert (run.info.status, run.info.run_name) == (state, "n/rl")
    assert run.data.params == {"beta": "0.1", "model.kind": "tiny"}
    tags = {"group": "g", "job_type": "rl", "a": "true", "r1exp.identity": "abc"}
    assert tags.items() <= run.data.tags.items()


@missing("trackio")
def test_trackio_has_group_and_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    project = f"p-{tmp_path.name}-{tmp_path.parent.name}"
    settings = {"trackio": Trackio(kind="trackio", project=project, space=None, server=None)}
    with Trackers(settings, tracked(tmp_path)) as trackers:
        trackers.log({"kl": 0.5}, 1)
    config: Any = SQLiteStorage.get_run_config(project, "n/rl abc")
    assert (config["beta"], config["job_type"], config["_Group"]) == (0.1, "rl", "g")
    assert capsys.readouterr().out == ""  # the place of results


@missing("mlflow")
@pytest.mark.slow
def test_a_server_that_does_not_answer_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pass-word@127.0.0.1:9")
    settings = {"mlflow": Mlflow(kind="mlflow", project="p", uri=None, tags=())}
    with Trackers(settings, tracked(tmp_path)) as trackers:
        trackers.log({"kl": 0.5}, 1)
    shown = capsys.readouterr().err
    assert shown.count("the run goes on without it") == 1
    assert "pass-word" not in shown
