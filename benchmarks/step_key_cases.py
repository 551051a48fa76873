"""The command lines that benchmarks/step_keys.py measures: a base for each stage, and how each setting is changed.

A change of another type than a yes or no, or a number, is written here by hand, and so is one that has an effect only
together with other settings (`Case.setup`), or that cannot be measured, with the reason.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

# Unlike that of the tiny model it writes the system text, and reads a variable.
_TEMPLATE = """{%- for message in messages -%}
{{ message['content'] }}{{ eos_token if message['role'] == 'assistant' else ' ' }}
{%- endfor -%}{{ '!' if add_generation_prompt and loud is defined and loud }}"""
# The rows of stage=filter: question, answer, solution and pass rate, with what each filter is to find.
_WALK = (
    "Tom walks to the market in the morning and buys three big red apples and pears for his little sister, "
    "who waits at home."
)
_RIVER = "A boat crosses the wide river four times every day and carries twelve people on each of its trips."
_CARTS = "How many wheels do 9 carts with 2 oxen have in all?"
_FILTERED: tuple[tuple[str, str, str, float | None], ...] = (
    (_WALK, "3", "He buys three.", 0.25),
    (_WALK.upper(), "3", "He buys three.", 0.25),  # the same question in more tokens
    (_WALK, "3", "He buys three.", 0.25),  # the same row
    (_WALK.replace("at home", "over there"), "3", "He buys three.", 0.5),  # a near duplicate
    (_WALK.replace("in the morning", "at noon"), "3", "He buys three.", 0.5),  # a less similar one
    (_RIVER.replace("four", "six").replace("twelve", "nine"), "54", "6 * 9 = 54.", 0.5),  # a near copy
    (_RIVER.replace("wide river", "wide stream"), "48", "4 * 12 = 48.", 0.5),  # a near copy with another word
    (
        "A boat crosses the wide river four times every day and carries mail.",
        "4",
        "Four.",
        0.5,
    ),  # a less similar one
    (
        "Every day and in any weather a boat crosses the wide river, with fish.",
        "1",
        "One.",
        0.5,
    ),  # shares some words
    (_CARTS.replace("9", "7").replace("2", "3"), "28", "7 * 4 = 28.", 0.75),  # a near copy of few words
    ("How many wheels has a cart?", "4", "Four.", 0.75),
    ("How many wheels has a cart?", "2", "Two at most.", 0.75),  # the same question with another answer
    ("小明有三个苹果，又得到十二个。小明现在有几个苹果？", "15", "三加十二等于十五。", 0.75),
    ("Ada says 你好 to 小明 and counts the birds, then adds two.", "2", "Two.", 1.0),  # partly Chinese
    (" ".join(f"Bird number {number} sits on the roof." for number in range(12)), "12", "Twelve.", 0.0),
    ("What is two and two?", "4", " ".join(["Two and two is four."] * 8), None),  # a long solution
)
_EVALUATED: tuple[tuple[str, str], ...] = (
    (_RIVER, "48"),
    (_CARTS, "36"),
    ("A very long train with twenty wagons leaves the station early and comes back late at night.", "20"),
)
_COMMON = (
    "tracking=none", "evaluation.before=false", "evaluation.after=false",
    "launcher.device=cpu", "launcher=local",
    "debug=fast", "debug.max_completion_length=20", "debug.num_prompts=8", "debug.num_rows=64", "debug.num_problems=8",
)  # fmt: skip
_SUMS = ("dataset.num_operands=2", "dataset.max_operand=9")
_TRAINING = ("trainer.warmup_steps=0", "trainer.logging_steps=1")
_SHAPE = ("model.shape.hidden_size=64", "model.shape.intermediate_size=128")
_OTHER_RULES = tuple(
    f"~health.rules.{name}"
    for name in (
        "kl_explosion",
        "completions_clipped",
        "no_signal",
        "entropy_collapse",
        "stale_rollouts",
        "gradient_clipped",
        "length_collapse",
        "weak_signal",
        "reward_std_low",
        "reward_std_high",
        "reward_hacking",
        "sampler_gap",
        "no_improvement",
    )
)  # one rule that stops and one that warns are left


@dataclass(frozen=True)
class Case:
    """How one setting is changed."""

    change: tuple[str, ...]
    setup: tuple[str, ...] = ()  # typed in addition to the base, with and without the change
    idle: str | None = None  # why the setting is in the key although the change may have no effect


@dataclass(frozen=True)
class Unmeasured:
    """A setting that is not changed."""

    reason: str


Found = Case | Unmeasured | None


@dataclass(frozen=True)
class Inputs:
    """What the bases read, in one folder."""

    folder: Path

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)

    def recipes(self) -> list[tuple[str, str, list[str]]]:
        """Return (name, stage, command line) of each artifact, in the order in which they are made."""
        start = [*_COMMON, *_SUMS, *_SHAPE, "stage=sft", "debug.rows_per_step=32", "debug.num_rows=2000"]
        answers = [*_COMMON, *_SUMS, "stage=sample", f"model.path={self['start']}", "debug.num_prompts=40"]
        return [
            ("start", "sft", [*start, "max_steps=150"]),
            ("other-start", "sft", [*start, "max_steps=100"]),
            ("samples", "sample", answers),
            ("other-samples", "sample", [*answers, "seed=2"]),
            ("pairs", "preferences", [*_COMMON, "stage=preferences", f"stage.samples={self['samples']}"]),
            (
                "more-pairs",
                "preferences",
                [*_COMMON, "stage=preferences", f"stage.samples={self['other-samples']}"],
            ),
        ]

    def finish(self) -> None:
        """Give the start models dropout, and write problems whose answers are equal numbers and other texts."""
        for name in ("start", "other-start"):
            file = self.folder / name / "config.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | {"attention_dropout": 0.1}))
        template = (
            shutil.copytree(self.folder / "start", self.folder / "with-template") / "chat_template.jinja"
        )
        template.write_text(_TEMPLATE)
        rows: list[dict[str, str]] = []
        for line in (self.folder / "samples" / "data.jsonl").read_text().splitlines():
            row = json.loads(line)
            text = row["answer"] if len(rows) % 2 else f"{row['answer']}.0"
            rows.append({"id": row["id"], "question": row["question"], "answer": text})
        self._write("decimals.jsonl", rows)
        filtered = [
            {"question": question, "answer": answer, "solution": solution, "pass_rate": rate}
            for question, answer, solution, rate in _FILTERED
        ]
        self._write("unfiltered.jsonl", filtered)
        self._write("fewer-unfiltered.jsonl", filtered[:-2])
        for name, questions in (("evaluated.jsonl", _EVALUATED), ("fewer-evaluated.jsonl", _EVALUATED[:1])):
            self._write(name, [{"question": question, "answer": answer} for question, answer in questions])

    def _write(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@dataclass(frozen=True)
class Base:
    """The command line of a stage, whose settings let as many others as possible matter."""

    kind: str  # of the stage
    overrides: tuple[str, ...]
    reads: dict[str, str] = field(default_factory=dict)  # setting -> name of the input

    def line(self, inputs: Inputs) -> list[str]:
        """Return the command line."""
        return merged(
            [*_COMMON, *self.overrides, *(f"{key}={inputs[name]}" for key, name in self.reads.items())]
        )


def merged(overrides: Sequence[str]) -> list[str]:
    """Return the overrides without those whose key is typed again later, and those of a data set that is replaced."""
    last: dict[str, str] = {}
    for text in overrides:
        key = text.partition("=")[0].lstrip("+")
        if key == "dataset":
            last = {name: other for name, other in last.items() if not name.startswith("dataset.")}
        last[key] = text
    return list(last.values())


_FROM_START = {"model.path": "start"}
_PAIRS = {**_FROM_START, "dataset.path": "pairs/data.jsonl"}
_ONLINE = (
    "stage=rl", *_TRAINING, *_SUMS, "algorithm.minibatches=2", "trainer.epsilon=1e-4", "model.learning_rate.rl=1e-3",
    "trainer.max_grad_norm=0.1", "debug.max_completion_length=15",
)  # fmt: skip
BASES: dict[str, Base] = {
    "sft": Base("sft", ("stage=sft", *_TRAINING, *_SUMS, *_SHAPE)),
    "grpo": Base("rl", (*_ONLINE, "algorithm=grpo"), _FROM_START),
    "ppo": Base("rl", (*_ONLINE, "algorithm=ppo", *_OTHER_RULES), _FROM_START),
    "dpo": Base("rl", ("stage=rl", "algorithm=dpo", "pipeline=none", "dataset=preference", *_TRAINING, *_OTHER_RULES), _PAIRS),
    "reward_model": Base("reward_model", ("stage=reward_model", "dataset=preference", *_TRAINING, *_OTHER_RULES), _PAIRS),
    "sample": Base("sample", ("stage=sample", *_SUMS, "debug.num_problems=null", *_OTHER_RULES), _FROM_START),
    "generate": Base("generate", ("stage=generate", *_SUMS, "debug.num_problems=null", *_OTHER_RULES), _FROM_START),
    "distil": Base("distil", ("stage=distil", *_TRAINING, *_SUMS, *_OTHER_RULES, "model.learning_rate.rl=1e-3", "trainer.max_grad_norm=0.1"), {**_FROM_START, "stage.teacher": "other-start"}),
    "filter": Base(
        "filter",
        ("stage=filter", "dataset=jsonl", "stage.max_prompt_tokens=130", "stage.max_total_tokens=145", *_OTHER_RULES),
        {**_FROM_START, "stage.path": "unfiltered.jsonl", "dataset.path": "evaluated.jsonl", "dataset.test_path": "evaluated.jsonl"},
    ),
    "preferences": Base("preferences", ("stage=preferences", *_SUMS, *_OTHER_RULES), {"stage.samples": "samples"}),
    "evaluate": Base("evaluate", ("stage=evaluate", *_SUMS, "debug.num_problems=null", "dataset.num_test=12", *_OTHER_RULES), _FROM_START),
}  # fmt: skip

_LORA = ("model.lora.r=2",)
# The last number of a completion is read where it has no answer in the style's tags, and is often the same.
_NOISY = (
    "temperature=1.5",
    "debug.max_completion_length=20",
    "debug.num_prompts=40",
    "debug.rows_per_step=16",
)
# Dropout of adapters, because TRL disables modules only, and the dropout of the tiny model's attention is none.
_DROPOUT = (*_LORA, "model.lora.dropout=0.5")
_TRAINED_DROPOUT = Case(("model.lora.dropout=0.5",), (*_LORA, "trainer.disable_dropout=false"))
_EACH_STEP = ("algorithm.minibatches=1",)
_KL = ("algorithm.kl.target=1e-6",)
_PASSES: dict[str, Any] = {
    "algorithm.short_passes": Case(("algorithm.short_passes=false",)),
    # bnpo is a mean over the tokens of a pass.
    "trainer.loss_type": Case(("trainer.loss_type=bnpo",), ("algorithm.short_passes=false",)),
}
_NO_LLAMA = Unmeasured("describes published models; the tiny model is a Llama and takes no other value")
_NO_ADAPTERS = Unmeasured("the stage refuses adapters")
_KIND = Unmeasured("chooses the type of its group, whose fields are settings of their own")
# Key pattern -> the changes, or why there is none. The first pattern that fits counts.
BY_HAND: dict[str, Case | Unmeasured | Callable[[Inputs], Case]] = {
    "*.kind": _KIND,
    "tracking": Unmeasured("a tracker needs its library; it writes metrics and no artifact"),
    "launcher.num_processes": Unmeasured("needs several processes; it is in the part for digits"),
    "launcher.device": Case(("launcher.device=auto",)),
    "launcher.threads_per_process": Case(("launcher.threads_per_process=2",)),
    "model.path": lambda inputs: Case((f"model.path={inputs['other-start']}",)),
    "model.revision": Unmeasured("names a version on the hub, which the start models here are not from"),
    "model.*dtype": Case(("model.*dtype=bfloat16",)),
    "model.attn_implementation": Case(("model.attn_implementation=eager",)),
    "model.lora.r": Case(_LORA),
    "model.lora.alpha": Case(("model.lora.alpha=64",), _LORA),
    "model.lora.dropout": Case(("model.lora.dropout=0.5",), _LORA),
    "model.lora.target_modules": Case(("model.lora.target_modules=[q_proj]",), _LORA),
    "model.quantization": Unmeasured("needs bitsandbytes"),
    "model.chat_template_kwargs": lambda inputs: Case(("+model.chat_template_kwargs.loud=true",), (f"model.path={inputs['with-template']}",)),
    "model.shape.hidden_size": Case(("model.shape.hidden_size=32",)),
    "model.shape.num_hidden_layers": Case(("model.shape.num_hidden_layers=1",)),
    "model.shape.num_attention_heads": Case(("model.shape.num_attention_heads=8",)),
    "model.shape.num_key_value_heads": Case(("model.shape.num_key_value_heads=2",)),
    "model.shape.head_dim": Case(("model.shape.head_dim=32",)),
    "model.shape.qkv_bias": _NO_LLAMA,
    "model.shape.num_norms_per_layer": _NO_LLAMA,
    "model.rows_per_device.*": Case(("model.rows_per_device.*=2",)),
    "prompt.style": Case(("prompt.style=reasoning_summary",)),
    "prompt.system": lambda inputs: Case(("prompt.system=Add.",), (f"model.path={inputs['with-template']}",)),
    "dataset.path": lambda inputs: Case((f"dataset.path={inputs['more-pairs/data.jsonl']}",)),
    "dataset.num_train": Case(("dataset.num_train=40",)),
    "dataset.test_share": Case(("dataset.test_share=0.5",)),
    "dataset.test_path": lambda inputs: Case((f"dataset.test_path={inputs['more-pairs/data.jsonl']}",)),
    "dataset.limit": Case(("dataset.limit=10",)),
    "rollout.batch_size": Case(("rollout.batch_size=3",)),
    "evaluation.judge": Case(("evaluation.judge=strict",)),
    "evaluation.max_tokens": Case(("evaluation.max_tokens=8",)),
    "evaluation.num_problems": Case(("evaluation.num_problems=5",)),
    "evaluation.top_p": Case(("evaluation.top_p=0.5",)),
    "debug.max_steps": Case(("debug.max_steps=1",)),
    "debug.num_problems": Case(("debug.num_problems=5",)),
    "debug.num_rows": Case(("debug.num_rows=10",)),
    "debug.num_prompts": Case(("debug.num_prompts=5",)),
    "debug.rows_per_step": Case(("debug.rows_per_step=2",)),
    "debug.num_generations": Case(("debug.num_generations=2",)),
    "debug.max_completion_length": Case(("debug.max_completion_length=8",)),
    "max_completion_length": Case(("max_completion_length=10",)),
    "algorithm": Case(("algorithm=grpo",)),
    "rewards": Case(("rewards=strict",)),
    "learning_rate": Case(("learning_rate=1e-4",)),
    "max_steps": Case(("max_steps=3",)),
    "beta": Case(("beta=0.5",)),
    "num_generations": Case(("num_generations=2",)),
    "temperature": Case(("temperature=0.7",)),
    "algorithm.track_kl": Case(("algorithm.track_kl=false",), ("beta=0", "health.rules.kl_high.action=stop", "health.rules.kl_high.above=0", "health.rules.kl_high.window=1")),
    "algorithm.kl.target": Case(("algorithm.kl.target=1e-6",)),
    "algorithm.kl.rate": Case(("algorithm.kl.rate=0.5",), _KL),
    "algorithm.kl.limit": Case(("algorithm.kl.limit=0.1",), _KL),
    "algorithm.critic.path": lambda inputs: Case((f"algorithm.critic.path={inputs['other-start']}",)),
    "algorithm.value_clip": Case(("algorithm.value_clip=null",), ("algorithm.value_clip=1e-4",)),
    "rewards.*.applies_to": Case(("rewards.*.applies_to={operands: 2 2}",)),
    "rewards.*.style": Case(("rewards.*.style=reasoning_summary",), _NOISY, "the tiny model rarely writes a number after its answer, which another style would read"),
    "rewards.graded.exact": Case(("rewards.graded.exact=3.0",)),
    "rewards.graded.equal": lambda inputs: Case(("rewards.graded.equal=0.1",), ("dataset=jsonl", "dataset.num_test=4", f"dataset.path={inputs['decimals.jsonl']}")),
    "rewards.xml_count.most": Case(("rewards.xml_count.most=0.4",)),
    "stage.too_long": Case(("stage.too_long=drop",), ("trainer.max_length=80",), "drop gives what refuse gives where no row is too long; where one is, refuse gives no result"),
    "stage.samples": Case(("stage.samples=3",)),
    "stage.num_problems": Case(("stage.num_problems=5",)),
    "stage.min_pass_rate": Case(("stage.min_pass_rate=0.5",)),
    "stage.max_pass_rate": Case(("stage.max_pass_rate=0.5",)),
    "stage.min_margin": Case(("stage.min_margin=2.0",)),
    "stage.top_p": Case(("stage.top_p=0.5",)),
    "stage.only_finished": Case(("stage.only_finished=false",), ("debug.max_completion_length=8",)),
    "stage.min_reward": Case(("stage.min_reward=1.0",), ("rewards=graded",)),
    "stage.price_input": Case(("stage.price_input=2",), ("stage.price_input=1", "stage.price_output=1")),
    "stage.price_output": Case(("stage.price_output=2",), ("stage.price_input=1", "stage.price_output=1")),
    "stage.budget_tokens": Case(("stage.budget_tokens=1000000000",)),
    "stage.budget_money": Case(("stage.budget_money=1000000",), ("stage.price_input=1", "stage.price_output=1")),
    "stage.num_pairs": Case(("stage.num_pairs=3",)),
    "trainer": Unmeasured("empty; the stage trains nothing"),
    "trainer.lr_scheduler_type": Case(("trainer.lr_scheduler_type=constant",)),
    "trainer.warmup_steps": Case(("trainer.warmup_steps=1",)),
    "trainer.max_length": Case(("trainer.max_length=28",), ("stage.too_long=drop",)),
    # The rules see logged rows: a row for each step, or one for both.
    "trainer.logging_steps": Case(("trainer.logging_steps=2",), tuple(f"health.rules.gradient_explosion.{text}" for text in ("relative=false", "start_at_least=null", "above=1e-9", "window=2"))),
    "trainer.disable_dropout": Case(("trainer.disable_dropout=false",), _DROPOUT),
    "trainer.epsilon_high": Case(("trainer.epsilon_high=0.5",)),
    "trainer.num_iterations": Case(("trainer.num_iterations=2",), ("algorithm.minibatches=1",)),
    "trainer.top_p": Case(("trainer.top_p=0.5",)),
    "trainer.top_k": Case(("trainer.top_k=2",)),
    "trainer.importance_sampling_level": Case(("trainer.importance_sampling_level=sequence",)),
    "trainer.multi_objective_aggregation": Case(("trainer.multi_objective_aggregation=normalize_then_sum",)),
    "trainer.loss_type": Case(("trainer.loss_type=bnpo",)),
    "trainer.scale_rewards": Case(("trainer.scale_rewards=batch",)),
    "trainer.weight_decay": Case(("trainer.weight_decay=0.5",)),
    "trainer.label_smoothing": Case(("trainer.label_smoothing=0.2",), ("trainer.loss_type=[robust]",)),
    "trainer.f_divergence_type": Case(("trainer.f_divergence_type=forward_kl",)),
    "trainer.center_rewards_coefficient": Case(("trainer.center_rewards_coefficient=0.1",)),
    "trainer.max_grad_norm": Case(("trainer.max_grad_norm=0.01",)),
}  # fmt: skip
# Stage -> key -> the change in this stage, where it differs.
_OF_THE_DATA = "part of the fingerprint of the file of evaluated questions; the rows are those of stage.path"
_COLUMN = Unmeasured("names a column, and the files have no others")
_DEBUG_KEEPS_ALL = "a debug run keeps a row of each problem"
OF_STAGE: dict[str, dict[str, Case | Unmeasured | Callable[[Inputs], Case]]] = {
    "sft": {
        "model.path": lambda inputs: Case((f"model.path={inputs['start']}",)),
        "model.lora.dropout": Case(("model.lora.dropout=0.5",), _LORA),
        "stage.chat_turns": Case(("stage.chat_turns=last",), idle="sums are no chats"),
    },
    "evaluate": {
        "prompt.style": Case(("prompt.style=reasoning_summary",), ("evaluation.samples=8", "evaluation.temperature=1.5")),
    },
    "grpo": {**_PASSES, "model.lora.dropout": _TRAINED_DROPOUT},
    "ppo": {
        **_PASSES,
        "model.lora.dropout": _TRAINED_DROPOUT,
        # The penalty is computed once per generation batch.
        "algorithm.kl.target": Case(("algorithm.kl.target=1e-6",), _EACH_STEP),
        "algorithm.kl.rate": Case(("algorithm.kl.rate=0.5",), (*_KL, *_EACH_STEP)),
        "algorithm.kl.limit": Case(("algorithm.kl.limit=0.1",), (*_KL, *_EACH_STEP)),
    },
    "dpo": {
        "model.lora.dropout": _TRAINED_DROPOUT,
        "trainer.max_length": Case(("trainer.max_length=25",)),
        "trainer.loss_type": Case(("trainer.loss_type=[ipo]",)),
    },
    "reward_model": {
        "model.lora.alpha": _NO_ADAPTERS,
        "model.lora.dropout": _NO_ADAPTERS,
        "model.lora.target_modules": _NO_ADAPTERS,
        "trainer.disable_dropout": Case(("trainer.disable_dropout=false",), idle="the tiny model has no dropout module"),
        "trainer.max_length": Case(("trainer.max_length=30",)),
    },
    "sample": {
        "dataset.num_train": Case(("dataset.num_train=10",), ("stage.num_problems=null", "dataset.num_train=12")),
        "debug.num_rows": Case(("debug.num_rows=6",)),
        "stage.bounds": Case(("stage.bounds={graded: 1.9}",), idle=_DEBUG_KEEPS_ALL),
        "stage.distinct": Case(("stage.distinct=answer",), ("stage.keep=4",), idle="a random policy answers nothing twice"),
        "stage.min_reward": Case(("stage.min_reward=1.0",), idle=_DEBUG_KEEPS_ALL),
        "stage.allow_code": Case(("stage.allow_code=false",), idle=_DEBUG_KEEPS_ALL),
        "stage.num_rows": Case(("stage.num_rows=2",)),
        "stage.language": Case(("stage.language=en",), ("stage.min_language_share=0.9",), idle=_DEBUG_KEEPS_ALL),
        "stage.min_language_share": Case(("stage.min_language_share=0.9",), ("stage.language=en",), idle=_DEBUG_KEEPS_ALL),
        "stage.max_paragraph": Case(("stage.max_paragraph=3",), idle=_DEBUG_KEEPS_ALL),
    },
    "distil": {
        "stage.teacher": lambda inputs: Case((f"stage.teacher={inputs['start']}",)),
        "model.lora.dropout": _TRAINED_DROPOUT,
    },
    "filter": {
        "stage.path": lambda inputs: Case((f"stage.path={inputs['fewer-unfiltered.jsonl']}",)),
        "dataset.test_path": lambda inputs: Case((f"dataset.test_path={inputs['fewer-evaluated.jsonl']}",)),
        "dataset.num_test": Case(("dataset.num_test=5",), idle=_OF_THE_DATA),
        "dataset.limit": Case(("dataset.limit=1",), idle=_OF_THE_DATA),
        "dataset.test_limit": Case(("dataset.test_limit=1",)),
        "dataset.question": _COLUMN,
        "dataset.answer": _COLUMN,
        "dataset.solution": _COLUMN,
        "debug.num_rows": Case(("debug.num_rows=10",), idle=_OF_THE_DATA),
        "prompt.style": Case(("prompt.style=boxed",)),
        # One more token for each prompt, of which three have 99.
        "model.chat_template_kwargs": lambda inputs: Case(
            ("+model.chat_template_kwargs.loud=true",),
            (f"model.path={inputs['with-template']}", "prompt.system=Add.", "stage.max_prompt_tokens=99"),
        ),
        "stage.max_prompt_tokens": Case(("stage.max_prompt_tokens=40",)),
        "stage.max_total_tokens": Case(("stage.max_total_tokens=60",)),
        "stage.min_pass_rate": Case(("stage.min_pass_rate=0.4",)),
        "stage.max_pass_rate": Case(("stage.max_pass_rate=0.6",)),
        "stage.languages": Case(("stage.languages=[en]",)),
        "stage.language_share": Case(("stage.language_share=0.5",), ("stage.languages=[en]",)),
        "stage.contamination.shared_ngram": Case(("stage.contamination.shared_ngram=5",)),
        "stage.contamination.against": Case(("stage.contamination.against.more.dataset=arithmetic",)),
        "stage.duplicates": Case(("stage.duplicates=row",), ("stage.near_duplicates=null",)),
        "stage.permutations": Case(("stage.permutations=256",), idle="finds candidates, which are compared with all their n-grams"),
        "stage.examples": Case(("stage.examples=0",)),
    },
    "generate": {
        "model.dtype": Case(("model.dtype=bfloat16",), _NOISY),
        "prompt.style": Case(("prompt.style=reasoning_summary",), (*_NOISY, "stage.only_right=false")),
        "dataset.num_train": Case(("dataset.num_train=10",), ("dataset.num_train=12", "debug.num_prompts=12")),
        "debug.num_rows": Case(("debug.num_rows=6",)),
        "temperature": Case(("temperature=2.0",), _NOISY),
        "stage.only_finished": Case(("stage.only_finished=false",), (*_NOISY, "stage.only_right=false")),
        "stage.min_reward": Case(("stage.min_reward=1.0",), (*_NOISY, "stage.only_right=false", "rewards=graded")),
    },
    "preferences": {
        "stage.samples": lambda inputs: Case((f"stage.samples={inputs['other-samples']}",)),
    },
}  # fmt: skip
_ANY_METRIC = {
    "above": "1e9",
    "below": "null",
    "relative": "false",
    "start_at_least": "null",
    "beside": "null",
}
_RATE = {"metric": "learning_rate"}
# Field of a health rule -> what is set with and without the change, and the change.
_RULES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "metric": ({**_RATE, "above": "0.05"}, {"metric": "grad_norm"}),
    "above": ({}, {"above": "1e-9"}),
    "below": ({}, {"above": "null", "below": "1e9"}),
    "relative": ({**_RATE, "above": "0.1"}, {"relative": "true"}),
    "start_at_least": ({**_RATE, "above": "0.1", "relative": "true", "start_at_least": "1.0"}, {"start_at_least": "null"}),
    "beside": ({"above": "1e-9"}, {"beside": "train_runtime"}),
    "window": ({"above": "1e-9"}, {"window": "3"}),
    "advice": ({}, {"advice": "none"}),
}  # fmt: skip


def case_of(stage: str, key: str, value: Any, inputs: Inputs) -> Found:
    """Return how a setting is changed; None: its type does not say, and nobody has.

    Args:
        stage: Name of a base.
        key: The dotted key.
        value: Its value in the base.
        inputs: The folder that paths lead to.
    """
    if key.startswith("health.rules."):
        return _rule_case(key, value)
    by_hand = OF_STAGE.get(stage, {}).get(key) or next(
        (found for pattern, found in BY_HAND.items() if fnmatch(key, pattern)), None
    )
    if isinstance(by_hand, Case):
        return _named(by_hand, key)
    if isinstance(by_hand, Unmeasured):
        return by_hand
    if by_hand is not None:
        return by_hand(inputs)
    if isinstance(value, bool):
        return Case((f"{key}={str(not value).lower()}",))
    if isinstance(value, int):
        return Case((f"{key}={2 * value or 1}",))
    if isinstance(value, float):
        return Case((f"{key}={value / 2 or 0.5}",))
    return None


def _named(case: Case, key: str) -> Case:
    """Return a case whose change names the key, where it was found by a pattern."""
    return Case(
        tuple(f"{key}={text.partition('=')[2]}" if "*" in text else text for text in case.change),
        case.setup,
        case.idle,
    )


_CONDITIONAL = (
    "gradient_clipped",
    "weak_signal",
    "reward_std_low",
    "reward_std_high",
    "reward_hacking",
    "no_improvement",
)


def _rule_case(key: str, value: Any) -> Case | Unmeasured:
    """Return the change of a field of a health rule, with a rule that it lets stop the step, or keeps from it."""
    rule, name = key.rpartition(".")[::2]
    if rule.rpartition(".")[2] in _CONDITIONAL:
        return Unmeasured("a rule with a condition: tests/health/test_monitor.py")
    if name == "action":
        setup, change = {"above": "1e-9"}, {"action": "warn" if value == "stop" else "stop"}
    else:
        setup, change = _RULES[name]
    setup = {"metric": "grad_norm", "window": "1", **_ANY_METRIC, **setup}
    return Case(_typed(rule, change), _typed(rule, setup))


def _typed(rule: str, values: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{rule}.{name}={value}" for name, value in values.items())
