"""The exact command that starts a step."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from r1exp.launcher.ddp import Ddp
from r1exp.launcher.fsdp2 import Fsdp2
from r1exp.launcher.local import Local
from r1exp.launcher.menu import LauncherSettings
from r1exp.launcher.zero import Zero


def local(device: str = "cpu") -> Local:
    return Local(kind="local", num_processes=1, device=device, threads_per_process=2)  # type: ignore[arg-type]


def zero(kind: str, offload: bool = False) -> Zero:
    return Zero(kind=kind, num_processes=2, device="cpu", threads_per_process=1, port=29999, offload=offload)  # type: ignore[arg-type]


@pytest.mark.parametrize("folder", ["runs/steps/01-sft", "a b/it's $HOME/ü中", 'x"y'])
def test_the_command_of_one_process_accepts_any_folder_name(folder: str) -> None:
    launch = local().launch(Path(folder))
    assert launch.arguments == (sys.executable, "-m", "r1exp.worker", folder)
    assert launch.environment == {
        "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "2",
        "OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0",
        "MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "1073741824",
        "ACCELERATE_USE_CPU": "True", "ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO",
    }  # fmt: skip
    assert launch.files == {}


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        pytest.param(
            Ddp(kind="ddp", num_processes=1, device="cuda", threads_per_process=None, port=None),
            {"distributed_type": "NO", "num_processes": 1, "use_cpu": False},
            id="one process on a GPU",
        ),
        pytest.param(
            Ddp(kind="ddp", num_processes=4, device="cpu", threads_per_process=None, port=None),
            {"distributed_type": "MULTI_GPU", "num_processes": 4, "use_cpu": True},
            id="ddp",
        ),
        pytest.param(zero("zero2"), {"distributed_type": "DEEPSPEED", "num_processes": 2}, id="zero2"),
        pytest.param(
            Fsdp2(kind="fsdp2", num_processes=1, device="cuda", threads_per_process=None, port=None),
            {"distributed_type": "FSDP", "num_processes": 1, "use_cpu": False, "mixed_precision": "no"},
            id="fsdp2",
        ),
    ],
)
def test_the_accelerate_file_states_the_settings_of_the_launcher(
    launcher: LauncherSettings, expected: dict[str, object]
) -> None:
    content = yaml.safe_load(launcher.launch(Path("step")).files["accelerate.yaml"])
    assert {key: content[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        pytest.param(zero("zero1"), {"stage": 1}, id="zero1"),
        pytest.param(
            zero("zero3"), {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}, id="zero3"
        ),
        pytest.param(
            zero("zero2", True), {"stage": 2, "offload_optimizer": {"device": "cpu"}}, id="zero2 offloaded"
        ),
    ],
)
def test_the_deepspeed_file_states_the_settings_of_the_launcher(
    launcher: Zero, expected: dict[str, object]
) -> None:
    launch = launcher.launch(Path('a "b"'))
    assert json.loads(launch.files["deepspeed.json"])["zero_optimization"] == expected
    accelerate = yaml.safe_load(launch.files["accelerate.yaml"])
    assert accelerate["deepspeed_config"]["deepspeed_config_file"] == 'a "b"/deepspeed.json'
    assert "29999" in launch.arguments


def test_fsdp2_shards_weights_layer_by_layer_and_writes_shards(tmp_path: Path) -> None:
    launcher = Fsdp2(kind="fsdp2", num_processes=2, device="cpu", threads_per_process=1, port=29998)
    launch = launcher.launch(tmp_path)
    assert yaml.safe_load(launch.files["accelerate.yaml"])["fsdp_config"] == {
        "fsdp_version": 2, "fsdp_reshard_after_forward": True, "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_state_dict_type": "SHARDED_STATE_DICT", "fsdp_cpu_ram_efficient_loading": False, "fsdp_offload_params": False,
    }  # fmt: skip
    assert "29998" in launch.arguments
    assert launch.environment["CUDA_VISIBLE_DEVICES"] == ""  # else ranks on CPUs would shard over the GPUs
    assert launcher.numerics("cpu")["launcher.is_fully_sharded"]


def test_the_shown_command_is_quoted_for_the_shell() -> None:
    shown = local().launch(Path("it's here")).text()
    assert shown.endswith("""-m r1exp.worker 'it'"'"'s here'""")
