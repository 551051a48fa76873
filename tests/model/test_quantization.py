"""Tests of `model.quantization`: what is refused, what it saves, and real adapters on quantized weights on a CPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from r1exp.errors import Refused
from r1exp.model import quantization
from r1exp.model.memory import memory_per_device
from r1exp.model.quantization import refuse_missing_library, refuse_unable
from r1exp.model.settings import ModelSettings
from r1exp.model.shapes import shape_of
from r1exp.model.workload import Load

ReadModel = Callable[..., ModelSettings]
LORA = {"r": 4, "alpha": 32, "dropout": 0.0, "target_modules": "all-linear"}
every_quantization = pytest.mark.parametrize("bits", ["4bit", "8bit"])


@every_quantization
def test_quantized_weights_without_adapters_are_refused(bits: str, read_model: ReadModel) -> None:
    with pytest.raises(ValidationError, match=rf"quantization={bits}: .* model\.lora\.r=16"):
        read_model("tiny", quantization=bits)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        pytest.param(
            {"partitions_weights": True, "uses_vllm": False}, "launcher=ddp or", id="ZeRO-3 and FSDP2"
        ),
        pytest.param({"partitions_weights": False, "uses_vllm": True}, "rollout=hf", id="vLLM"),
    ],
)
def test_what_cannot_hold_quantized_weights_is_refused(
    where: dict[str, Any], message: str, read_model: ReadModel
) -> None:
    settings = read_model("tiny", quantization="4bit", lora=LORA)
    with pytest.raises(ValueError, match=message):
        refuse_unable(settings, **where)
    refuse_unable(settings, partitions_weights=False, uses_vllm=False)


def test_a_missing_library_is_refused_with_what_to_install(
    read_model: ReadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    with pytest.raises(Refused, match=r"pip install 'r1exp\[quantization\]'"):
        refuse_missing_library(read_model("tiny", quantization="8bit", lora=LORA))
    refuse_missing_library(read_model("tiny"))


def test_the_estimate_knows_the_bytes_of_quantized_weights(read_model: ReadModel) -> None:
    def weights(**changes: Any) -> int:
        settings = read_model("qwen2.5-1.5b", lora=LORA, **changes)
        shape = shape_of(settings)
        assert shape is not None
        load = Load(
            trains=True, keeps_reference=True, rows=1, tokens=8, logit_tokens=8, sampled_rows=0,
        )  # fmt: skip
        return memory_per_device(shape, settings, load).weights

    # 1.31 billion weights in matrices of layers; 0.23 billion elsewhere keep float32.
    assert [round(size / 1e9, 2) for size in (weights(), weights(quantization="8bit"))] == [6.19, 2.26]
    assert round(weights(quantization="4bit") / 1e9, 2) == 1.63


@pytest.mark.slow
@every_quantization
def test_adapters_on_quantized_weights_learn_and_become_a_plain_model(
    bits: str, read_model: ReadModel, tiny_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    import torch
    from peft import get_peft_model

    from r1exp.model.load import load_policy, load_tokenizer, peft_config, save_artifact

    plain = read_model("tiny", lora=LORA)
    settings = read_model("tiny", lora=LORA, quantization=bits)
    torch.manual_seed(0)
    base = load_policy(str(tiny_folder), settings)
    assert base.model.layers[0].mlp.up_proj.weight.dtype in (torch.uint8, torch.int8)
    model = get_peft_model(base, peft_config(settings))
    tokenizer = load_tokenizer(str(tiny_folder), plain)
    ids_bt = tokenizer("What is 3 + 4 + 9?\n<think>3+4=7</think>", return_tensors="pt")["input_ids"]
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=5e-3)
    losses = []
    for _ in range(4):
        loss = model(input_ids=ids_bt, labels=ids_bt).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    save_artifact(
        model, tokenizer, tmp_path / "artifact", load_base=lambda: load_policy(str(tiny_folder), plain)
    )
    again = load_policy(str(tmp_path / "artifact"), plain)
    assert again.dtype == torch.float32 and not getattr(again, "is_quantized", False)
    with torch.inference_mode():
        learned = again(input_ids=ids_bt, labels=ids_bt).loss.item()
        before = load_policy(str(tiny_folder), plain)(input_ids=ids_bt, labels=ids_bt).loss.item()
    assert learned < before - 0.5 * (losses[0] - losses[-1])
