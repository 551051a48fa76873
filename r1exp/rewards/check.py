"""Checks a committee before training: every member works, gold scores highest, and no cheat scores as much.

For some problems, completions of known quality are written: the gold answer in the prompt's style, and
cheats that a model could find. The check fails where a rule is broken:

    members  every member gives some completion a number, inside its span, and none raises an error
    gold     every member that judges correctness gives gold its maximum, on every problem
    cheats   the weighted total of every cheat, averaged over the problems, is lower than that of gold

An abstention is no number: a completion on which a weighted member abstains has no total, and is left out of
the comparison. Members that compare completions get each cheat among gold completions of the same problem.
"""

import math
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import IO

from r1exp.errors import R1ExpError, Refused
from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Problem
from r1exp.rewards.base import NOT_APPLICABLE, Abstain, BatchReward, GroupReward, JudgedReward, Reward, Score
from r1exp.rewards.check_report import Line, Report
from r1exp.rewards.committee import Committee, Openers
from r1exp.rewards.faults import fault_of
from r1exp.rewards.probes import GOLD, probes_of
from r1exp.rewards.probing import NOT_CALLED, NOT_CHECKED, Failure, Prober, Scores, openers_of, users_own
from r1exp.rewards.total import weighted_totals

_MOST_SECONDS = 60.0  # of scoring; then the remaining problems get no cheats
_MOST_SECONDS_OF_GOLDS = 10.0  # of scoring the gold answers of further problems
_UNKNOWN = (NOT_APPLICABLE, NOT_CALLED, NOT_CHECKED)  # abstentions that say nothing about a member
Table = dict[str, Scores]  # probe: the members' scores of it, of one problem


def check(
    rewards: Mapping[str, Reward],
    style: StyleName,
    problems: Sequence[Problem],
    *,
    group_size: int = 4,
    rows_per_batch: int = 1,
    openers: Openers | None = None,
    more_golds: Sequence[Problem] = (),
    all_golds: Sequence[Problem] = (),
) -> Report:
    """Score gold answers and cheats with the committee and report what is wrong.

    Args:
        rewards: The members.
        style: The prompt's.
        problems: Some problems of the training set.
        group_size: Completions per group, for members that compare completions.
        rows_per_batch: Completions in one training batch, to estimate its seconds.
        openers: As for `Committee`; a member that cannot be opened here is left out, with a warning.
        more_golds: Further problems of which only the gold answers are scored, as many as time allows.
        all_golds: Problems whose gold answers are read, and counted where that fails.

    Raises:
        Refused: `problems` is empty.
    """
    if not problems:
        raise Refused("there is no problem to check the rewards with; give a data set that is not empty")
    warnings: list[str] = []
    size = group_size if any(isinstance(reward, GroupReward) for reward in rewards.values()) else 1
    probes = _probes(rewards, style, problems)
    own = users_own(rewards)
    with tempfile.TemporaryFile() as output:
        committee = Committee(
            rewards, openers_of(rewards, openers or {}, warnings), isolated=own, output=output
        )
        prober = Prober(committee)
        try:
            few = [probes[0][GOLD]] * min(size, 2)  # so that a call that hangs costs few deadlines
            prober.warm_up(replace(problems[0], id="warm-up"), few, _what(GOLD, problems[0]), own)
            tables, seconds = _tables(prober, problems, probes, size, own, warnings)
            warnings += _gold_warnings(prober, rewards, style, more_golds)
            warnings += _unreadable_golds(rewards, all_golds)
        finally:
            committee.close()
        if not prober.failures:
            warnings += _printed(output)
    num_completions = sum(len(table) for table in tables) * size
    failures, found = _verdict(rewards, problems, tables, prober.failures)
    return Report(
        lines=tuple(_lines(rewards, tables)),
        failures=tuple(failures),
        warnings=(*warnings, *found),
        num_problems=len(problems),
        seconds_per_batch=seconds / num_completions * rows_per_batch,
    )


def _probes(
    rewards: Mapping[str, Reward], style: StyleName, problems: Sequence[Problem]
) -> list[dict[str, str]]:
    """Return the completions of each problem by name."""
    try:
        return [probes_of(rewards, style_named(style), problem) for problem in problems]
    except R1ExpError:
        raise
    except Exception as error:
        raise Refused(f"a reward does not say what to check it with: {fault_of(error)}") from error


