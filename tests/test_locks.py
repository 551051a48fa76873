"""The pinned versions for machines without a GPU and with CUDA can be installed; the latter are resolved, not downloaded."""

import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DIFFERENT = {"numpy", "setuptools"}  # vLLM's CUDA build accepts neither version of constraints.txt
NOT_NEEDED = {"sandboxes", "quantization"}  # part of the extra dev


def pins(name: str) -> dict[str, str]:
    """Return package -> version of a constraints file."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in found)
    return {package.lower().replace("_", "-"): version for package, version in found}


def test_machines_with_cuda_get_the_versions_of_all_others_but_two() -> None:
    plain, cuda = pins("constraints.txt"), pins("constraints-cuda.txt")
    assert {package for package, version in plain.items() if cuda.get(package) != version} == DIFFERENT
    assert {"vllm", "deepspeed", "torch"} <= cuda.keys()


@pytest.mark.integration
@pytest.mark.skipif(find_spec("uv") is None, reason="uv is not installed: pip install -e '.[dev]'")
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_part_can_be_installed_on_a_machine_with_cuda(python: str, tmp_path: Path) -> None:
    """uv reads the metadata of the CUDA wheels for that Python; pip would read those of this Python, and download them."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = extras["optional-dependencies"].keys() - NOT_NEEDED
    resolved = tmp_path / "resolved.txt"
    done = subprocess.run(
        [
            sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config", "--no-annotate", "--no-header",
            "--python-platform", "x86_64-manylinux_2_28", "--python-version", python,
            "--constraint", "constraints-cuda.txt",
            *(part for name in sorted(names) for part in ("--extra", name)),
            "pyproject.toml", "--output-file", str(resolved),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if "dns error" in done.stderr or "Failed to fetch" in done.stderr:
        pytest.skip(f"the package index cannot be reached: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    found = dict(
        line.split("==") for line in resolved.read_text(encoding="utf-8").splitlines() if "==" in line
    )
    assert (found["torch"], found["vllm"]) == ("2.13.0", "0.31.0")
    assert "nvidia-nccl-cu13" in found  # the metadata are those of the build for CUDA
    assert set(found) <= set(pins("constraints-cuda.txt"))  # nothing is left open
