"""Several processes on this machine, with DeepSpeed ZeRO.

Source: ZeRO (arXiv:1910.02054), section 5.
"""

import json
from pathlib import Path
from typing import Any, Literal

from r1exp.launcher.base import Device, Launcher, filled
from r1exp.launcher.extensions import refuse_without_deepspeed
from r1exp.launcher.this_machine import OnThisMachine
from r1exp.paths import StepPaths


class Zero(OnThisMachine):
    """DeepSpeed partitions optimizer states (1), gradients too (2), weights too (3) across the ranks."""

    kind: Literal["zero1", "zero2", "zero3"]
    offload: bool  # optimizer states, and with zero3 the weights, are kept in the host's memory

    @property
    def zero_stage(self) -> int:
        """The ZeRO stage."""
        return stage_of(self.kind)

    @property
    def is_offloaded(self) -> bool:
        """Whether states are kept in the host's memory."""
        return self.offload

    def refuse_unready(self) -> None:
        """Raise Refused if DeepSpeed is not installed, or would wait for an abandoned lock for ever."""
        refuse_without_deepspeed(self.kind)

    def files(self, folder: Path, device: Device) -> dict[str, str]:
        """Return accelerate's and DeepSpeed's configuration."""
        return deepspeed_files(self, folder, device)


def stage_of(strategy: str) -> int:
    """Return the ZeRO stage that a strategy names, zero1 to zero3; 0 of any other."""
    return int(strategy.removeprefix("zero")) if strategy.startswith("zero") else 0


def deepspeed_files(launcher: Launcher, folder: Path, device: Device) -> dict[str, str]:
    """Return the files of a launcher with a ZeRO stage: name below the step's folder -> text."""
    paths = StepPaths(folder)
    section = (
        "deepspeed_config:\n"
        f"  deepspeed_config_file: {json.dumps(str(paths.deepspeed_config))}\n"
        "  zero3_init_flag: false\n"
        "  deepspeed_multinode_launcher: standard\n"  # accelerate's default is pdsh, which needs a host file
    )
    return {
        paths.deepspeed_config.name: filled("deepspeed.json", zero=json.dumps(_zero_optimization(launcher))),
        # The precision is in deepspeed.json; accelerate 1.15 refuses it in both files.
        paths.accelerate_config.name: launcher.accelerate_file(device, section, "DEEPSPEED", precision=""),
    }


def _zero_optimization(launcher: Launcher) -> dict[str, Any]:
    """Return DeepSpeed's section `zero_optimization`."""
    zero: dict[str, Any] = {"stage": launcher.zero_stage}
    if launcher.is_offloaded:
        zero["offload_optimizer"] = {"device": "cpu"}
    if launcher.zero_stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
        if launcher.is_offloaded:
            zero["offload_param"] = {"device": "cpu"}
    return zero
