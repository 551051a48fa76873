"""Two toy models with a vocabulary of eight words: one counts, the other has random weights."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ["<pad>", "<end>", "one", "two", "three", "four", "five", "go"]
END = WORDS.index("<end>")


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """Return a word-level tokenizer whose chat template writes the messages and, after several of them, `go`."""
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, "<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<end>",
        chat_template=(
            "{% for message in messages %}{{ message['content'] }}{% endfor %}"
            "{% if add_generation_prompt %} {{ 'go' if messages|length > 1 }}{% endif %}"
        ),
    )


def _llama(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    size = len(WORDS)
    config = LlamaConfig(
        vocab_size=size, hidden_size=size, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
        bos_token_id=None, pad_token_id=0, eos_token_id=END, initializer_range=1.0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def random_model() -> LlamaForCausalLM:
    return _llama(seed=0)


@pytest.fixture
def counting_model() -> LlamaForCausalLM:
    """Return a model that continues the count: after `five` it generates the end token, after `go` the word `one`."""
    model = _llama(seed=0)
    next_word = {"one": "two", "two": "three", "three": "four", "four": "five", "five": "<end>", "go": "one"}
    with torch.no_grad():
        for layer in model.model.layers:  # the residual stream passes through unchanged
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(len(WORDS)))
        model.lm_head.weight.zero_()
        for word, follower in next_word.items():
            model.lm_head.weight[WORDS.index(follower), WORDS.index(word)] = 10.0
    return model
