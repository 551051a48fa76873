"""Tests of W&B runs; offline files are read with the record classes of the wandb package."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from r1exp.errors import Refused
from r1exp.tracking.trackers import Trackers
from r1exp.tracking.wandb import Wandb, has_api_key, resolved_mode
from tests.tracking.toys import tracked

Records = Callable[[Path], list[Record]]
SETTINGS = Wandb(kind="wandb", project="p", entity=None, mode="offline", tags=("a",))


def test_an_offline_file_holds_config_rows_summary_completions_alerts_and_group(
    tmp_path: Path, wandb_records: Records
) -> None:
    with Trackers({"wandb": SETTINGS}, tracked(tmp_path)) as trackers:
        trackers.log({"kl": 0.5, "rewards/format/mean": 1.0, "loss": None}, 1)
        trackers.log_completions([{"completion": "4", "reward": 1.0}, {"completion": "5", "reward": None}], 1)
        trackers.log({"kl": 0.25}, 2)
        trackers.alert("kl_high", "kl is above 0.4", "warn", 2)
        trackers.alert("kl_explosion", "kl is above 10", "error", 2)
        trackers.summarize({"accuracy/greedy": 0.75})
    found = wandb_records(tmp_path)
    (header,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    assert (header.run_id, header.display_name, header.run_group, header.job_type) == (
        "abc",
        "n/rl",
        "g",
        "rl",
    )
    assert {item.key: json.loads(item.value_json) for item in header.config.update}["beta"] == 0.1
    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.WhichOneof("record_type") == "history"
    ]
    assert [(row["_step"], row["kl"]) for row in rows] == [(1, 0.5), (2, 0.25)]
    assert rows[0]["rewards/format/mean"] == 1.0
    summary: dict[str, Any] = {}
    for record in found:
        for item in record.summary.update:
            summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    assert summary["accuracy/greedy"] == 0.75
    alerts = [record.alert for record in found if record.WhichOneof("record_type") == "alert"]
    assert [(alert.title, alert.level, alert.text) for alert in alerts] == [
        ("kl_high", "WARN", "step 2: kl is above 0.4"),
        ("kl_explosion", "ERROR", "step 2: kl is above 10"),
    ]
    assert rows[0]["completions/_type"] == "table-file"
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/completions_*.json")
    assert json.loads(table.read_text()) == {
        "columns": ["completion", "reward"],
        "data": [["4", 1.0], ["5", None]],
    }


def test_auto_is_offline_without_a_key_and_online_with_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    auto = SETTINGS.model_copy(update={"mode": "auto"})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert (has_api_key(), resolved_mode(auto)) == (False, "offline")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert (has_api_key(), resolved_mode(auto)) == (True, "online")
    assert resolved_mode(SETTINGS) == "offline"


def test_a_key_in_netrc_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password " + "k" * 40)
    (tmp_path / ".netrc").chmod(0o600)
    assert has_api_key()


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Simulate a machine without a W&B login."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def with_mode(mode: str) -> Wandb:
    return SETTINGS.model_copy(update={"mode": mode})


def test_online_without_a_key_is_refused_without_a_prompt(no_key: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="wandb login"):
        resolved_mode(with_mode("online"))
    no_key.setenv("WANDB_MODE", "online")
    with pytest.raises(Refused, match="WANDB_MODE is online"):
        resolved_mode(with_mode("auto"))


@pytest.mark.parametrize("value", ["offline", "disabled"])
def test_auto_uses_the_mode_of_the_variable(value: str, no_key: pytest.MonkeyPatch) -> None:
    no_key.setenv("WANDB_API_KEY", "k" * 40)
    no_key.setenv("WANDB_MODE", value)
    assert resolved_mode(with_mode("auto")) == value
    assert resolved_mode(with_mode("online")) == "online"


@pytest.mark.parametrize(
    ("host", "permissions", "expected"),
    [
        pytest.param("api.wandb.ai", 0o644, True, id="readable by others"),
        pytest.param("github.com", 0o600, False, id="another host"),
    ],
)
def test_a_key_in_netrc_counts_for_its_host(
    host: str, permissions: int, expected: bool, no_key: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "elsewhere"
    file.write_text(f"machine {host} login user password {'k' * 40}")
    file.chmod(permissions)
    no_key.setenv("NETRC", str(file))
    assert has_api_key() is expected


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["auto", "online"])
def test_a_server_that_does_not_answer_leaves_the_run_offline(
    mode: str,
    no_key: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    wandb_records: Records,
) -> None:
    no_key.setenv("WANDB_API_KEY", "k" * 40)
    no_key.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port refuses connections immediately
    no_key.setattr("r1exp.tracking.wandb.INIT_TIMEOUT", 2.0)
    with Trackers({"wandb": with_mode(mode)}, tracked(tmp_path)) as trackers:
        trackers.log({"kl": 0.5}, 1)
    assert any(record.WhichOneof("record_type") == "history" for record in wandb_records(tmp_path))
    assert "until `wandb sync`" in capsys.readouterr().err


def test_a_run_continues_after_the_service_process_of_wandb_exits(tmp_path: Path) -> None:
    """SLURM's preemption terminates every process that handles SIGTERM while the checkpoint is still to be saved."""
    script = """
import contextlib, psutil, sys, time
from pathlib import Path
from r1exp.errors import ExitCode
from r1exp.tracking.base import TrackedRun
from r1exp.tracking.trackers import Trackers
from r1exp.tracking.wandb import Wandb
wandb = Wandb(kind="wandb", project="p", entity=None, mode="offline", tags=())
run = TrackedRun(identity="i", name="n", group="g", job_type="rl", config={}, folder=Path(sys.argv[1]))
trackers = Trackers({"wandb": wandb}, run)
while not list(run.folder.glob("wandb/offline-run-*/*.wandb")):
    time.sleep(0.05)
for process in psutil.Process().children(recursive=True):
    with contextlib.suppress(psutil.NoSuchProcess):  # one that ended with the process it was started by
        process.kill()
        process.wait()
trackers.log({"loss": 1.0}, 1)
trackers.log({"loss": 1.0}, 2)
trackers.summarize({"x": 1})
trackers.finish(ExitCode.PREEMPTED)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the run goes on without it") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "home", [None, "/proc/no-such-folder"], ids=["no HOME", "HOME that cannot be written"]
)
def test_a_run_is_tracked_without_a_message_where_there_is_no_home(home: str | None, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from r1exp.tracking.trackers import Trackers
from r1exp.tracking.wandb import Wandb
from tests.tracking.toys import tracked
wandb = Wandb(kind="wandb", project="p", entity=None, mode="offline", tags=())
with Trackers({"wandb": wandb}, tracked(Path(sys.argv[1]))) as trackers:
    trackers.log({"loss": 1.0}, 1)
    trackers.log_completions([{"completion": "4"}], 1)
"""
    variables = {
        key: value for key, value in os.environ.items() if key != "HOME" and not key.startswith("WANDB")
    }
    variables |= {"PYTHONPATH": str(Path(__file__).parents[2])} | ({} if home is None else {"HOME": home})
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=variables,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert list(tmp_path.glob("wandb/offline-run-*/files/media/table/*.json"))
