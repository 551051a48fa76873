"""Saves a checkpoint at the same optimizer step on all ranks when the step is requested to end.

Rank 0 checks for the request (`r1exp.step.stop_request`) after each optimizer step and broadcasts the result, so that
all ranks agree with any launcher. With transformers' own `enable_jit_checkpoint` each rank decides when it receives a
signal; two ranks can then save at different optimizer steps, or one can wait for the other for ever.
"""

from pathlib import Path
from typing import Any, get_args

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from r1exp.errors import R1ExpError
from r1exp.step.stop_request import RequestedState, StopRequest, requested_stop

_STATES: tuple[RequestedState, ...] = get_args(RequestedState)
_CONTINUE = -1


class StopCallback(TrainerCallback):
    """Saves a checkpoint and ends training when that is requested."""

    def __init__(self, step_folder: Path) -> None:
        self._folder = step_folder
        # The request that ended the step; its state is the same on every rank.
        self.request: StopRequest | None = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check for a request after each optimizer step except the last, which ends training anyway."""
        if state.global_step >= state.max_steps:
            return
        self.request = _agreed(
            requested_stop(self._folder) if state.is_world_process_zero else None, args.device
        )
        if self.request is not None:
            control.should_save = True
            control.should_training_stop = True

    def error(self) -> R1ExpError | None:
        """Return the error that the step ends with, or None."""
        return None if self.request is None else self.request.error()


def _agreed(request: StopRequest | None, device: torch.device) -> StopRequest | None:
    """Return rank 0's request on every rank. A collective operation: every rank must call it."""
    if not torch.distributed.is_initialized():
        return request
    state = torch.tensor(_CONTINUE if request is None else _STATES.index(request.state), device=device)
    torch.distributed.broadcast(state, src=0)
    number = int(state.item())
    if number == _CONTINUE:
        return None
    return request or StopRequest(state=_STATES[number], reason="rank 0 received a request to end")
