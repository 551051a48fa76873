"""`model.trust_remote_code`: which models need code of their own, who may run it, and where it goes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.model.locate import check_model
from r1exp.model.remote_code import about_code, copy_code, known_types, references, refuse_code
from r1exp.model.settings import ModelSettings
from r1exp.plan.facts import facts_of
from r1exp.plan.steps import PlannedStep, planned_steps
from tests.model.code_model import CODE, change, code_model

ReadModel = Callable[..., ModelSettings]
Compose = Callable[..., Experiment]
COMMIT = "0123456789" * 4


@pytest.fixture(scope="module")
def toy(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model with code of its own."""
    return code_model(tiny_folder, tmp_path_factory.mktemp("toy") / "toy")


def planned(compose_line: Compose, folder: Path, *overrides: str) -> tuple[PlannedStep, ...]:
    return planned_steps(
        compose_line("stage=sft", "model=hf", f"model.path={folder}", "max_steps=2", "evaluation.before=false",
                     "evaluation.after=false", *overrides)
    )  # fmt: skip


def test_a_model_with_code_is_refused_by_the_plan_unless_the_key_is_true(
    toy: Path, compose_line: Compose
) -> None:
    with pytest.raises(Refused, match=r"model_type 'toy'.* your rights.*type model\.trust_remote_code=true"):
        planned(compose_line, toy)
    (step,) = planned(compose_line, toy, "model.trust_remote_code=true")
    assert step.trainer_args["trust_remote_code"] is True


def test_the_plan_says_whose_code_runs(toy: Path, compose_line: Compose) -> None:
    experiment = compose_line(
        "stage=sft", "model=hf", f"model.path={toy}", "max_steps=2", "model.trust_remote_code=true"
    )
    odd = facts_of(experiment, planned_steps(experiment), None).odd
    assert [line for line in odd if "Python code" in line] == [
        f"model.trust_remote_code=true: Python code of {toy} runs with your rights, as it is in that folder now"
    ]


@pytest.mark.parametrize(
    ("revision", "typed", "end"),
    [
        pytest.param(COMMIT, COMMIT, f"at commit {COMMIT}", id="pinned"),
        pytest.param(COMMIT, None, f"give model.revision={COMMIT}", id="main"),
        pytest.param("v2", "v2", "it can change: give model.revision=COMMIT", id="an unknown commit"),
    ],
)
def test_the_plan_says_how_to_pin_the_code_of_a_model_on_the_hub(
    revision: str, typed: str | None, end: str, read_model: ReadModel
) -> None:
    model = read_model("hf", path="nobody/toy", revision=revision, trust_remote_code=True)
    assert about_code(model, "nobody/toy", typed).endswith(end)


def test_the_plan_says_where_the_key_has_no_effect(tiny_folder: Path, read_model: ReadModel) -> None:
    model = read_model("hf", path=str(tiny_folder), trust_remote_code=True)
    assert "has no effect" in about_code(model, tiny_folder, None)


def test_an_edited_modeling_file_is_another_model(toy: Path, tmp_path: Path, compose_line: Compose) -> None:
    folder = shutil.copytree(toy, tmp_path / "toy")
    (before,) = planned(compose_line, folder, "model.trust_remote_code=true")
    (folder / "parts_toy.py").write_text("SCALE = 2.0\n")
    (after,) = planned(compose_line, folder, "model.trust_remote_code=true")
    assert before.key != after.key


def test_the_key_decides_the_step_only_where_it_is_true(tiny_folder: Path, compose_line: Compose) -> None:
    (plain,) = planned(compose_line, tiny_folder)
    (trusted,) = planned(compose_line, tiny_folder, "model.trust_remote_code=true")
    assert "trust_remote_code" not in plain.config.deciding_settings()["model"]
    assert plain.key != trusted.key


