"""KTO on TRL's KTOTrainer, with the same updates on any number of ranks.

The KL is estimated from answers that are paired with the prompt of another row. TRL 1.16 rotates them within the rows of one
forward pass of one rank; here within the rows of an optimizer step, so that the pairs do not depend on the number of ranks.

Source: KTO, section 4.1 (arXiv:2402.01306).
"""

from typing import Any, ClassVar

from trl import KTOConfig, KTOTrainer

from r1exp.algorithm.guards import Guards
from r1exp.algorithm.resume import ExactResume
from r1exp.algorithm.trainers import Policy
from r1exp.algorithm.whole_steps import WholeSteps

_MISMATCHED = "KL_completion_ids"  # column of TRL


class Kto(WholeSteps, Guards, ExactResume, KTOTrainer):
    """Kahneman-Tversky optimization."""

    config: ClassVar[type] = KTOConfig

    @classmethod
    def own_arguments(cls, algorithm: Any, policy: Policy) -> dict[str, Any]:
        """Return the trainer's arguments that follow from the settings of the algorithm."""
        del algorithm, policy
        return {}

    def _prepare_dataset(self, *args: Any, **kwargs: Any) -> Any:
        # Pairs each prompt with the answer of the row before it, within the rows of an optimizer step.
        data = super()._prepare_dataset(*args, **kwargs)
        if _MISMATCHED not in data.column_names:
            return data  # a loss without a KL
        given = args[2]
        rows = given.per_device_train_batch_size * given.gradient_accumulation_steps * given.world_size
        return data.map(_rotated, batched=True, batch_size=rows)

    def log(self, *args: Any, **kwargs: Any) -> None:
        # TRL calls it kl. It is in nats per answer, not per token, and of mismatched answers: no rule for kl applies to it.
        for metrics in self._metrics.values():
            if "kl" in metrics:
                metrics["kto_reference_point"] = metrics.pop("kl")
        super().log(*args, **kwargs)


def _rotated(rows: dict[str, Any]) -> dict[str, Any]:
    answers = rows["completion_ids"]
    return {_MISMATCHED: answers[-1:] + answers[:-1]}