def _tables(
    prober: Prober,
    problems: Sequence[Problem],
    probes: Sequence[Mapping[str, str]],
    size: int,
    own: Collection[str],
    warnings: list[str],
) -> tuple[list[Table], float]:
    """Score the gold answers of all problems, then their cheats; return the scores and the seconds that it took.

    Args:
        prober: Scores a completion.
        problems: The problems.
        probes: For each problem, its completions.
        size: Completions of a group.
        own: The members that score one completion twice, to see whether they give the same number.
        warnings: Gets what is worth knowing.
    """

    def score(number: int, probe: str, only: Collection[str] | None = None) -> Scores:
        texts, problem = probes[number], problems[number]
        group = [texts[probe], *[texts[GOLD]] * (size - 1)]
        return prober.score(replace(problem, id=f"{problem.id} {probe}"), group, _what(probe, problem), only)

    begin = time.perf_counter()
    tables: list[Table] = [{GOLD: score(number, GOLD)} for number in range(len(problems))]
    seconds = time.perf_counter() - begin
    again = score(0, GOLD, own)
    warnings += [
        f"rewards.{name} gave {first:g} and then {second:g} for the same completions: a run with it cannot be repeated"
        for name, first in tables[0][GOLD].items()
        if not isinstance(first, Abstain)
        and not isinstance(second := again[name], Abstain)
        and first != second
    ]
    begin = time.perf_counter()
    for number, table in enumerate(tables):
        if time.perf_counter() - begin > _MOST_SECONDS:
            warnings.append(
                f"scoring takes so long that only {number} of {len(problems)} problems got cheats"
            )
            break
        table.update({probe: score(number, probe) for probe in probes[number] if probe != GOLD})
    return tables, seconds + time.perf_counter() - begin


def _gold_warnings(
    prober: Prober, rewards: Mapping[str, Reward], style: StyleName, problems: Sequence[Problem]
) -> list[str]:
    """Return a warning for each member that judges correctness and does not give some gold answers its maximum."""
    judges = [
        name
        for name, reward in rewards.items()
        if reward.judges_correctness and reward.is_local and not isinstance(reward, JudgedReward)
    ]
    until = time.perf_counter() + _MOST_SECONDS_OF_GOLDS
    seen: list[tuple[Problem, Scores]] = []
    for problem in problems if judges else ():
        if time.perf_counter() > until:
            break
        text = probes_of(rewards, style_named(style), problem)[GOLD]
        seen.append((problem, prober.score(problem, [text], _what(GOLD, problem), judges)))
    warnings = []
    for name in judges:
        wrong = [
            (problem, scores[name])
            for problem, scores in seen
            if scores[name] not in (rewards[name].span[1], *_UNKNOWN) and _has_gold(rewards[name], problem)
        ]
        if wrong:
            why = Counter(
                score.reason if isinstance(score, Abstain) else "not the maximum" for _, score in wrong
            )
            listed = ", ".join(f"{reason} {number}x" for reason, number in why.most_common())
            warnings.append(
                f"rewards.{name} cannot use the gold answer of {len(wrong)} of {len(seen)} further problems ({listed}), "
                f"first {wrong[0][0].answer!r} of problem {wrong[0][0].id!r}"
            )
    return warnings


def _unreadable_golds(rewards: Mapping[str, Reward], problems: Sequence[Problem]) -> list[str]:
    """Return a warning for each member that cannot read some gold answers: it abstains on these rows."""
    warnings = []
    for name, reward in rewards.items():
        asked = [problem for problem in problems if reward.applies(problem)]
        unreadable = reward.unreadable_golds(asked)
        if unreadable:
            warnings.append(
                f"rewards.{name} cannot read the gold answer of {len(unreadable)} of the first {len(asked)} problems and abstains "
                f"there, first {unreadable[0].answer!r} of problem {unreadable[0].id!r}; docs/judgement.md lists what can be read"
            )
    return warnings


def _what(probe: str, problem: Problem) -> str:
    name = "the gold answer" if probe == GOLD else f"the completion {probe!r}"
    return f"{name} of problem {problem.id!r}"


