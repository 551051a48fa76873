"""Runs one training of benchmarks/gpu.py in a separate process, with r1exp's trainers or those of bare TRL.

A job is {kind: r1exp | bare, algorithm: sft | grpo | ppo, model: folder, sizes: {...}}. Needs torch, transformers, trl,
accelerate, datasets and peft, and none of r1exp's other requirements. pydantic has compiled parts; if it is not
installed, it is replaced by a stub, which suffices because every setting here is a constant.
"""

import gc
import sys
import time
import types
from pathlib import Path
from typing import Any

from turns import ROOT, TurnControl


def replace_missing_pydantic() -> None:
    """Install a stub of pydantic if it is not installed: classes of constants without validation."""
    try:
        import pydantic  # noqa: F401
    except ImportError:
        pass
    else:
        return

    class BaseModel:
        def __init__(self, **values: Any) -> None:
            for base in reversed(type(self).__mro__):
                for name in vars(base).get("__annotations__", {}):
                    if hasattr(base, name):
                        vars(self)[name] = getattr(base, name)
            vars(self).update(values)

    def stub(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name[0].isupper():
            return int  # instead of a type
        return lambda *args, **kwargs: lambda function: function  # instead of a decorator

    module = types.ModuleType("pydantic")
    vars(module).update(
        BaseModel=BaseModel, ConfigDict=dict, ValidationError=ValueError, __getattr__=stub,
        AfterValidator=lambda function: function,
        Field=lambda *args, default_factory=None, **kwargs: default_factory() if default_factory else None,
    )  # fmt: skip
    sys.modules["pydantic"] = module
    core = types.ModuleType("pydantic_core")
    vars(core).update(__getattr__=stub)
    sys.modules["pydantic_core"] = core


class TurnMeter:
    """Measures sampling time, sampled tokens and peak memory of each turn."""

    def __init__(self, device: str) -> None:
        import torch

        self.torch = torch
        self.device = device
        self.profile: Any = None
        self.num_turns = 0
        self.reset()
        self.peak = 0

    def reset(self) -> None:
        """Start a turn."""
        self.rollout_seconds = 0.0
        self.rollout_tokens = 0
        if self.device == "cuda":
            self.torch.cuda.reset_peak_memory_stats()

    def wait(self) -> None:
        """Wait until the device has finished its work."""
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def report(self) -> dict[str, Any]:
        """Return the figures of the turn that ends, and start the next one."""
        self.wait()
        if self.device == "cuda":
            self.peak = self.torch.cuda.max_memory_allocated()
            reserved = self.torch.cuda.max_memory_reserved()
        else:
            reserved = None
            self._cpu_peak()
        figures = {
            "rollout_seconds": self.rollout_seconds, "rollout_tokens": self.rollout_tokens, "peak": self.peak,
            "reserved": reserved,
        }  # fmt: skip
        self.num_turns += 1
        self.reset()
        return figures

    def profile_cpu(self) -> None:
        """Record every allocation of torch on the CPU; slow, so only for small shapes."""
        profiler = self.torch.profiler
        self.profile = profiler.profile(activities=[profiler.ProfilerActivity.CPU], profile_memory=True)
        self.profile.__enter__()

    def _cpu_peak(self) -> None:
        """Compute the peak memory of the third turn, when the optimizer has its state and memory use repeats.

        Weights that are mapped from a file are never allocated, so that the live bytes at the start are counted.
        """
        if self.profile is None:
            return
        if self.num_turns == 2:
            self.live, self.started_ns = _live_bytes(self.torch), time.time_ns()
        if self.num_turns == 3:
            self.profile.__exit__(None, None, None)
            events = [e for e in self.profile.profiler.kineto_results.events() if e.name() == "[memory]"]
            changes = sorted((event.start_ns(), event.nbytes()) for event in events)
            before = sum(size for at, size in changes if at < self.started_ns)
            level, self.peak = self.live, self.live
            for at, size in changes:
                if at >= self.started_ns:
                    level += size
                    self.peak = max(self.peak, level)
            self.allocated, self.profile = before, None

    def time_rollouts(self, trainer: Any) -> None:
        """Measure the time and tokens of sampling."""
        sample = trainer._generate_single_turn

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.wait()
            started = time.perf_counter()
            ids, logprobs = sample(*args, **kwargs)
            self.wait()
            self.rollout_seconds += time.perf_counter() - started
            self.rollout_tokens += sum(map(len, ids))
            return ids, logprobs

        trainer._generate_single_turn = timed


def _live_bytes(torch: Any) -> int:
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor)]
    tensors += [tensor.grad for tensor in tensors if tensor.is_leaf and tensor.grad is not None]
    storages = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in tensors
        if t.device.type == "cpu"
    }
    return sum(storages.values())


_TEMPLATE = """{%- for message in messages -%}
{{ message['content'] }} {{ eos_token if message['role'] == 'assistant' }}
{%- endfor -%}"""  # no token but those of the texts, and the end