def test_code_of_another_repository_is_refused_with_the_key_too(toy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(toy, tmp_path / "toy")
    change(folder / "config.json", auto_map={"AutoConfig": "someone/else--configuration_toy.ToyConfig"})
    with pytest.raises(Refused, match=r"takes code from another repository.*remove someone/else--"):
        refuse_code(folder, None, is_trusted=True)


def test_a_model_that_transformers_knows_passes_without_the_key(toy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(toy, tmp_path / "toy")
    change(folder / "config.json", model_type="llama")
    refuse_code(folder, None, is_trusted=False)


def test_other_models_never_run_code(toy: Path) -> None:
    with pytest.raises(Refused, match=r"algorithm\.critic\.path=.* for the policy alone"):
        check_model("algorithm.critic.path", str(toy))


def test_a_pipeline_whose_reward_model_would_need_code_is_refused_by_the_plan(
    toy: Path, tiny_folder: Path, compose_line: Compose
) -> None:
    line = ["pipeline=rlhf_ppo", "model=hf", "model.trust_remote_code=true", "debug=fast"]
    with pytest.raises(Refused, match=r"rewards\.preference\.model=.* for the policy alone"):
        planned_steps(compose_line(*line, f"model.path={toy}"))
    assert planned_steps(compose_line(*line, f"model.path={tiny_folder}"))


def test_adapters_of_a_model_with_code_need_the_key(toy: Path, tmp_path: Path, compose_line: Compose) -> None:
    folder = tmp_path / "adapters"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(toy)}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(Refused, match=r"type model\.trust_remote_code=true"):
        planned(compose_line, folder)
    assert planned(compose_line, folder, "model.trust_remote_code=true")


def test_a_tiny_model_has_no_code(read_model: ReadModel) -> None:
    with pytest.raises(ValidationError, match=r"a tiny model has none: drop model\.trust_remote_code"):
        read_model("tiny", trust_remote_code=True)


def test_the_trainer_takes_the_key_from_the_model(toy: Path, compose_line: Compose) -> None:
    with pytest.raises(Refused, match=r"trainer\.trust_remote_code.*set model\.trust_remote_code"):
        planned(compose_line, toy, "+trainer.trust_remote_code=true")


def test_the_code_is_copied_with_its_names_and_folders(toy: Path, tiny_folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(toy, tmp_path / "toy")
    (source / "custom_generate").mkdir()
    (source / "custom_generate" / "generate.py").write_text("def generate(model, **kwargs): ...\n")
    made = shutil.copytree(tiny_folder, tmp_path / "made")
    copy_code(str(source), None, made)
    assert references(made, None) == references(source, None)
    copied = {str(path.relative_to(made)) for path in made.rglob("*.py")}
    assert copied == {*CODE, "custom_generate/generate.py"}


@pytest.mark.slow  # imports torch
def test_the_list_of_known_types_is_that_of_transformers() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert known_types() == set(CONFIG_MAPPING_NAMES)


@pytest.mark.slow  # imports torch
def test_a_step_refuses_code_without_a_question(
    toy: Path, tmp_path: Path, read_model: ReadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from r1exp.model.load import load_backbone, load_policy, load_tokenizer

    monkeypatch.setenv("TOY_RAN", str(tmp_path / "ran"))
    monkeypatch.setattr("builtins.input", lambda question: pytest.fail(question))
    # transformers has a class for such a configuration, but none for causal language models and no tokenizer.
    known = shutil.copytree(toy, tmp_path / "toy")
    change(known / "config.json", model_type="vit")
    for folder in (toy, known):
        model = read_model("hf", path=str(folder))
        for load in (load_tokenizer, load_policy):
            with pytest.raises(Refused, match=r"with your rights.* type model\.trust_remote_code=true"):
                load(str(folder), model)
    with pytest.raises(Refused, match=r"algorithm\.critic\.path=.*for the policy alone"):
        load_backbone("algorithm.critic.path", str(toy), None, torch.float32)
    with pytest.raises(ValueError, match="Please set the option"):  # not stated: no question either
        AutoModelForCausalLM.from_pretrained(str(known))
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow  # imports torch
def test_adapters_are_merged_with_the_code_of_their_base(
    toy: Path, tmp_path: Path, read_model: ReadModel
) -> None:
    from peft import get_peft_model

    from r1exp.model.load import load_policy, peft_config
    from r1exp.model.merge import merge

    lora = {"r": 4, "alpha": 32, "dropout": 0.0, "target_modules": "all-linear"}
    settings = read_model("hf", path=str(toy), lora=lora, trust_remote_code=True)
    get_peft_model(load_policy(str(toy), settings), peft_config(settings)).save_pretrained(
        tmp_path / "adapters"
    )
    with pytest.raises(Refused, match=r"type model\.trust_remote_code=true"):
        merge(tmp_path / "adapters", tmp_path / "merged")
    merge(tmp_path / "adapters", tmp_path / "merged", trusts_code=True)
    assert set(CODE) <= {path.name for path in (tmp_path / "merged").iterdir()}
    assert type(load_policy(str(tmp_path / "merged"), settings)).__name__ == "ToyForCausalLM"