def _printed(output: IO[bytes]) -> list[str]:
    """Return a warning where the rewards printed, with the first line; in training it goes to the step's log."""
    output.seek(0)
    first = output.readline(200).decode(errors="replace").strip()
    size = output.seek(0, 2)
    return (
        [f"the rewards printed {size} bytes, in training to log.txt; the first line: {first}"] if size else []
    )


def _lines(rewards: Mapping[str, Reward], tables: Sequence[Table]) -> list[Line]:
    lines = []
    for probe in dict.fromkeys(name for table in tables for name in table):
        seen = [table[probe] for table in tables if probe in table]
        columns = {name: [scores[name] for scores in seen] for name in rewards}
        reasons = {
            name: Counter(
                score.reason for score in column if isinstance(score, Abstain) and score not in _UNKNOWN
            )
            for name, column in columns.items()
        }
        lines.append(
            Line(
                probe,
                {name: _mean([_number(score) for score in column]) for name, column in columns.items()},
                _mean([_total(rewards, scores) for scores in seen]),
                {name: counts for name, counts in reasons.items() if counts},
            )
        )
    return lines


def _total(rewards: Mapping[str, Reward], scores: Scores) -> float | None:
    """Return the weighted total of a completion; None where a weighted member that applies to it gave no number."""
    for name, score in scores.items():
        if (
            rewards[name].weight > 0.0
            and isinstance(score, Abstain)
            and score not in (NOT_APPLICABLE, NOT_CHECKED)
        ):
            return None
    columns = {name: [_number(score)] for name, score in scores.items()}
    return weighted_totals(columns, {name: reward.weight for name, reward in rewards.items()})[0]


def _number(score: Score) -> float | None:
    return None if isinstance(score, Abstain) else score


def _mean(column: Sequence[float | None]) -> float | None:
    known = [score for score in column if score is not None]
    return math.fsum(known) / len(known) if known else None


def _verdict(
    rewards: Mapping[str, Reward],
    problems: Sequence[Problem],
    tables: Sequence[Table],
    broken: Mapping[str, Failure],
) -> tuple[list[str], list[str]]:
    """Return what is wrong and what is worth knowing."""
    failures: list[str] = []
    warnings: list[str] = []
    for name, reward in rewards.items():
        scores = [table[probe][name] for table in tables for probe in table]
        found = _member_failures(name, reward, scores, broken.get(name), problems)
        is_gold_scored = all(not isinstance(table[GOLD][name], Abstain) for table in tables)
        if name in broken and broken[name].is_late and is_gold_scored:
            warnings += found  # only on a cheat
        elif (
            found and name not in broken and isinstance(reward, BatchReward) and not reward.judges_correctness
        ):
            warnings += found  # its service may be started later
        else:
            failures += found or _gold_failures(name, reward, problems, tables)
        warnings += _never_applies(name, reward, problems)
    if failures:
        return failures, warnings  # totals without the members that fail would say nothing
    judges = [reward for reward in rewards.values() if reward.judges_correctness and reward.weight > 0.0]
    judged = [
        table
        for problem, table in zip(problems, tables, strict=True)
        if any(reward.applies(problem) and _has_gold(reward, problem) for reward in judges)
    ]
    if not judged and any(reward.applies(problem) for reward in judges for problem in problems):
        no_gold = "the data have no gold answer that the rewards could be checked with; only what the cheats score is shown"
        return [], [*warnings, no_gold]
    cheats = _cheats_that_reach_gold(rewards, judged or tables)
    if judged:
        return cheats, warnings
    no_judge = "no member with a positive weight judges correctness, so nothing makes gold score higher"
    return [], [*warnings, no_judge, *cheats]