def evenness(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """Return the share of even tokens, a cheap reward that differs within a group."""
    return [sum(token % 2 == 0 for token in ids) / len(ids) for ids in completion_ids]


def trainer_of(job: dict[str, Any], output: Path) -> Any:
    """Build the trainer of a job."""
    import torch
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    sizes = job["sizes"]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(job["model"])
    on_cuda = sizes["device"] == "cuda"
    common = {
        "output_dir": str(output), "max_steps": 1_000_000, "learning_rate": 1e-5, "lr_scheduler_type": "constant",
        "per_device_train_batch_size": sizes["rows"], "bf16": sizes["compute_dtype"] == "bfloat16", "use_cpu": not on_cuda,
        "gradient_checkpointing": sizes["gradient_checkpointing"], "report_to": "none", "logging_steps": 1, "disable_tqdm": True,
        "save_strategy": "no", "seed": 1, "dataloader_pin_memory": on_cuda,
    }  # fmt: skip
    if sizes["zero_stage"]:
        common["deepspeed"] = _deepspeed(sizes["zero_stage"])
    model = AutoModelForCausalLM.from_pretrained(
        job["model"], dtype=getattr(torch, sizes["dtype"]), attn_implementation=sizes["attention"]
    )
    given: dict[str, Any] = {"model": model, "processing_class": tokenizer}
    if sizes["lora"]:
        from peft import LoraConfig

        given["peft_config"] = LoraConfig(
            r=sizes["lora"], lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
        )
    if job["algorithm"] == "sft":
        text = " ".join(f"t{n % 100 + 5}" for n in range(sizes["completion_tokens"] - 1))
        tokenizer.chat_template = _TEMPLATE
        chats = [
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
            for prompt in prompts(sizes)
        ]
        rows: list[dict[str, Any]] = (
            [{"prompt": chat[:1], "completion": chat[1:]} for chat in chats]
            if job["kind"] == "bare"
            else [{"messages": chat, "learned": [1]} for chat in chats]
        )
        given |= {"args": trl.SFTConfig(**common, max_length=None), "train_dataset": Dataset.from_list(rows)}
        theirs = trl.SFTTrainer
    else:
        micro_batches = sizes["completions"] // sizes["rows"]
        sampling = {
            "num_generations": sizes["num_generations"], "max_completion_length": sizes["completion_tokens"],
            "temperature": 1.0, "steps_per_generation": micro_batches, "beta": 0.005, "loss_type": "grpo",
        }  # fmt: skip
        if job["algorithm"] == "grpo":
            sampling["gradient_accumulation_steps"] = micro_batches
        rows = [{"prompt": prompt} for prompt in prompts(sizes)]
        given |= {"reward_funcs": evenness, "train_dataset": Dataset.from_list(rows)}
        theirs = trl.GRPOTrainer
        if job["algorithm"] == "ppo":
            return _ppo(job["model"], tokenizer, {**common, **sampling}, given)
        given["args"] = trl.GRPOConfig(**common, **sampling)
    if job["kind"] == "bare":
        return theirs(**given)
    from r1exp.algorithm import trainers

    if job["algorithm"] == "sft":
        return trainers.Sft(**given, good_checkpoint=lambda most: None)
    return trainers.Grpo(**given, kl=_fixed_beta(), good_checkpoint=lambda most: None)


def _deepspeed(stage: int) -> dict[str, Any]:
    """Return the configuration that r1exp's launcher writes, and set what one rank alone needs."""
    import json
    import os

    from r1exp.launcher.base import free_port, loopback

    os.environ |= {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": loopback(), "MASTER_PORT": str(free_port(loopback())),
        "ACCELERATE_USE_DEEPSPEED": "true",
    }  # fmt: skip
    text = (ROOT / "launchers" / "deepspeed.json").read_text(encoding="utf-8")
    config: dict[str, Any] = json.loads(text.replace("$zero", json.dumps({"stage": stage})))
    return config


def _fixed_beta() -> Any:
    from r1exp.algorithm.kl_controller import KlController, KlSettings

    return KlController(KlSettings(target=None, rate=0.1, limit=0.2), 0.005)


def _ppo(path: str, tokenizer: Any, arguments: dict[str, Any], given: dict[str, Any]) -> Any:
    from r1exp.algorithm.base import TRACKED_ZERO
    from r1exp.algorithm.critic import separate_critic
    from r1exp.algorithm.ppo_trainer import Ppo, PpoConfig, PpoOptions

    return Ppo(
        **given, args=PpoConfig(**{**arguments, "beta": TRACKED_ZERO, "loss_type": "dapo"}), kl=_fixed_beta(),
        good_checkpoint=lambda most: None, critic=lambda policy: separate_critic(path, None, tokenizer, policy.dtype),
        options=PpoOptions(
            gamma=1.0, lam=0.95, value_coefficient=0.5, value_clip=0.2, whiten_advantages=True, critic_learning_rate=1e-5
        ),
    )  # fmt: skip


def prompts(sizes: dict[str, Any], number: int = 256) -> list[str]:
    """Return different prompts of equal length."""
    length = sizes["prompt_tokens"]
    return [
        " ".join(f"t{(row * 7 + position) % 100 + 5}" for position in range(length)) for row in range(number)
    ]


def train(job: dict[str, Any], folder: str, turn_control: TurnControl) -> None:
    """Build the trainer of a job and train in turns."""
    replace_missing_pydantic()
    sys.path.insert(0, str(ROOT))
    meter = TurnMeter(job["sizes"]["device"])
    if meter.device == "cpu":
        meter.profile_cpu()
    turn_control.report = meter.report
    trainer = trainer_of(job, Path(folder))
    if job["algorithm"] != "sft":
        meter.time_rollouts(trainer)
    trainer.train()
