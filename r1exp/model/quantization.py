"""What `model.quantization` needs, and the bytes that it saves. Torch-free.

    4bit   NormalFloat4 in blocks of 64 weights, whose scales are 8-bit numbers themselves (QLoRA, arXiv:2305.14314):
           4.127 bits a weight
    8bit   LLM.int8() (arXiv:2208.07339): one byte a weight, and a float32 scale for each row

The matrices of attention and MLP are quantized; embeddings, the output matrix and the norms keep `model.dtype`.
"""

from importlib.util import find_spec

from r1exp.errors import Refused
from r1exp.model.settings import ModelSettings, Quantization

BYTES_PER_WEIGHT: dict[Quantization, float] = {"4bit": 4.127 / 8, "8bit": 1.0}
PACKAGE = "bitsandbytes"


def refuse_missing_library(settings: ModelSettings) -> None:
    """Raise Refused if the model is to be quantized and bitsandbytes is not installed."""
    if settings.quantization is not None and find_spec(PACKAGE) is None:
        raise Refused(
            f"model.quantization={settings.quantization} needs {PACKAGE}, which is not installed; type: "
            "pip install 'r1exp[quantization]'"
        )


def refuse_unable(settings: ModelSettings, *, partitions_weights: bool, uses_vllm: bool) -> None:
    """Raise ValueError if a step cannot work with a quantized model.

    Args:
        settings: The policy.
        partitions_weights: Whether each rank holds a part of each weight only: ZeRO-3 and FSDP2.
        uses_vllm: Whether vLLM generates for the step.
    """
    if settings.quantization is None:
        return
    if partitions_weights:
        raise ValueError(
            f"model.quantization={settings.quantization}: ZeRO-3 and FSDP2 cannot partition quantized weights; use launcher=ddp or "
            "launcher=zero2, where every rank holds all of them"
        )
    if uses_vllm:
        raise ValueError(
            f"model.quantization={settings.quantization}: vLLM would generate with other weights than those that are "
            "trained, because it neither reads nor receives weights quantized by bitsandbytes; use rollout=hf"
        )
