"""The files of launchers/ for schedulers: each starts one command on every node, which r1exp accepts there."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from r1exp.assets import LAUNCHERS
from r1exp.config.experiment import Experiment
from r1exp.plan.steps import planned_steps

Compose = Callable[..., Experiment]


def content(name: str) -> Any:
    return yaml.safe_load((LAUNCHERS / name).read_text(encoding="utf-8"))


def commands() -> dict[str, str]:
    """Return the command that each file starts on a node."""
    pods = content("pytorchjob.yaml")["spec"]["pytorchReplicaSpecs"]
    assert pods["Master"] == pods["Worker"]  # both count as nodes
    (container,) = pods["Master"]["template"]["spec"]["containers"]
    return {
        "skypilot.yaml": content("skypilot.yaml")["run"],
        "dstack.yml": content("dstack.yml")["commands"][-1],
        "pytorchjob.yaml": " ".join(container["args"]),
        "salloc.sh": (LAUNCHERS / "salloc.sh").read_text(encoding="utf-8").rpartition("srun ")[2],
    }


@pytest.mark.parametrize("name", ["skypilot.yaml", "dstack.yml", "pytorchjob.yaml", "salloc.sh"])
def test_the_command_of_a_file_is_planned_for_two_nodes(
    name: str, compose_line: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    for variable, value in {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "n1"}.items():
        monkeypatch.setenv(variable, value)
    found = re.search(r"r1exp ((?:[\w.]+=[^\s]+[\s\\]*)+)", commands()[name])
    assert found is not None
    overrides = found[1].replace("\\", " ").split()
    steps = planned_steps(compose_line(*overrides, "launcher.device=cuda"))
    assert {step.config.launcher.num_processes for step in steps} == {16}
    assert all("paths.run=/shared/" in " ".join(overrides) for _ in steps)


def test_two_nodes_of_eight_gpus_are_requested_everywhere() -> None:
    sky, dstack = content("skypilot.yaml"), content("dstack.yml")
    assert (sky["num_nodes"], sky["resources"]["accelerators"]) == (2, "H100:8")
    assert (dstack["nodes"], dstack["resources"]["gpu"]) == (2, "H100:8")
    spec = content("pytorchjob.yaml")["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 8
    assert spec["terminationGracePeriodSeconds"] > 30