def _member_failures(
    name: str, reward: Reward, scores: Sequence[Score], broken: Failure | None, problems: Sequence[Problem]
) -> list[str]:
    """Return what is wrong with the scores of one member, whatever it is meant to judge."""
    if broken is not None:
        return [f"{_joined(name, broken.text)}{_hint(broken.text, problems[0])}"]
    trouble = reward.cannot_run_because(problems)
    if trouble is not None:
        return [f"rewards.{name} cannot score here: {trouble}"]
    judged = [score for score in scores if score not in _UNKNOWN]
    numbers = [score for score in judged if not isinstance(score, Abstain)]
    if judged and not numbers:
        reasons = Counter(score.reason for score in judged if isinstance(score, Abstain))
        listed = ", ".join(f"{reason} {number}x" for reason, number in reasons.most_common())
        return [f"rewards.{name} scored none of {len(judged)} completions ({listed}), gold answers included"]
    low, high = reward.span
    outside = [score for score in numbers if not low - 1e-9 <= score <= high + 1e-9]
    if outside:
        return [
            f"rewards.{name} gave {outside[0]:g}, outside of the span that it declares, {low:g} to {high:g}"
        ]
    return []


def _joined(name: str, text: str) -> str:
    """Return `text` after the name of the member, which some errors begin with."""
    if text.startswith(f"rewards.{name} "):
        return text
    starts_with_verb = text.partition(" ")[0].isalpha() and text[0].islower()
    return f"rewards.{name}{' ' if starts_with_verb else ': '}{text}"


def _hint(text: str, problem: Problem) -> str:
    """Return what to know about the arguments of a reward function, for the errors that a wrong guess of them causes."""
    if "KeyError" in text:
        columns = ", ".join(["id", "question", "answer", *problem.columns])
        return f"; the columns of the data are {columns}"
    if "'list'" in text:
        return "; a completion is a list of messages, [{'role': 'assistant', 'content': TEXT}]"
    return ""


def _never_applies(name: str, reward: Reward, problems: Sequence[Problem]) -> list[str]:
    if reward.applies_to is None or any(reward.applies(problem) for problem in problems):
        return []
    missing = [
        column for column in reward.applies_to if all(column not in problem.columns for problem in problems)
    ]
    columns = ", ".join(dict.fromkeys(column for problem in problems for column in problem.columns)) or "none"
    why = f": they have no column {missing[0]!r} (columns: {columns})" if missing else ""
    return [f"rewards.{name} applies to none of the {len(problems)} problems that were checked{why}"]


def _gold_failures(
    name: str, reward: Reward, problems: Sequence[Problem], tables: Sequence[Table]
) -> list[str]:
    if not reward.judges_correctness:
        return []
    pairs = [
        (problem, table[GOLD][name])
        for problem, table in zip(problems, tables, strict=True)
        if _has_gold(reward, problem)
    ]
    wrong = [(problem, score) for problem, score in pairs if score not in (reward.span[1], *_UNKNOWN)]
    if not wrong:
        return []
    problem, score = wrong[0]
    found = f"abstains ({score.reason})" if isinstance(score, Abstain) else f"gives {score:g}"
    return [
        f"rewards.{name} {found} on the gold answer {problem.answer!r} of problem {problem.id!r}, and its maximum "
        f"is {reward.span[1]:g} ({len(wrong)} of {len(pairs)} problems); look at how the prompt's style, the data's "
        "answers and the reward's `read` or `style` fit together"
    ]


def _has_gold(reward: Reward, problem: Problem) -> bool:
    """Return whether the gold completion of a problem must be right for a member that judges correctness."""
    return reward.needs_gold or reward.gold_answer(problem) is not None


def _cheats_that_reach_gold(rewards: Mapping[str, Reward], tables: Sequence[Table]) -> list[str]:
    """Return a sentence for each cheat whose mean total is that of gold, over the problems where both have one."""
    found = []
    for probe in dict.fromkeys(name for table in tables for name in table if name != GOLD):
        pairs = [
            (cheat, gold)
            for table in tables
            if probe in table
            and (cheat := _total(rewards, table[probe])) is not None
            and (gold := _total(rewards, table[GOLD])) is not None
        ]
        if not pairs:
            continue
        cheat, gold = (math.fsum(totals) / len(pairs) for totals in zip(*pairs, strict=True))
        if cheat >= gold - 1e-9:
            found.append(
                f"{probe!r} scores {cheat:.3f} and gold scores {gold:.3f}: the policy will learn to cheat; raise the "
                "weight of the member that judges correctness, or add a member that the cheat fails, such as "
                "rewards.format"
            )
    return found
