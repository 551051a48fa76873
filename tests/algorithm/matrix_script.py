"""Carry out the cases of the matrix on this rank: `accelerate launch ... matrix_script.py FOLDER`.

For each case that FOLDER/cases.txt names, FOLDER/<case>/whole/step.json is trained; then FOLDER/<case>/resumed/step.json,
from the checkpoint of `whole` that resumed/at.txt names. With FOLDER/<case>/replay.txt every completion is a function of
its prompt and its place, so that any number of ranks trains on the same ones.
"""

import gc
import hashlib
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from accelerate import PartialState

from r1exp.stage.run_stage import leave_ranks, run_stage
from r1exp.stage.step import read_step
from r1exp.stage.unused_libraries import leave_out_unused


def replayed(trainer: Any, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
    """Stand in for TRL's sampler: tokens that the prompt, the step and the place in the group decide."""
    from trl import RLOOTrainer

    first = trainer.accelerator.process_index * len(prompt_ids)
    completions = []
    for row, prompt in enumerate(prompt_ids):
        member = (first + row) % trainer.num_generations
        seed = hashlib.sha256(repr((prompt, member, trainer.state.global_step)).encode()).digest()
        length = 2 + seed[0] % 6
        completions.append([5 + byte for byte in seed[1 : 1 + length]])
    return completions if isinstance(trainer, RLOOTrainer) else (completions, None)  # no log-probabilities


def carry_out(case: Path) -> None:
    """Train one case, and train it again from a checkpoint of the first time."""
    from trl import GRPOTrainer, RLOOTrainer

    samplers = {trainer: trainer._generate_single_turn for trainer in (GRPOTrainer, RLOOTrainer)}
    if (case / "replay.txt").exists():
        for trainer in samplers:
            trainer._generate_single_turn = replayed
    try:
        run_stage(read_step(case / "whole"), case / "whole")
        state = PartialState(cpu=True)
        at = f"checkpoint-{(case / 'resumed' / 'at.txt').read_text()}"
        if state.is_main_process:
            shutil.copytree(case / "whole" / "checkpoints" / at, case / "resumed" / "checkpoints" / at)
        state.wait_for_everyone()
        run_stage(read_step(case / "resumed"), case / "resumed")
    finally:
        for trainer, sampler in samplers.items():
            trainer._generate_single_turn = sampler
    if state.is_main_process:  # thousands of checkpoints would fill a disk
        shutil.rmtree(case / "whole" / "checkpoints")
        shutil.rmtree(case / "resumed" / "checkpoints")


def main(folder: Path) -> None:
    """Carry out every case; one that breaks leaves error.txt."""
    cases = [folder / name for name in (folder / "cases.txt").read_text().split()]
    leave_out_unused(read_step(cases[0] / "whole").config)  # before TRL is imported, as in a worker
    from trl import GRPOTrainer, RLOOTrainer  # noqa: F401 - imported so that gc.freeze applies to them

    gc.freeze()  # every trainer runs the garbage collector, which takes 0.4 s with the objects of these libraries
    for case in cases:
        begun = time.monotonic(), time.process_time()
        try:
            carry_out(case)
            spent = time.monotonic() - begun[0], time.process_time() - begun[1]
            with (folder / "seconds.txt").open("a") as file:
                file.write(f"{case.name}: {spent[0]:.1f} s, {spent[1]:.1f} CPU seconds of one rank\n")
        except Exception:
            (case / "error.txt").write_text(traceback.format_exc())
            if PartialState(cpu=True).num_processes > 1:  # the other ranks cannot go on
                raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave_ranks()
