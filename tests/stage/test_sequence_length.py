"""How long vLLM's sequences may become where nothing states it, and its share of a GPU on which nothing is trained."""

import json
from collections.abc import Callable
from pathlib import Path

from r1exp.config.experiment import Experiment
from r1exp.plan.steps import PlannedStep, planned_steps
from r1exp.stage.sequence_length import longest_sequence, with_longest
from r1exp.stage.step import Step

Compose = Callable[..., Experiment]
RL = ("stage=rl", "model=hf", "rollout=vllm_colocate", "max_completion_length=20", "evaluation.before=false", "evaluation.after=false")  # fmt: skip


def model(folder: Path, positions: int) -> str:
    """Return a folder with the sizes of a model and no tokenizer."""
    sizes = {
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
        "intermediate_size": 128, "vocab_size": 64, "max_position_embeddings": positions, "tie_word_embeddings": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(sizes))
    (folder / "model.safetensors").touch()
    return str(folder)


def of_model(frozen: Callable[..., Step], folder: Path, positions: int, *overrides: str) -> Step:
    """Return an RL step with a model of so many positions."""
    place = model(folder, positions)
    return frozen(*RL, f"model.path={place}", *overrides, model=place)


def test_an_engine_has_room_for_the_longest_prompt_and_completion(
    frozen: Callable[..., Step], tmp_path: Path
) -> None:
    step = of_model(frozen, tmp_path, 4096)
    found = with_longest(step)
    longest = max(len(problem.prompt.encode()) for problem in step.config.dataset.load("train"))
    limit = found.config.rollout.length_limit(4096)[0]
    assert limit is not None
    assert longest + 20 <= limit < longest + 20 + 1000  # what the system prompt and the template add
    assert found.trainer_args["vllm_max_model_length"] == limit
    assert step.trainer_args["vllm_max_model_length"] is None


def test_it_is_never_beyond_the_positions_of_the_model_nor_beyond_what_was_typed(
    frozen: Callable[..., Step], tmp_path: Path
) -> None:
    assert longest_sequence(of_model(frozen, tmp_path, 64)) == 64
    typed = with_longest(of_model(frozen, tmp_path, 64, "rollout.max_model_length=100"))
    assert typed.trainer_args["vllm_max_model_length"] == 100


def test_other_rollouts_need_no_length(frozen: Callable[..., Step]) -> None:
    step = frozen("stage=rl", "evaluation.before=false", "evaluation.after=false")
    assert with_longest(step) is step


def test_an_evaluation_has_the_whole_gpu_and_training_leaves_room(compose_line: Compose) -> None:
    steps = planned_steps(compose_line("rollout=vllm_colocate", "rollout.gpu_memory_utilization=0.2"))

    def bytes_of(step: PlannedStep) -> int | None:
        return step.config.rollout.engine_bytes("cuda", 0, 100)

    found = {step.name: bytes_of(step) for step in steps}
    assert found["rl"] == 20
    assert {amount for name, amount in found.items() if name.startswith("evaluate")} == {90}
    assert "rollout.share_alone" in str(steps[0].config.rollout.memory_note("cuda"))


def test_the_share_of_a_gpu_is_in_no_key(compose_line: Compose) -> None:
    keys = {
        tuple(step.key for step in planned_steps(compose_line("rollout=vllm_colocate", f"rollout.share_alone={share}")))
        for share in (0.5, 0.9)
    }  # fmt: skip
    assert len(keys) == 1
