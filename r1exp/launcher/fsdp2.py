"""Several processes on this machine, whose weights, gradients and optimizer states torch's FSDP2 cuts into shards.

accelerate 1.15 does it (`fully_shard` for each decoder layer) where its file says `distributed_type: FSDP`. Its own names of the
options are used. On a CPU its ranks need `r1exp.model.shards.shard_on_cpus` in addition.

Source: FSDP (arXiv:2304.11277); torch 2.13, torch.distributed.fsdp.fully_shard.
"""

from pathlib import Path
from typing import Literal

from r1exp.launcher.base import Device, Launcher
from r1exp.launcher.this_machine import OnThisMachine
from r1exp.launcher.zero import deepspeed_files
from r1exp.paths import StepPaths

# Each rank reads the whole model into the host's memory. With `fsdp_cpu_ram_efficient_loading` only rank 0 would, and TRL 1.16 would
# leave the reference of the others empty.
SECTION = """\
fsdp_config:
  fsdp_version: 2
  fsdp_reshard_after_forward: true
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_state_dict_type: SHARDED_STATE_DICT
  fsdp_cpu_ram_efficient_loading: false
  fsdp_offload_params: false
"""


class Fsdp2(OnThisMachine):
    """FSDP2 cuts weights, gradients and optimizer states among the ranks, and gathers the weights of one layer at a time."""

    kind: Literal["fsdp2"]

    @property
    def is_fully_sharded(self) -> bool:
        """Whether FSDP2 holds the weights: yes."""
        return True

    def files(self, folder: Path, device: Device) -> dict[str, str]:
        """Return accelerate's configuration."""
        return fsdp_files(self, folder, device)


def strategy_files(launcher: Launcher, folder: Path, device: Device) -> dict[str, str] | None:
    """Return the files of a launcher whose strategy is ZeRO or FSDP2; None of another."""
    if launcher.zero_stage:
        return deepspeed_files(launcher, folder, device)
    return fsdp_files(launcher, folder, device) if launcher.is_fully_sharded else None


def fsdp_files(launcher: Launcher, folder: Path, device: Device) -> dict[str, str]:
    """Return the file of a launcher with FSDP2: name below the step's folder -> text."""
    text = launcher.accelerate_file(device, section=SECTION, distributed_type="FSDP")
    return {StepPaths(folder).accelerate_config.name: text}
