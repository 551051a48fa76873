"""Compares PPO through r1exp with TRL 1.12, the last release with a PPO trainer: completions per second, and what is learned.

    python benchmarks/ppo.py [--processes 5] [--turns 4] [--trl FOLDER] [--plain] [--learn] [--seeds 1,2,3] [--policy FOLDER]

Both train the same policy (tiny, after some SFT) with a critic of its size, a reference and the same rule as reward. A turn is
256 completions: sampled, scored, and trained on in four minibatches of 64, an optimizer step for each. Two processes of one
thread each run in alternating turns (benchmarks/turns.py), in several pairs of new processes; the learning rate is almost 0, so
that the lengths do not change. A ratio is the geometric mean over the pairs of the median over their turns, with Student's
95 % interval over the pairs. `--plain` measures r1exp in addition with its options for PPO's speed off. The exit code is 1 if
r1exp makes less than 1.2 times the completions per second of TRL.

`--learn` trains both from the same policy with the same rates and compares the mean reward of the last batches, for each seed; both
then take each completion from another prompt.

TRL 1.12 is not installed beside TRL 1.16: `--trl` is a folder with it; without it, it is installed into a temporary folder. It
is PPO of `trl.experimental`, which differs in that it takes each completion from another prompt, has one norm limit for nothing
(it does not clip gradients), and logs less.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from turns import ROOT, Cost, Runner, TurnControl, freeze, over_pairs, pairs, start_through_r1exp

REQUIRED = 1.2
ROWS = 256  # completions of a turn
LAST = 5  # generation batches whose rewards are compared
PLAIN = ["algorithm.short_passes=false", "algorithm.sampled_logps=false"]
AS_THEIRS = ["num_generations=1", "algorithm.prompts_per_step=64"]  # each completion answers another prompt
COMMON = [
    "stage=rl", "algorithm=ppo", "model.path=policy", "evaluation.before=false", "evaluation.after=false", "tracking=none",
    "rewards=strict", "~rewards.format", "health=off", "launcher.threads_per_process=1", "trainer.save_strategy=no",
    "trainer.lr_scheduler_type=constant", "trainer.warmup_steps=0",
]  # fmt: skip


def theirs(job: str, turn_control: TurnControl | None) -> None:
    """Train with TRL 1.12's PPO. job: {trl, model, rows: [{prompt, answer}], arguments, rates: of policy and critic, output}."""
    given = json.loads(Path(job).read_text())
    sys.path[:0] = [given["trl"], str(ROOT / "tests" / "algorithm")]
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    import bare_rewards  # type: ignore[import-not-found]  # on the path since the lines above
    import torch
    import trl
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer  # on the path since the lines above

    assert trl.__version__.startswith("1.12"), trl.__version__
    tokenizer = AutoTokenizer.from_pretrained(given["model"], padding_side="left")
    texts = [
        tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        for row in given["rows"]
    ]
    prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    answers = {tuple(ids): row["answer"] for ids, row in zip(prompts, given["rows"], strict=True)}
    lengths = sorted({len(ids) for ids in prompts})

    class Judge(torch.nn.Module):
        """The rule as a reward model: the score of a row at each of its positions."""

        base_model_prefix = "rule"

        def __init__(self) -> None:
            super().__init__()
            self.rule = self.read

        def read(self, input_ids: Any, attention_mask: Any, **_: Any) -> Any:
            scores = []
            for ids, mask in zip(input_ids, attention_mask, strict=True):
                tokens = ids[mask].tolist()
                length = next(length for length in lengths if tuple(tokens[:length]) in answers)
                reply = tokenizer.decode(tokens[length:], skip_special_tokens=True)
                scores += bare_rewards.strict([[{"content": reply}]], [answers[tuple(tokens[:length])]])
            hidden = torch.tensor(scores)[:, None, None].expand(-1, input_ids.size(1), -1)
            return type("Output", (), {"hidden_states": [hidden]})

        def score(self, hidden: Any) -> Any:
            return hidden

    class Turns(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            if turn_control is not None:
                turn_control.end_turn()

        on_step_end = on_train_begin

    scores: list[float] = []

    class Scores(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "objective/scores" in logs:
                scores.append(logs["objective/scores"])

    policy = AutoModelForCausalLM.from_pretrained(given["model"], attn_implementation="sdpa")
    critic = AutoModelForSequenceClassification.from_pretrained(
        given["model"], num_labels=1, attn_implementation="sdpa"
    )
    torch.nn.init.zeros_(critic.score.weight)
    groups = [
        {"params": list(module.parameters()), "lr": rate}
        for module, rate in zip((policy, critic), given["rates"], strict=True)
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    trainer = PPOTrainer(
        args=PPOConfig(**given["arguments"], output_dir=given["output"]),
        processing_class=tokenizer,
        model=policy,
        ref_model=AutoModelForCausalLM.from_pretrained(given["model"], attn_implementation="sdpa"),
        reward_model=Judge(),
        value_model=critic,
        train_dataset=Dataset.from_list([{"input_ids": ids} for ids in prompts]),
        optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)),
        callbacks=[Turns(), Scores()],
    )
    trainer.train()
    Path(given["output"], "scores.json").write_text(json.dumps(scores))


def job_of(step: Any, trl: Path, folder: Path, num_batches: int) -> Path:
    """Write the job of `theirs` that equals a PPO step of r1exp; return its file."""
    ours, algorithm = step.trainer_args, step.config.algorithm
    minibatches = ours["steps_per_generation"] // ours["gradient_accumulation_steps"]
    system = {"role": "system", "content": step.config.prompt.system}
    rows = [
        {"prompt": [system, {"role": "user", "content": problem.prompt}], "answer": problem.answer}
        for problem in step.config.dataset.load("train")
    ]
    arguments = {
        # An optimizer step follows each minibatch only with one accumulated pass: it cuts the whole batch into minibatches.
        "per_device_train_batch_size": ROWS, "gradient_accumulation_steps": 1, "num_mini_batches": minibatches,
        "num_ppo_epochs": ours["num_iterations"], "total_episodes": ROWS * num_batches, "response_length": ours["max_completion_length"],
        "temperature": ours["temperature"], "stop_token": "eos", "kl_coef": step.config.beta, "gamma": algorithm.gamma,
        "lam": algorithm.gae_lambda, "vf_coef": algorithm.value_coefficient, "cliprange_value": algorithm.value_clip,
        "cliprange": ours["epsilon"], "local_rollout_forward_batch_size": ROWS, "num_sample_generations": 0,
        "gradient_checkpointing": False, "bf16": False, "use_cpu": True, "report_to": "none", "disable_tqdm": True,
        "save_strategy": "no", "logging_steps": 1, "seed": ours["seed"],
    }  # fmt: skip
    folder.mkdir(parents=True)
    job = {
        "trl": str(trl), "model": str(step.model_path), "rows": rows, "arguments": arguments, "output": str(folder),
        "rates": [ours["learning_rate"], algorithm.critic.learning_rate],
    }  # fmt: skip
    file = folder / "job.json"
    file.write_text(json.dumps(job))
    return file


def speed(given: argparse.Namespace, trl: Path, folder: Path) -> float:
    """Print the ratios of completions per second, and return that of the default."""
    kinds = {"r1exp": [], **({"r1exp, options off": PLAIN} if given.plain else {})}
    rates = ["learning_rate=1e-7", "algorithm.critic.learning_rate=1e-7", "max_steps=100000"]
    steps = {
        kind: freeze([*COMMON, *rates, *more, *given.override], folder / f"frozen-{index}")
        for index, (kind, more) in enumerate(kinds.items())
    }
    one = steps["r1exp"].trainer_args
    num_steps = one["steps_per_generation"] // one["gradient_accumulation_steps"] * one["num_iterations"]
    job = str(job_of(steps["r1exp"], trl, folder / "theirs", 100_000))
    starts = {"TRL 1.12": lambda: Runner(theirs, (job,), 1, folder / "theirs.txt", is_new=True)}
    for kind, step in steps.items():
        starts[kind] = lambda step=step: start_through_r1exp(step, folder, num_steps)  # type: ignore[misc]
    found = pairs(starts, given.processes, given.turns)

    def ratio(clock: str, kind: str) -> tuple[float, float, float]:
        return over_pairs(
            [
                [getattr(costs["TRL 1.12"], clock) / getattr(costs[kind], clock) for costs in rounds]
                for rounds in found
            ]
        )

    def median(kind: str) -> float:
        costs: list[Cost] = [costs[kind] for rounds in found for costs in rounds]
        return ROWS / statistics.median(cost.processor for cost in costs)

    print("| PPO | completions per second | TRL 1.12 | ratio | 95 % interval | ratio of wall times |")
    print("|---|---|---|---|---|---|")
    for kind in kinds:
        value, low, high = ratio("processor", kind)
        print(
            f"| {kind} | {median(kind):.0f} | {median('TRL 1.12'):.0f} | {value:.2f} | {low:.2f} to {high:.2f} "
            f"| {ratio('wall', kind)[0]:.2f} |"
        )
    print(f"waiting processes per core: {os.getloadavg()[0] / (os.cpu_count() or 1):.1f}", flush=True)
    return ratio("processor", "r1exp")[0]


def learn(given: argparse.Namespace, trl: Path, folder: Path) -> None:
    """Print the mean reward of the first and the last batches of each seed."""
    print(f"| seed | PPO | reward of the first batch | mean of the last {LAST} |\n|---|---|---|---|")
    for seed in map(int, given.seeds.split(",")):
        overrides = [*COMMON, *AS_THEIRS, f"seed={seed}", f"max_steps={4 * given.batches}", *given.override]
        step = freeze(overrides, folder / f"learn-{seed}")
        own = folder / f"theirs-{seed}"
        job = job_of(step, trl, own, given.batches)
        environment = os.environ | {"PYTHONPATH": str(ROOT / "benchmarks")}
        script = f"import ppo; ppo.theirs({str(job)!r}, None)"
        run = {"cwd": folder, "check": True, "capture_output": True}
        subprocess.run([sys.executable, "-c", script], env=environment, **run)  # type: ignore[call-overload]
        print_rewards(seed, "TRL 1.12", json.loads((own / "scores.json").read_text()))
        kinds = {"r1exp": [], **({"r1exp, options off": PLAIN} if given.plain else {})}
        for kind, more in kinds.items():
            name = f"ours-{seed}-{len(more)}"
            subprocess.run([sys.executable, "-m", "r1exp", *overrides, *more, f"paths.run={name}"], **run)  # type: ignore[call-overload]
            lines = (folder / name / "steps" / "01-ppo" / "metrics.jsonl").read_text().splitlines()
            rewards = [row["reward"] for row in map(json.loads, lines) if row.get("reward") is not None]
            print_rewards(seed, kind, rewards)


def print_rewards(seed: int, kind: str, rewards: list[float]) -> None:
    """Print a line of the table."""
    print(
        f"| {seed} | {kind} | {rewards[0]:.3f} | {statistics.mean(rewards[-LAST:]):.3f} |",
        flush=True,
    )


def main() -> int:
    """Measure, and return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=5, help="pairs of processes")
    parser.add_argument("--turns", type=int, default=4, help="measured turns of each pair")
    parser.add_argument("--trl", type=Path, help="folder with TRL 1.12")
    parser.add_argument("--policy", type=Path, help="folder of the policy; none: trained with SFT first")
    parser.add_argument("--plain", action="store_true", help="measure with the options for speed off, too")
    parser.add_argument("--learn", action="store_true", help="compare what is learned instead of the speed")
    parser.add_argument("--seeds", default="1,2,3", help="of --learn")
    parser.add_argument("--batches", type=int, default=40, help="generation batches of --learn")
    parser.add_argument("override", nargs="*", help="further settings of r1exp")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        trl = given.trl and given.trl.resolve()
        source = given.policy and given.policy.resolve()
        os.chdir(folder)
        if trl is None:
            trl = folder / "trl"
            pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(trl)]
            subprocess.run([*pip, "trl==1.12.0"], check=True)
        if source is None:
            from algorithms import policy

            policy(folder, 150)
        else:
            (folder / "policy").symlink_to(source)
        if given.learn:
            learn(given, trl, folder)
            return 0
        value = speed(given, trl, folder)
    return 0 if math.isfinite(value) and value >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())
