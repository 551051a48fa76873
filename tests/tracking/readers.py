"""Reads back what a tracker wrote, with the tracker's own package."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Seen:
    """What a tracker has of one step."""

    num_runs: int = 0
    rows: dict[str, list[tuple[int, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )  # metric: (step, value)
    completions: str = ""
    alerts: str = ""


def read_tensorboard(step_folder: Path) -> Seen:
    """Return what the event files of a step have."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(step_folder / "tensorboard"))
    events.Reload()
    seen = Seen(num_runs=1)
    for tag in events.Tags()["scalars"]:
        seen.rows[tag] = [(event.step, event.value) for event in events.Scalars(tag)]
    texts = {
        tag: "\n".join(event.tensor_proto.string_val[0].decode() for event in events.Tensors(tag))
        for tag in events.Tags()["tensors"]
    }
    seen.completions, seen.alerts = texts.get("completions", ""), texts.get("health", "")
    return seen


def read_trackio(project: str) -> Seen:
    """Return what the local database has of a project with one run."""
    from trackio.sqlite_storage import SQLiteStorage

    runs = SQLiteStorage.get_runs(project)
    seen = Seen(num_runs=len(runs))
    for row in SQLiteStorage.get_logs(project, runs[0]):
        if "completions" in row:
            seen.completions += json.dumps(row["completions"], ensure_ascii=False)
        for key, value in row.items():
            if isinstance(value, int | float) and key != "step":
                seen.rows[key].append((row["step"], value))
    seen.alerts = json.dumps(SQLiteStorage.get_alerts(project))
    return seen


def read_mlflow(project: str) -> Seen:
    """Return what mlflow.db in the working directory has of an experiment with one run."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{Path.cwd()}/mlflow.db")
    experiment = client.get_experiment_by_name(project)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (run,) = runs
    seen = Seen(num_runs=len(runs))
    for key in run.data.metrics:
        seen.rows[key] = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]
    for artifact in client.list_artifacts(run.info.run_id, "completions"):
        path = client.download_artifacts(run.info.run_id, artifact.path)
        seen.completions += json.dumps(json.loads(Path(path).read_text(encoding="utf-8")), ensure_ascii=False)
    seen.alerts = json.dumps(
        {key: value for key, value in run.data.tags.items() if key.startswith("health.")}
    )
    return seen
