"""Trains a student on its own answers to match a teacher's next-token distributions (stage=distil)."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase, TrainerCallback
from trl import DistillationConfig

from r1exp.algorithm.distil_trainer import Distil as DistilTrainer
from r1exp.errors import Refused
from r1exp.model.load import load_policy, load_tokenizer, peft_config
from r1exp.prompt.chat import prompt_of
from r1exp.stage.context_length import within_context
from r1exp.stage.distil import Distil
from r1exp.stage.step import Step
from r1exp.stage.training import train
from r1exp.stage.training_rows import dataset_of
from r1exp.step.checkpoints import good_checkpoint


def train_distil(step: Step, folder: Path) -> str | None:
    """Train, save the student in `artifact/`, and return its identity in trackers.

    Raises:
        Refused: the teacher has another vocabulary than the student, or a prompt leaves no room for an answer.
    """
    config = step.config
    stage = config.stage
    assert isinstance(stage, Distil) and stage.teacher is not None
    place = stage.teacher
    tokenizer = load_tokenizer(step.model_path, config.model)
    # The teacher reads the student's tokens in its own dtype, whole, and never with adapters of this step.
    settings = config.model.model_copy(
        update={"revision": None, "quantization": None, "trust_remote_code": False}
    )
    refuse_other_vocabulary(tokenizer, load_tokenizer(place, settings), step.model_path, place)
    problems = within_context(stage.problems(config), step)
    data = dataset_of(({"prompt": prompt_of(problem, config.prompt)} for problem in problems), folder)

    def make_trainer(output: Path, callbacks: list[TrainerCallback]) -> DistilTrainer:
        args = DistillationConfig(
            **step.trainer_args, output_dir=str(output)
        )  # before the models, see train_rl
        student, teacher = load_policy(step.model_path, config.model), load_policy(place, settings)
        sizes = [model.config.get_text_config().vocab_size for model in (student, teacher)]
        if sizes[0] != sizes[1]:
            raise Refused(
                f"stage.teacher={place} has {sizes[1]} rows in its output layer and the student {step.model_path} has "
                f"{sizes[0]}, and distributions of different sizes cannot be compared; choose a student and a teacher with "
                "the same vocab_size in config.json, or label answers with the teacher and use stage=sft"
            )
        return DistilTrainer(
            model=student,
            teacher_model=teacher,
            args=args,
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=callbacks,
            peft_config=peft_config(config.model),
            good_checkpoint=lambda most: good_checkpoint(folder, most),
        )

    return train(step, folder, tokenizer, make_trainer)


def refuse_other_vocabulary(
    student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, student_path: str, teacher_path: str
) -> None:
    """Raise Refused if a token does not mean the same to both models."""
    ours, theirs = student.get_vocab(), teacher.get_vocab()
    if ours == theirs:
        return
    moved = [token for token, number in sorted(ours.items()) if theirs.get(token) != number]
    example = moved[0] if moved else sorted(theirs.keys() - ours.keys())[0]
    raise Refused(
        f"stage.teacher={teacher_path} has another tokenizer than the student {student_path}: {example!r} is token "
        f"{ours.get(example)} of the student's {len(ours)} and {theirs.get(example)} of the teacher's {len(theirs)}; choose "
        "a teacher of the student's family, or label answers with the teacher and use stage=sft"
    )
