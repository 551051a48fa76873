"""Scores completions with a trained reward model: one logit per row, in batches.

Pass `open_reward_model` to the committee: `Committee(rewards, openers={"reward_model": open_reward_model})`.
Runs in workers: imports torch. Shapes: B completions, T tokens.
"""

from collections.abc import Sequence

import torch
from huggingface_hub.errors import HFValidationError
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from r1exp.errors import Refused
from r1exp.model.load import check_source
from r1exp.model.partitions import not_partitioned
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context, Score
from r1exp.rewards.reward_model import RewardModel


class LearnedScorer:
    """A frozen sequence classifier with one label, on this rank's device.

    Args:
        settings: The reward that names it.
        trusts_code: Whether the code of its repository may run: only for a model that the step itself has made.
    """

    def __init__(self, settings: RewardModel, *, trusts_code: bool = False) -> None:
        self._settings = settings
        self._device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
        self._tokenizer, self._model = _loaded(settings, trusts_code)
        self._model = self._model.to(self._device).eval().requires_grad_(False)

    def score(
        self, problems: Sequence[Problem], completions: Sequence[Completion], context: Context
    ) -> list[Score]:
        """Return one normalized score per completion, in order. Rows of similar length share a batch."""
        del context
        texts = [
            self._text(problem, completion.text)
            for problem, completion in zip(problems, completions, strict=True)
        ]
        by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        scores: list[Score] = [0.0] * len(texts)
        for start in range(0, len(texts), self._settings.batch_size):
            rows = by_length[start : start + self._settings.batch_size]
            for row, logit in zip(rows, self._logits([texts[row] for row in rows]), strict=True):
                scores[row] = self._settings.normalized(logit)
        return scores

    def _text(self, problem: Problem, reply: str) -> str:
        turns = [message for message in problem.messages if message["role"] != "system"]
        chat = [*turns, {"role": "assistant", "content": reply}]
        if self._tokenizer.chat_template is None:
            return f"{problem.text}\n{reply}"
        return str(self._tokenizer.apply_chat_template(chat, tokenize=False))

    @torch.inference_mode()
    def _logits(self, texts: list[str]) -> list[float]:
        inputs = self._tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self._settings.max_length,
            add_special_tokens=self._tokenizer.chat_template is None,
            return_tensors="pt",
        ).to(self._device)
        logits_b1 = self._model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        return [float(logit) for logit in logits_b1[:, 0].float()]


def open_reward_model(settings: RewardModel) -> LearnedScorer:
    """Return a scorer for the model that a `reward_model` reward names.

    Raises:
        Refused: there is no sequence classifier, its head has no trained weights, or it has several labels.
    """
    return LearnedScorer(settings)


def _loaded(settings: RewardModel, trusts_code: bool):  # type: ignore[no-untyped-def] # transformers is untyped
    check_source(settings.model, None, "rewards.NAME.model", trusts_code=trusts_code)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            settings.model, truncation_side="left", trust_remote_code=trusts_code
        )
        with not_partitioned():  # only this rank's completions pass through it: nothing would gather it
            model, report = AutoModelForSequenceClassification.from_pretrained(
                settings.model,
                dtype=getattr(torch, settings.dtype),
                output_loading_info=True,
                trust_remote_code=trusts_code,
            )
    except (OSError, ValueError, HFValidationError) as error:
        raise Refused(
            f"the reward model {settings.model!r} cannot be loaded ({str(error).strip().splitlines()[0]}); "
            "give a hub id or a folder with a sequence classifier"
        ) from error
    if report["missing_keys"]:
        raise Refused(
            f"the reward model {settings.model!r} has no trained weights for {sorted(report['missing_keys'])}: "
            "it is not a reward model, and its scores would be random; train one with stage=reward_model"
        )
    if model.config.num_labels != 1:
        raise Refused(
            f"the reward model {settings.model!r} has {model.config.num_labels} labels, and a reward is one number; "
            "give a model with num_labels=1"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, model
