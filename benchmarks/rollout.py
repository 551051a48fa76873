"""Measures how many tokens per second vLLM generates in this process, compared with transformers.

    python benchmarks/rollout.py [--model FOLDER] [--rounds 5] [--prompts 32] [--completions 8]

With the same weights, prompts and sampling in one process of one thread, the generators of rollout=vllm_colocate and
rollout=hf generate alternately, after one warm-up round each. Prints tokens per second of processor time, which other
load on the machine affects less (with CUDA: of wall time), and the ratio vllm / hf with its 95 % interval over rounds.
The default model is that of conf/model/tiny.yaml with random weights. Without vLLM nothing is measured.
"""

import argparse
import os
import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from turns import build_tiny_policy, freeze, ratio


def main() -> None:
    """Run the rounds and print the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, help="folder that from_pretrained loads")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--completions", type=int, default=8, help="completions per prompt")
    parser.add_argument("--tokens", type=int, default=64, help="maximum tokens of a completion")
    given = parser.parse_args()
    if find_spec("vllm") is None:
        print("not measured: rollout=vllm_colocate / rollout=hf; vLLM is not installed (make vllm)")
        return
    with tempfile.TemporaryDirectory() as name:
        model = given.model.resolve() if given.model else Path(name) / "policy"
        os.chdir(name)
        if given.model is None:
            build_tiny_policy(model)
        measure(model, Path(name), given)


def measure(model: Path, folder: Path, given: Any) -> None:
    """Run both generators on the same prompts alternately, and print their speeds and the ratio."""
    import torch

    from r1exp.prompt.chat import messages
    from r1exp.rollout.base import Sampling
    from r1exp.stage.generator import generator_for

    torch.set_num_threads(1)  # before vLLM, which forbids it
    on_gpu = torch.cuda.is_available()
    clock = time.perf_counter if on_gpu else time.process_time
    steps = {
        kind: freeze(["stage=evaluate", f"rollout={kind}", f"model.path={model}"], folder / kind)
        for kind in ("hf", "vllm_colocate")
    }
    if on_gpu:
        steps = {kind: step.model_copy(update={"device": "cuda"}) for kind, step in steps.items()}
    config = steps["hf"].config
    prompts = [messages(problem.prompt, config.prompt) for problem in config.dataset.load("test")]
    generators = {kind: generator_for(step, folder / kind) for kind, step in steps.items()}
    speeds: dict[str, list[float]] = {kind: [] for kind in generators}
    for number in range(given.rounds + 1):
        sampling = Sampling(temperature=1.0, max_tokens=given.tokens, seed=number)
        for kind, generator in generators.items():
            started = clock()
            groups = generator.generate(prompts[: given.prompts], given.completions, sampling)
            seconds = clock() - started
            tokens = sum(completion.num_tokens for group in groups for completion in group)
            speeds[kind] += [tokens / seconds] if number else []
    for kind, values in speeds.items():
        print(f"{kind}: {statistics.median(values):.0f} tokens per second")
    pairs = zip(speeds["vllm_colocate"], speeds["hf"], strict=True)
    value, low, high = ratio([vllm / hf for vllm, hf in pairs])
    print(
        f"vllm_colocate / hf: {value:.2f}, 95 % interval {low:.2f} to {high:.2f}, {given.rounds} "
        f"rounds of {given.prompts} x {given.completions} completions of at most {given.tokens} tokens"
    )


if __name__ == "__main__":
    main()
