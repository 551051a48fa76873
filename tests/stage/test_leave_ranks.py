"""A rank leaves its process group before the interpreter ends."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_work_without_torch_does_not_import_it_to_leave() -> None:
    program = "import sys; from r1exp.stage.run_stage import leave_ranks; leave_ranks(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.slow
def test_no_process_group_is_left(tmp_path: Path) -> None:
    program = f"""
from torch import distributed
from r1exp.stage.run_stage import leave_ranks

leave_ranks()  # without a group there is nothing to leave
distributed.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=0, world_size=1)
distributed.new_group([0], backend="gloo")
leave_ranks()
assert not distributed.is_initialized()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
