"""Measures how fast a GPU trains and samples through r1exp and through bare TRL, and checks plan's memory estimate.

    python benchmarks/gpu.py [--out FOLDER] [--seconds 420]

Needs one CUDA GPU and the packages of PACKAGES below; no network. What is missing is named with what to type: the wheels can be
downloaded elsewhere and carried (`pip download -d wheels -c constraints.txt NAME`). pydantic is replaced where it is missing.
benchmarks/gpu_configurations.py measures memory and options in further configurations. The model has the shape of Qwen2.5-0.5B and random weights, so that completions have the
maximum length. For SFT, GRPO and PPO (critic of the same size), r1exp and bare TRL run in alternating turns. TRL has no
PPO, so that r1exp's PPO is compared with TRL's GRPO. Writes gpu.json and gpu.md, with commit and hardware. Without a
GPU it names what was not measured and exits with 0.

    rollout tokens/s   sampled tokens / seconds of sampling
    training tokens/s  tokens of prompts and completions / all other seconds: reference, values, optimizer step
    MFU                needed operations / (all other seconds * peak), where a token needs, for each
                       forward pass, 2 operations per matrix weight and 4 * layers * width * length for
                       attention, twice that for a backward pass, and the output matrix at
                       completions only; recomputation is not counted
                       (arXiv:2204.02311, appendix B)
    peak               peak memory of torch's allocator in a turn, compared with r1exp.model.memory

The exit code is 1 if the peak memory on a GPU differs from the estimate by more than 15 %.
"""

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from gpu_training import replace_missing_pydantic, train
from turns import ROOT, Cost, Runner, ratio, turns

NOT_MEASURED = "tokens/s of rollout and of training for SFT, GRPO and PPO and for bare TRL, peak memory and its estimate, MFU"
PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "trl",
    "accelerate",
    "datasets",
    "peft",
    "psutil",
    "safetensors",
)
TOLERANCE = 0.15  # of the estimate
PEAK_TFLOPS = {  # dense bfloat16 with float32 sums, from the vendor's datasheets; the first matching name is used
    "H200": 989, "H100 PCIe": 756, "H100": 989, "H20": 148, "B200": 2250, "A100": 312, "A800": 312, "L40S": 362, "L40": 181,
    "L4": 121, "A10": 125, "RTX 4090": 165, "RTX 3090": 71, "V100": 125, "T4": 65,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-0.5b": {
        "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "intermediate_size": 4864, "vocab_size": 151936, "max_position_embeddings": 32768, "tie_word_embeddings": True,
    },
    "small": {
        "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2,
        "intermediate_size": 1024, "vocab_size": 8192, "max_position_embeddings": 2048, "tie_word_embeddings": True,
    },
    "tiny": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 64, "vocab_size": 256, "max_position_embeddings": 512, "tie_word_embeddings": True,
    },
}  # fmt: skip

Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Sizes:
    """Sizes of the training. B = rows, T = prompt_tokens + completion_tokens."""

    device: str
    dtype: Dtype  # of the weights
    compute_dtype: Dtype  # of the passes
    gradient_checkpointing: bool
    rows: int  # of one forward and backward pass
    completions: int  # completions per generation batch; for SFT, rows per turn
    num_generations: int  # completions per prompt
    prompt_tokens: int
    completion_tokens: int
    attention: str = "sdpa"
    lora: int = 0  # rank of adapters; 0: all weights are trained
    zero_stage: int = 0  # of DeepSpeed, as one rank; 0: without it


SIZES = {
    "qwen2.5-0.5b": Sizes("cuda", "bfloat16", "bfloat16", False, 16, 64, 8, 128, 256),
    "small": Sizes("cpu", "float32", "float32", False, 8, 16, 4, 32, 32),
    "tiny": Sizes("cpu", "float32", "float32", False, 4, 8, 2, 8, 8),
}


