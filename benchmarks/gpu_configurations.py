"""Compares the memory estimate of `plan` with the peak on a GPU, and the speed of options, in one configuration after another.

    python benchmarks/gpu_configurations.py --plan              # the estimates, without a GPU
    python benchmarks/gpu_configurations.py [--out FOLDER]      # measure all
    python benchmarks/gpu_configurations.py --only lora ppo-zero2

Needs what benchmarks/gpu.py needs; DeepSpeed too for those named zero, which run as one rank. Each configuration trains GRPO or PPO
through r1exp's trainers for some turns in a process of its own. The base is the shipped mix: float32 weights, bfloat16 passes,
gradient checkpointing, SDPA. Writes gpu_configurations.json and .md. Not measured even on a GPU: two ranks on one card, which NCCL
refuses, and vLLM. Without a GPU it names what was not measured and exits with 0.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpu import PEAK_TFLOPS, SHAPES, SIZES, Sizes, build_model, estimate, figures_of, hardware, refuse_missing
from gpu_training import replace_missing_pydantic, train
from turns import ROOT, Runner

# Name -> algorithm, and what differs from the base.
CONFIGURATIONS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "base": ("grpo", {}),
    "no checkpointing": ("grpo", {"gradient_checkpointing": False}),
    "half the rows": ("grpo", {"rows": 0.5}),
    "eager attention": ("grpo", {"attention": "eager"}),
    "bfloat16 weights": ("grpo", {"dtype": "bfloat16"}),
    "lora": ("grpo", {"lora": 16, "dtype": "bfloat16"}),
    "sft": ("sft", {}),
    "ppo": ("ppo", {}),
    "zero2": ("grpo", {"zero_stage": 2}),
    "zero3": ("grpo", {"zero_stage": 3}),
    "ppo-zero2": ("ppo", {"zero_stage": 2}),
    "ppo-zero3": ("ppo", {"zero_stage": 3}),
}
TOLERANCE = 0.10  # of the estimate


def sizes_of(base: Sizes, changes: Mapping[str, Any]) -> Sizes:
    """Return the sizes of a configuration; `rows` is a share of the base's."""
    rows = max(1, int(base.rows * changes.get("rows", 1)))
    return replace(base, **{**changes, "rows": rows})


def measured(
    algorithm: str, shape: dict[str, Any], sizes: Sizes, num_turns: int, folder: Path
) -> dict[str, Any]:
    """Train for some turns and return the figures."""
    build_model(shape, sizes.dtype, folder / "model")
    steps = sizes.completions // sizes.rows if algorithm in ("sft", "ppo") else 1
    job = {"kind": "r1exp", "algorithm": algorithm, "model": str(folder / "model"), "sizes": asdict(sizes)}
    runner = Runner(train, (job, str(folder / "out")), steps, folder / "log", is_new=sizes.device == "cuda")
    for _ in range(3):  # a CPU's peak is known after the third turn
        runner.turn()
    costs = [runner.turn() for _ in range(num_turns)]
    runner.close()
    peak = next(
        (number for name, number in PEAK_TFLOPS.items() if name in hardware(sizes.device, None)["device"]),
        None,
    )
    return figures_of(costs, algorithm, shape, sizes, peak)


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the rows as Markdown; a configuration that was not measured has its estimate only."""
    lines = [
        "| configuration | training | estimate | peak | difference | rollout tokens/s | training tokens/s | MFU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        found = row.get("figures")
        cells = [name, row["algorithm"].upper(), f"{row['estimate'] / 1e9:.3g} GB"]
        if found is None:
            cells += [row.get("why", "not measured"), "", "", "", ""]
        else:
            rollout, mfu = found["rollout_tokens_per_s"], found["mfu"]
            cells += [
                f"{found['peak_bytes'] / 1e9:.3g} GB", f"{100 * row['off']:+.1f} %", "" if rollout is None else f"{rollout:,.0f}",
                f"{found['training_tokens_per_s']:,.0f}", "" if mfu is None else f"{100 * mfu:.1f} %",
            ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--plan", action="store_true", help="print the estimates and measure nothing")
    parser.add_argument("--only", nargs="+", choices=list(CONFIGURATIONS), default=list(CONFIGURATIONS))
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--turns", type=int, default=4, help="measured turns of each configuration")
    parser.add_argument("--seconds", type=float, default=540.0, help="no configuration starts later")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--shape", choices=list(SHAPES), default="qwen2.5-0.5b", help=argparse.SUPPRESS)
    given = parser.parse_args()
    until = time.monotonic() + given.seconds
    refuse_missing()
    replace_missing_pydantic()
    sys.path.insert(0, str(ROOT))
    shape = SHAPES[given.shape]
    base = replace(
        SIZES[given.shape], device=given.device, dtype="float32", gradient_checkpointing=True,
        compute_dtype="float32" if given.shape == "tiny" else "bfloat16",
    )  # fmt: skip
    rows: dict[str, dict[str, Any]] = {}
    for name in given.only:
        algorithm, changes = CONFIGURATIONS[name]
        expected = estimate(algorithm, shape, sizes_of(base, changes))
        rows[name] = {
            "algorithm": algorithm,
            "estimate": expected.total - expected.context,
            "parts": asdict(expected),
        }
    if given.plan:
        print(table(rows))
        return 0
    if given.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            print(
                f"no CUDA GPU on this machine; not measured: peak memory and speed of {', '.join(given.only)}"
            )
            return 0
    for name, row in rows.items():
        algorithm, changes = CONFIGURATIONS[name]
        if changes.get("zero_stage") and find_spec("deepspeed") is None:
            row["why"] = "not measured: no DeepSpeed"
        elif time.monotonic() > until:
            row["why"] = "not measured: no time left"
        else:
            with tempfile.TemporaryDirectory() as folder:
                row["figures"] = measured(
                    algorithm, shape, sizes_of(base, changes), given.turns, Path(folder)
                )
            row["off"] = row["estimate"] / row["figures"]["peak_bytes"] - 1.0
    given.out.mkdir(parents=True, exist_ok=True)
    result = {
        "hardware": hardware(given.device, None),
        "shape": given.shape,
        "base": asdict(base),
        "rows": rows,
    }
    (given.out / "gpu_configurations.json").write_text(json.dumps(result, indent=2) + "\n")
    (given.out / "gpu_configurations.md").write_text(table(rows))
    print(table(rows))
    return (
        1
        if given.device == "cuda" and any(abs(row.get("off", 0.0)) > TOLERANCE for row in rows.values())
        else 0
    )


if __name__ == "__main__":
    sys.exit(main())
