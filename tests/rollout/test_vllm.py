"""The generator of rollout=vllm_colocate with a real engine, compared with transformers on the same weights."""

import gc
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from r1exp.model.load import load_tokenizer
from r1exp.model.settings import ModelSettings
from r1exp.model.tiny import build_tiny
from r1exp.records import Message
from r1exp.rollout.base import Sampling
from r1exp.rollout.hf import HfGenerator
from r1exp.rollout.kept import KeptRows
from r1exp.rollout.settings import HfRollout, VllmColocate

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed; type: make vllm"),
]
CONF = Path(__file__).parents[2] / "conf"
GREEDY = Sampling(temperature=0.0, max_tokens=12)
SAMPLED = Sampling(temperature=1.0, max_tokens=12, seed=7)
PROMPTS: list[list[Message]] = [[{"role": "user", "content": f"What is {n} + {n + 2}?"}] for n in range(5)]


@pytest.fixture(scope="module")
def settings() -> ModelSettings:
    values = yaml.safe_load((CONF / "model" / "tiny.yaml").read_text(encoding="utf-8"))
    values["shape"] |= {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    values["shape"] |= {"num_key_value_heads": 2, "intermediate_size": 64}
    return ModelSettings.model_validate_json(json.dumps(values))


@pytest.fixture(scope="module")
def policy(settings: ModelSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(settings, tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def plain(policy: Path, settings: ModelSettings) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(policy), settings)


@pytest.fixture(scope="module")
def generator(policy: Path, settings: ModelSettings, plain: PreTrainedTokenizerBase) -> Any:
    from r1exp.rollout.vllm import VllmGenerator

    gc.collect()  # ends engines of other tests now, because their end destroys vLLM's process groups
    values = yaml.safe_load((CONF / "rollout" / "vllm_colocate.yaml").read_text(encoding="utf-8"))
    return VllmGenerator(str(policy), settings, plain, VllmColocate.model_validate(values), "cpu")


def test_greedy_completions_equal_those_of_transformers(
    generator: Any, policy: Path, plain: PreTrainedTokenizerBase
) -> None:
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    theirs = HfGenerator(model, plain, HfRollout(kind="hf", batch_size=8)).generate(PROMPTS, 2, GREEDY)
    counted: list[float] = []
    generator._advance = counted.append
    ours = generator.generate(PROMPTS, 2, GREEDY)
    assert sum(counted) == 2 * len(PROMPTS)
    read = [[(each.text, each.num_tokens, each.finished) for each in group] for group in ours]
    assert read == [[(each.text, each.num_tokens, each.finished) for each in group] for group in theirs]


def test_completions_depend_only_on_the_prompt_and_the_seed(generator: Any) -> None:
    answers = generator.generate(PROMPTS, 3, SAMPLED)
    assert generator.generate(PROMPTS, 3, SAMPLED) == answers
    fewer = generator.generate(PROMPTS[:2], 3, SAMPLED)
    # Only texts are compared: the last digits of log-probabilities depend on the batch.
    assert [[each.text for each in group] for group in fewer] == [
        [each.text for each in group] for group in answers[:2]
    ]
    assert generator.generate(PROMPTS, 3, SAMPLED.model_copy(update={"seed": 8})) != answers
    texts = {completion.text for group in answers for completion in group}
    assert len(texts) == 15


@pytest.mark.parametrize("sampling", [SAMPLED, GREEDY], ids=["sampled", "greedy"])
def test_only_completions_that_are_not_kept_are_generated(
    generator: Any, tmp_path: Path, sampling: Sampling
) -> None:
    answers = generator.generate(PROMPTS, 3, sampling)
    first = KeptRows(tmp_path / "rows.jsonl", {}).completions(PROMPTS, 3, sampling)
    first.add({row * 3 + k: answers[row][k] for row in (1, 4) for k in range(3)})
    counted: list[float] = []
    generator._advance, generator._kept = counted.append, KeptRows(tmp_path / "rows.jsonl", {})
    again = generator.generate(PROMPTS, 3, sampling)
    assert counted[0] == 6.0 and sum(counted) == pytest.approx(15.0)
    assert [[each.text for each in group] for group in again] == [
        [each.text for each in group] for group in answers
    ]
    generator._kept = KeptRows()
    whole = KeptRows(tmp_path / "rows.jsonl", {}).completions(PROMPTS, 3, sampling)
    assert [whole.done[number] for number in range(15)] == [each for group in again for each in group]


def test_prompts_that_exceed_one_pass_are_generated(generator: Any) -> None:
    # With chunked prefill vLLM 0.31 would rewind the random stream of a completion, which a CPU generator cannot.
    answers = generator.generate(PROMPTS * 60, 2, SAMPLED)
    assert [len(group) for group in answers] == [2] * 300


def test_log_probabilities_equal_those_of_the_model(
    generator: Any, policy: Path, plain: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    text = plain.apply_chat_template(PROMPTS[:1], add_generation_prompt=True, tokenize=False)
    prompt = plain(text, add_special_tokens=False)["input_ids"][0]
    monkeypatch.setattr(plain, "decode", lambda ids, **_: json.dumps(ids))
    (answers,) = generator.generate(PROMPTS[:1], 4, SAMPLED)
    for answer in answers:
        completion = json.loads(answer.text)
        logits_sv = model(input_ids=torch.tensor([prompt + completion])).logits[0]
        logps_tv = logits_sv.log_softmax(-1)[len(prompt) - 1 : -1]
        expected = logps_tv[torch.arange(len(completion)), torch.tensor(completion)].tolist()
        assert answer.logprobs == pytest.approx(expected, abs=1e-4)


def test_no_prompts_give_no_completions(generator: Any) -> None:
    assert generator.generate([], 3, SAMPLED) == []
