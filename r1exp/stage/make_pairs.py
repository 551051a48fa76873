"""Makes preference pairs of a better and a worse answer to each problem, from the answers of stage=sample.

    artifact/data.jsonl  one {"prompt", "chosen", "rejected", "chosen_reward", "rejected_reward"} per line
    artifact/facts.json  counts, margins, and how long chosen and rejected answers are, before and after balancing

A pair is the best and the worst answer, a second pair of the same problem the next best and the next worst. An answer is in
one pair only. A problem whose answers all have the same reward gives no pair. Of answers with equal rewards the first one is
used. A blank answer has no token to learn from and is left out. Torch-free.

With `balance_lengths`, each problem gives those of its pairs, with at least `min_margin`, that keep the sum of
(tokens of chosen - tokens of rejected) over all pairs so far nearest to 0. DPO on pairs whose better answer is systematically
longer learns to write long answers.
Source: length bias of preference data, section 3 (arXiv:2310.03716) and section 4 (arXiv:2403.19159).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from r1exp.dataset.readers import read_json_lines
from r1exp.distributed import is_main_process
from r1exp.errors import Refused, StepFailed
from r1exp.files import whole_folder, write_json, write_json_lines
from r1exp.paths import ArtifactPaths, StepPaths
from r1exp.stage.base import resolved_path
from r1exp.stage.preferences import Preferences
from r1exp.stage.sample import question_of
from r1exp.stage.step import Step
from r1exp.terminal import say

Answer = dict[str, Any]  # of a row of samples.jsonl
Pair = tuple[Answer, Answer]  # chosen, rejected


def make_pairs(step: Step, folder: Path) -> str | None:
    """Write the artifact, on rank 0."""
    stage = step.config.stage
    assert isinstance(stage, Preferences)
    if not is_main_process():
        return None
    if stage.samples is None:
        raise Refused(
            "stage=preferences compares the answers of stage=sample: give stage.samples=FOLDER, the artifact/ of "
            "such a step, or use pipeline=dpo_from_rewards"
        )
    rows = [row for _, row in read_json_lines(ArtifactPaths(resolved_path(stage.samples)).samples)]
    found = list(pairs_of(rows, stage))[: stage.num_pairs]
    if not found:
        raise StepFailed(
            f"none of the {len(rows)} problems has two answers whose rewards differ by stage.min_margin={stage.min_margin}; "
            "sample more answers (stage.samples of the step before), or choose rewards that differ"
        )
    plain = list(pairs_of(rows, stage.model_copy(update={"balance_lengths": False})))[: stage.num_pairs]
    facts = {
        "num_problems": len(rows),
        "num_problems_with_pairs": len({id(row) for row, _ in found}),
        "num_pairs": len(found),
        "before_balancing": statistics_of([pair for _, pair in plain]),
        "written": statistics_of([pair for _, pair in found]),
    }
    with whole_folder(StepPaths(folder).artifact) as unfinished:
        write_json_lines(ArtifactPaths(unfinished).data, (_row(row, pair) for row, pair in found))
        write_json(ArtifactPaths(unfinished).facts, facts)
    written = facts["written"]
    assert isinstance(written, dict)
    say(
        f"{len(found)} pairs of {facts['num_problems_with_pairs']} problems (of {len(rows)}); mean margin "
        f"{written['mean_margin']:.3g}; tokens of chosen {written['mean_tokens_chosen']:.1f}, of rejected "
        f"{written['mean_tokens_rejected']:.1f}; chosen is longer in {written['share_chosen_longer']:.0%}"
    )
    return None


def pairs_of(rows: Sequence[dict[str, Any]], stage: Preferences) -> Iterator[tuple[dict[str, Any], Pair]]:
    """Yield (row, pair) of each pair, in the order of the problems; deterministic.

    Args:
        rows: Of samples.jsonl.
        stage: Which pairs are made.
    """
    difference = 0  # tokens of all chosen answers so far - tokens of all rejected ones
    for row in rows:
        left = [
            answer for answer in row["answers"] if answer["reward"] is not None and answer["text"].strip()
        ]
        for _ in range(stage.pairs_per_problem):
            possible = list(_possible(left, stage.min_margin))
            if not possible:
                break
            if stage.balance_lengths:
                chosen, rejected = min(
                    possible, key=lambda pair: (abs(difference + _longer_by(pair)), -_margin(pair))
                )
            else:
                chosen, rejected = max(possible, key=_margin)
            difference += _longer_by((chosen, rejected))
            left = [answer for answer in left if answer is not chosen and answer is not rejected]
            yield row, (chosen, rejected)


def statistics_of(pairs: Sequence[Pair]) -> dict[str, float]:
    """Return means over pairs: margins, tokens, and the share of pairs whose chosen answer has more tokens."""
    number = len(pairs)
    return {
        "mean_margin": sum(map(_margin, pairs)) / number,
        "mean_tokens_chosen": sum(chosen["num_tokens"] for chosen, _ in pairs) / number,
        "mean_tokens_rejected": sum(rejected["num_tokens"] for _, rejected in pairs) / number,
        "share_chosen_longer": sum(_longer_by(pair) > 0 for pair in pairs) / number,
        "share_chosen_shorter": sum(_longer_by(pair) < 0 for pair in pairs) / number,
    }


def _possible(answers: Sequence[Answer], min_margin: float) -> Iterator[Pair]:
    """Yield the pairs with a large enough margin, those of earlier answers first."""
    for chosen in answers:
        for rejected in answers:
            margin = _margin((chosen, rejected))
            if margin > 0.0 and margin >= min_margin and chosen["text"] != rejected["text"]:
                yield chosen, rejected


def _margin(pair: Pair) -> float:
    margin: float = pair[0]["reward"] - pair[1]["reward"]
    return margin


def _longer_by(pair: Pair) -> int:
    number: int = pair[0]["num_tokens"] - pair[1]["num_tokens"]
    return number


def _row(row: dict[str, Any], pair: Pair) -> dict[str, Any]:
    chosen, rejected = pair
    return {
        "prompt": question_of(row),
        "chosen": chosen["text"],
        "rejected": rejected["text"],
        "chosen_reward": chosen["reward"],
        "rejected_reward": rejected["reward"],
    }
