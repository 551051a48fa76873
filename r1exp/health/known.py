"""The metrics that the trainers log, so that a rule on a misspelt metric is refused before anything runs.

tests/health/test_known.py compares them with the sources of the installed TRL and of r1exp's own trainers.
"""

from collections.abc import Collection, Iterator

from r1exp.health.settings import HealthSettings
from r1exp.settings import nearest

_REWARD_METRICS = ("mean", "std", "seconds", "abstained", "variance_share")  # of rewards/NAME/
_TRAINER = (
    "epoch grad_norm learning_rate loss num_input_tokens_seen step total_flos train_loss train_runtime "
    "train_samples_per_second train_steps_per_second"
)
_TRL = (
    "accuracy aux_loss cispo_clip_ratio entropy entropy_coef frac_reward_zero_std kl logits/chosen logits/rejected "
    "logps/chosen logps/rejected margin max_reward mean_reward mean_token_accuracy min_reward num_tokens policy_loss "
    "reward reward_std rewards/accuracies rewards/chosen rewards/margins rewards/rejected step_time "
    "vespo/phi_seq_mean clip_ratio/high_max clip_ratio/high_mean clip_ratio/low_mean clip_ratio/low_min "
    "clip_ratio/region_mean completions/clipped_ratio completions/max_length completions/max_terminated_length "
    "completions/mean_length completions/mean_terminated_length completions/min_length "
    "completions/min_terminated_length sampling/importance_sampling_ratio/max "
    "sampling/importance_sampling_ratio/mean sampling/importance_sampling_ratio/min "
    "sampling/sampling_logp_difference/max sampling/sampling_logp_difference/mean"
)
_OWN = (
    "advantages/mean advantages/std beta clip_ratio/value dynamic_sampling/discarded_completions "
    "dynamic_sampling/flat_completions dynamic_sampling/rounds explained_variance grad_norm/critic groups_equal_below_best "
    "groups_with_signal kl_log_ratio kl_ratio_weighted kto_reference_point resting/problems resting/replaced_prompts returns/mean returns/std value_loss values/mean values/std weight_0_score"
)
# Of evaluations during training (r1exp.stage.validation).
_EVALUATION = " ".join(
    f"eval/validation/{decoding}/{what}"
    for decoding in ("sampled", "greedy")
    for what in ("accuracy", "low", "high")
)
METRICS = frozenset(f"{_TRAINER} {_TRL} {_OWN} {_EVALUATION}".split())


def is_known(metric: str, rewards: Collection[str] = ()) -> bool:
    """Return whether a trainer of r1exp logs a metric.

    Args:
        metric: As in the rows of metrics.jsonl.
        rewards: The members of the committee; none: their metrics cannot be told from misspelt ones, and are known.
    """
    if metric in METRICS:
        return True
    family, _, rest = metric.partition("/")
    name, _, what = rest.partition("/")
    if family != "rewards" or not what:
        return False
    return (name in rewards or not rewards) and (what in _REWARD_METRICS or what.startswith("abstained/"))


def unknown_metrics(
    settings: HealthSettings, rewards: Collection[str]
) -> Iterator[tuple[str, str, str | None]]:
    """Yield the setting, its value and the most similar metric, for each metric of a rule that no trainer logs."""
    known = sorted(METRICS | {f"rewards/{name}/{what}" for name in rewards for what in _REWARD_METRICS})
    for name, rule in settings.rules.items():
        for setting in ("metric", "beside", "rising", "falling"):
            metric = getattr(rule, setting)
            if metric is not None and not is_known(metric, rewards):
                close = nearest(metric, known)
                yield f"health.rules.{name}.{setting}", metric, close[0] if close else None
