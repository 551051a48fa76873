"""Rows that are packed into one do not attend to each other, with the attention that each preset uses."""

from collections.abc import Callable
from typing import Any

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.plan.steps import planned_steps

Compose = Callable[..., Experiment]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "attention"),
    [("qwen2", "sdpa"), ("qwen3", "sdpa"), ("llama", "sdpa"), ("smollm3", "sdpa"), ("gemma2", "eager"), ("gemma3_text", "sdpa")],
)  # fmt: skip
def test_a_packed_row_has_the_logits_of_its_parts(kind: str, attention: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    sizes: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **sizes)
    config._attn_implementation = attention
    model = AutoModelForCausalLM.from_config(config).train()
    first, second = [5, 6, 7, 8], [9, 10, 11]
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    packed = collate([{"input_ids": [*first, *second], "seq_lengths": [len(first), len(second)]}])
    together = model(
        **{name: packed[name] for name in ("input_ids", "position_ids")}, use_cache=False
    ).logits[0]
    apart = [model(input_ids=torch.tensor([row])).logits[0] for row in (first, second)]
    assert torch.allclose(together, torch.cat(apart), atol=1e-5)


def test_rows_are_not_cut_anywhere_and_joined(compose_line: Compose) -> None:
    line = (
        "stage=sft",
        "tracking=none",
        "evaluation.before=false",
        "evaluation.after=false",
        "trainer.packing=true",
    )
    with pytest.raises(Refused, match=r"packing_strategy=wrapped.*bfd"):
        planned_steps(compose_line(*line, "+trainer.packing_strategy=wrapped"))
    assert planned_steps(compose_line(*line))
