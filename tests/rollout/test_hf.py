"""Generation with transformers in the process that holds the model."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from r1exp.records import Completion, Message
from r1exp.rollout.base import Sampling
from r1exp.rollout.hf import HfGenerator
from r1exp.rollout.settings import HfRollout

GREEDY = Sampling(temperature=0.0, max_tokens=8)
SAMPLED = Sampling(temperature=1.0, max_tokens=8, seed=7)


def prompts(*texts: str) -> list[list[Message]]:
    return [[{"role": "user", "content": text}] for text in texts]


def generator(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, batch_size: int = 256
) -> HfGenerator:
    return HfGenerator(model, tokenizer, HfRollout(kind="hf", batch_size=batch_size))


def test_a_completion_ends_with_the_end_token_which_is_counted(
    counting_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    [[completion]] = generator(counting_model, tokenizer).generate(prompts("three"), 1, GREEDY)
    assert completion == Completion("four five", num_tokens=3, finished=True)


def test_a_completion_cut_at_the_length_limit_is_not_finished(
    counting_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    short = Sampling(temperature=0.0, max_tokens=2)
    [[completion]] = generator(counting_model, tokenizer).generate(prompts("three"), 1, short)
    assert completion == Completion("four five", num_tokens=2, finished=False)


@pytest.mark.parametrize("batch_size", [2, 256])
def test_every_token_advances_the_count_of_completions(
    counting_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, batch_size: int
) -> None:
    amounts: list[float] = []
    settings = HfRollout(kind="hf", batch_size=batch_size)
    HfGenerator(counting_model, tokenizer, settings, amounts.append).generate(
        prompts("one", "one"), 2, GREEDY
    )
    assert sum(amounts) == pytest.approx(4.0)
    assert amounts[0] == min(batch_size, 4) / 8  # the first of at most 8 tokens of each row


@pytest.mark.parametrize("batch_size", [1, 2, 256])
def test_completions_have_the_order_of_the_prompts(
    counting_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, batch_size: int
) -> None:
    questions = prompts("one two one two three", "five", "one two", "four four four")
    answers = generator(counting_model, tokenizer, batch_size).generate(questions, 2, GREEDY)
    assert [[completion.text for completion in group] for group in answers] == [
        ["four five"] * 2,
        [""] * 2,
        ["three four five"] * 2,
        ["five"] * 2,
    ]


def test_batches_hold_prompts_of_similar_length(
    counting_model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    widths = []
    generate = counting_model.generate

    def recorded(input_ids: torch.Tensor, **rest: Any) -> Any:
        widths.append(input_ids.shape[1])
        return generate(input_ids=input_ids, **rest)

    monkeypatch.setattr(counting_model, "generate", recorded)
    questions = prompts("one two three", "four", "two three four", "five")
    generator(counting_model, tokenizer, batch_size=2).generate(questions, 1, GREEDY)
    assert widths == [1, 3]


def test_the_generation_prompt_is_added(
    counting_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    turns = [{"role": "system", "content": "two "}, {"role": "user", "content": "four"}]
    [[completion]] = generator(counting_model, tokenizer).generate([turns], 1, GREEDY)
    assert completion.text == "one two three four five"


def test_padding_does_not_change_an_answer(
    random_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    texts = ["one", "two three four five one two", "four one two"]
    together = generator(random_model, tokenizer).generate(prompts(*texts), 1, GREEDY)
    alone = [generator(random_model, tokenizer).generate(prompts(text), 1, GREEDY)[0] for text in texts]
    assert together == alone


def test_the_seed_determines_the_samples(
    random_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    answer = generator(random_model, tokenizer)
    first = answer.generate(prompts("one"), 16, SAMPLED)
    assert answer.generate(prompts("one"), 16, SAMPLED) == first
    assert answer.generate(prompts("one"), 16, SAMPLED.model_copy(update={"seed": 8})) != first
    assert len({completion.text for completion in first[0]}) > 4  # samples of one prompt differ


def test_the_global_random_state_and_the_training_mode_are_restored(
    random_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    random_model.train()
    before = torch.get_rng_state()
    generator(random_model, tokenizer).generate(prompts("one"), 4, SAMPLED)
    assert torch.equal(torch.get_rng_state(), before)
    assert random_model.training


@pytest.mark.parametrize("only_the_likeliest", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-6}])
def test_sampling_of_the_likeliest_token_equals_greedy_decoding(
    random_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, only_the_likeliest: dict[str, Any]
) -> None:
    answer = generator(random_model, tokenizer)
    narrow = SAMPLED.model_copy(update=only_the_likeliest)
    questions = prompts("one", "two three")
    assert answer.generate(questions, 3, narrow) == answer.generate(questions, 3, GREEDY)


def test_the_generation_config_of_the_model_is_ignored(
    random_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    expected = generator(random_model, tokenizer).generate(prompts("one"), 16, SAMPLED)
    for name, value in {"top_k": 1, "min_p": 0.9, "repetition_penalty": 9.0, "temperature": 0.1}.items():
        setattr(random_model.generation_config, name, value)
    assert generator(random_model, tokenizer).generate(prompts("one"), 16, SAMPLED) == expected


def test_every_end_token_of_the_model_ends_a_completion(
    counting_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    five = tokenizer.convert_tokens_to_ids("five")
    counting_model.generation_config.eos_token_id = [five]
    [[completion]] = generator(counting_model, tokenizer).generate(prompts("three"), 1, GREEDY)
    assert completion == Completion("four five", num_tokens=2, finished=True)


def test_a_tokenizer_without_a_pad_token_pads_with_the_end_token(
    counting_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    tokenizer.pad_token = None
    answers = generator(counting_model, tokenizer).generate(prompts("four", "one two three"), 1, GREEDY)
    assert [(group[0].text, group[0].num_tokens) for group in answers] == [("five", 2), ("four five", 3)]


def test_no_prompts_give_no_completions(
    counting_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    assert generator(counting_model, tokenizer).generate([], 3, GREEDY) == []


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"max_tokens": 0}, {"top_k": True}]
)
def test_impossible_sampling_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Sampling.model_validate({"temperature": 1.0, "max_tokens": 8} | wrong)
