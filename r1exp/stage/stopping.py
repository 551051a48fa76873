"""How do all ranks save a checkpoint at the same optimizer step when the step is asked to end?

Rank 0 looks for the request (`r1exp.step.stop_request`) after each update, and broadcasts what it found: the ranks
meet there in every update, so they agree, whatever the launcher is. transformers' own
`enable_jit_checkpoint` lets each rank decide by the clock when a signal reached it; two ranks can then save
at different updates, or one wait for the other for ever.
"""

from pathlib import Path
from typing import Any, get_args

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from r1exp.errors import R1ExpError
from r1exp.step.stop_request import AskedState, StopRequest, asked

_STATES: tuple[AskedState, ...] = get_args(AskedState)
_GO_ON = -1


class StopCallback(TrainerCallback):
    """Ends a training step, saved, when it is asked to."""

    def __init__(self, step_folder: Path) -> None:
        self._folder = step_folder
        self.request: StopRequest | None = None  # what ended the step; its state is the same on every rank

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask, once an optimizer step, whether to go on. After the last one the step is simply finished."""
        if state.global_step >= state.max_steps:
            return
        self.request = _agreed(asked(self._folder) if state.is_world_process_zero else None, args.device)
        if self.request is not None:
            control.should_save = True
            control.should_training_stop = True

    def error(self) -> R1ExpError | None:
        """Return what the step ends with; None where it was not asked to end."""
        return None if self.request is None else self.request.error()


def _agreed(request: StopRequest | None, device: torch.device) -> StopRequest | None:
    """Return rank 0's request on every rank; all of them must call it."""
    if not torch.distributed.is_initialized():
        return request
    state = torch.tensor(_GO_ON if request is None else _STATES.index(request.state), device=device)
    torch.distributed.broadcast(state, src=0)
    number = int(state.item())
    if number == _GO_ON:
        return None
    return request or StopRequest(state=_STATES[number], reason="rank 0 was asked to end")