def refuse_missing() -> None:
    """Exit with what is missing, and what to type."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        names = " ".join(missing)
        raise SystemExit(
            f"missing: {names}. Where there is a network: pip download -d wheels -c constraints.txt --no-deps {names}; "
            f"then here: pip install --no-index --no-deps --find-links wheels {names}"
        )


def build_model(shape: dict[str, Any], dtype: str, folder: Path) -> None:
    """Save a Qwen2 model with random weights and a word-level tokenizer with the same vocabulary size."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = AutoConfig.for_model("qwen2", **shape, eos_token_id=0, pad_token_id=1, bos_token_id=None)
    AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).save_pretrained(folder)
    special = {"<eos>": 0, "<pad>": 1, "<unk>": 2}
    words = {f"t{number}": number for number in range(len(special), shape["vocab_size"])}
    tokenizer = Tokenizer(models.WordLevel({**special, **words}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)


def estimate(algorithm: str, shape: dict[str, Any], sizes: Sizes) -> Any:
    """Return the memory estimate of `plan` for one device."""
    from r1exp.model.memory import memory_per_device
    from r1exp.model.settings import LearningRates, LoraSettings, ModelSettings, ModelShape, RowsPerDevice
    from r1exp.model.workload import Load

    shape_settings = ModelShape(**shape, qkv_bias=True)
    model = ModelSettings(
        kind="pretrained", path="random", dtype=sizes.dtype, compute_dtype=sizes.compute_dtype,
        learning_rate=LearningRates(sft=1e-5, rl=1e-5), rows_per_device=RowsPerDevice(sft=sizes.rows, rl=sizes.rows),
        gradient_checkpointing=sizes.gradient_checkpointing, attn_implementation=sizes.attention, shape=shape_settings,
        lora=LoraSettings(r=sizes.lora),
    )  # fmt: skip
    length = sizes.prompt_tokens + sizes.completion_tokens
    samples = algorithm != "sft"
    micro_batches = sizes.completions // sizes.rows
    load = Load(
        trains=True, keeps_reference=samples, rows=sizes.rows, tokens=length, logit_tokens=sizes.completion_tokens,
        sampled_rows=sizes.completions if samples else 0, device=sizes.device,  # type: ignore[arg-type]  # cpu or cuda
        accumulates=algorithm == "grpo" and micro_batches > 1,
        critic=shape_settings if algorithm == "ppo" else None, zero_stage=sizes.zero_stage,
    )  # fmt: skip
    return memory_per_device(shape_settings, model, load)


def operations(algorithm: str, shape: dict[str, Any], sizes: Sizes) -> float:
    """Return the floating-point operations that the training of one turn needs."""
    from r1exp.model.settings import ModelShape
    from r1exp.model.shapes import count_parameters

    head = shape["vocab_size"] * shape["hidden_size"]
    trunk = count_parameters(ModelShape(**shape, qkv_bias=True)) - head
    length = sizes.prompt_tokens + sizes.completion_tokens
    attention = 4 * shape["num_hidden_layers"] * shape["hidden_size"] * length
    one_trunk = sizes.completions * length * (2 * trunk + attention)  # forward
    one_head = sizes.completions * sizes.completion_tokens * 2 * head
    trunks, heads = {
        "sft": (3, 3),  # forward and backward
        "grpo": (1 + 3, 1 + 3),  # reference; update
        "ppo": (1 + 2 + 6, 1 + 1 + 3),  # reference; old log-probabilities and values; update of both
    }[algorithm]
    return float(trunks * one_trunk + heads * one_head)


def measure(
    folder: Path, shape: dict[str, Any], sizes: Sizes, num_turns: int, until: float
) -> dict[str, Any]:
    """Run the three pairs and return the turns of each training."""
    micro_batches = sizes.completions // sizes.rows
    steps = {"sft": micro_batches, "grpo": 1, "ppo": micro_batches}  # optimizer steps per turn

    def start(kind: str, algorithm: str) -> Runner:
        job = {"kind": kind, "algorithm": algorithm, "model": str(folder / "model"), "sizes": asdict(sizes)}
        output = folder / f"{kind}-{algorithm}"
        log = output.with_suffix(".log")
        return Runner(train, (job, str(output)), steps[algorithm], log, is_new=sizes.device == "cuda")

    found: dict[str, Any] = {}
    deadlines = [until - (until - time.monotonic()) * left for left in (0.8, 0.4, 0.0)]  # SFT is fast
    bare_grpo = None
    for algorithm, deadline in zip(steps, deadlines, strict=True):
        if algorithm == "ppo":
            assert bare_grpo is not None
            bare = bare_grpo
        else:
            bare = start("bare", algorithm)
        ours = start("r1exp", algorithm)
        rounds = turns({"r1exp": ours, "bare": bare}, num_turns, num_warm=3, until=deadline)
        found[algorithm] = {name: [costs[name] for costs in rounds] for name in ("r1exp", "bare")}
        ours.close()
        if algorithm == "sft":
            bare.close()
        bare_grpo = bare
        print(f"{algorithm}: {len(rounds)} turns measured", file=sys.stderr, flush=True)
    bare.close()
    return found


def figures_of(
    costs: list[Cost], algorithm: str, shape: dict[str, Any], sizes: Sizes, peak: float | None
) -> dict[str, Any]:
    """Return tokens per second, MFU and peak memory of one training."""
    rollout_seconds = sum(cost.other["rollout_seconds"] for cost in costs)
    rollout_tokens = sum(cost.other["rollout_tokens"] for cost in costs)
    training_seconds = sum(cost.wall for cost in costs) - rollout_seconds
    length = sizes.prompt_tokens + sizes.completion_tokens
    trained = len(costs) * sizes.completions * length
    achieved = len(costs) * operations(algorithm, shape, sizes) / training_seconds
    return {
        "turns": len(costs),
        "seconds_per_turn": statistics.median(cost.wall for cost in costs),
        "rollout_tokens_per_s": rollout_tokens / rollout_seconds if rollout_seconds else None,
        "training_tokens_per_s": trained / training_seconds,
        "training_tflops": achieved / 1e12,
        "mfu": None if peak is None else achieved / (peak * 1e12),
        "peak_bytes": max(cost.other["peak"] for cost in costs),
        "reserved_bytes": costs[-1].other["reserved"],
    }


def git(*arguments: str) -> str:
    """Return the output of git for this checkout; empty without git or a repository."""
    if shutil.which("git") is None:
        return ""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def hardware(device: str, commit: str | None) -> dict[str, Any]:
    """Return hardware and versions of the measurement."""
    import torch
    import transformers
    import trl

    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU ({platform.machine()})"
    return {
        "device": name, "is_gpu": device == "cuda", "commit": commit or git("rev-parse", "HEAD") or "unknown",
        "changed_since_commit": bool(git("status", "--porcelain", "-uno")), "python": platform.python_version(),
        "torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__,
        "cuda": torch.version.cuda, "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    where, sizes = result["hardware"], result["sizes"]
    kind = "" if where["is_gpu"] else " **Not figures of a GPU: a check of this script.**"
    peak = "unknown, so no MFU" if result["peak_tflops"] is None else f"{result['peak_tflops']:g} TFLOP/s"
    lines = [
        f"{where['device']}, {where['date']}, commit {where['commit'][:12]}{' with changes' if where['changed_since_commit'] else ''}, "
        f"torch {where['torch']}, transformers {where['transformers']}, trl {where['trl']}.{kind}",
        "",
        f"Shape {result['shape']}, random weights in {sizes['dtype']}, passes in {sizes['compute_dtype']}; {sizes['completions']} rows per turn, "
        f"{sizes['rows']} per pass, {sizes['prompt_tokens']} + {sizes['completion_tokens']} tokens. Assumed peak: {peak}.",
        "",
        "| training | rollout tokens/s | training tokens/s | MFU | peak memory | estimate | difference | bare TRL seconds / r1exp seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for algorithm, row in result["rows"].items():
        for name in ("bare", "r1exp"):
            is_ours = name == "r1exp"
            if algorithm == "ppo" and not is_ours:
                continue
            one = row[name]
            rollout = "" if one["rollout_tokens_per_s"] is None else f"{one['rollout_tokens_per_s']:,.0f}"
            mfu = "" if one["mfu"] is None else f"{100 * one['mfu']:.1f} %"
            low, high = row["interval"]
            ratio_text = f"{row['ratio']:.3f} ({low:.3f} to {high:.3f})" if is_ours else ""
            what = f"{'TRL' if name == 'bare' else 'r1exp'} {algorithm.upper()}"
            lines.append(
                f"| {what} | {rollout} | {one['training_tokens_per_s']:,.0f} | {mfu} | {one['peak_bytes'] / 1e9:.3g} GB "
                f"| {row['estimate']['total'] / 1e9:.3g} GB | {100 * one['off']:+.1f} % | {ratio_text} |"
            )
    return "\n".join([*lines, "", "PPO is compared with TRL's GRPO, because TRL has no PPO.", ""])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--seconds", type=float, default=420.0, help="no turn starts later")
    parser.add_argument("--turns", type=int, default=12, help="maximum number of measured turns of each pair")
    parser.add_argument("--commit", help="measured commit, if git is not installed")
    parser.add_argument("--weights", choices=["bfloat16", "float32"], help="dtype of the weights")
    parser.add_argument("--compute", choices=["bfloat16", "float32"], help="dtype of the passes")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--rows", type=int, help="rows of one pass; use fewer on a small GPU")
    # --device=cpu is used by the tests.
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--shape", choices=list(SHAPES), default="qwen2.5-0.5b", help=argparse.SUPPRESS)
    given = parser.parse_args()
    until = time.monotonic() + given.seconds
    if given.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            print(f"no CUDA GPU on this machine; not measured: {NOT_MEASURED}")
            return 0
    refuse_missing()
    replace_missing_pydantic()
    sys.path.insert(0, str(ROOT))
    shape, sizes = SHAPES[given.shape], replace(SIZES[given.shape], device=given.device)
    sizes = replace(
        sizes, dtype=given.weights or sizes.dtype, compute_dtype=given.compute or sizes.compute_dtype,
        gradient_checkpointing=given.gradient_checkpointing, rows=given.rows or sizes.rows,
    )  # fmt: skip
    where = hardware(given.device, given.commit)
    peak = next((number for name, number in PEAK_TFLOPS.items() if name in where["device"]), None)
    with tempfile.TemporaryDirectory() as folder:
        build_model(shape, sizes.dtype, Path(folder, "model"))
        found = measure(Path(folder), shape, sizes, given.turns, until)
    rows: dict[str, dict[str, Any]] = {}
    for algorithm, pair in found.items():
        expected = estimate(algorithm, shape, sizes)
        total = expected.total - expected.context  # torch's allocator does not see CUDA's context
        value, low, high = ratio([b.wall / o.wall for o, b in zip(pair["r1exp"], pair["bare"], strict=True)])
        rows[algorithm] = {
            "ratio": value, "interval": [low, high], "estimate": {**asdict(expected), "total": total},
            **{name: figures_of(costs, algorithm, shape, sizes, peak) for name, costs in pair.items()},
        }  # fmt: skip
        for name in pair:
            rows[algorithm][name]["off"] = total / rows[algorithm][name]["peak_bytes"] - 1.0
    result = {
        "hardware": where, "shape": given.shape, "sizes": asdict(sizes), "peak_tflops": peak, "rows": rows,
    }  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "gpu.json").write_text(json.dumps(result, indent=2) + "\n")
    (given.out / "gpu.md").write_text(table(result))
    print(table(result))
    return 1 if where["is_gpu"] and any(abs(row["r1exp"]["off"]) > TOLERANCE for row in rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
