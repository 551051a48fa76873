"""Attacks a committee: what would a policy learn to exploit?

The search knows the prompts and never the gold answers, as a policy. It maximizes the weighted total over a few problems
and confirms what it finds on others. An exploit scores more than an honest mistake (a wrong answer, well written) by a
tenth of the distance to a right completion. An abstention counts as the mean of its group, as in training. Members with
weight 0 are left out, except those that others are judged by.

Not searched: what all completions of a group could agree on (each is scored among right ones), and completions that
only a trained policy would find. That no exploit is found is no proof that there is none.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence

from r1exp.errors import Refused
from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Problem
from r1exp.rewards.attack.report import AttackReport, Exploit
from r1exp.rewards.attack.scoring import Scorer
from r1exp.rewards.attack.search import Found, Levels, confirmed, measure, search, sources
from r1exp.rewards.attack.strategy import ALL_ANSWERS, HONEST_PROGRAM
from r1exp.rewards.base import GroupReward, JudgedReward, Reward
from r1exp.rewards.code import RunsCode
from r1exp.rewards.committee import Committee, Openers
from r1exp.rewards.probes import GOLD, probes_of
from r1exp.rewards.probing import openers_of, users_own

MOST_TOKENS = 4096  # of a completion, where nothing else limits it
_NUM_SEARCHED = 3  # problems that the search scores each strategy on
_GROUP_SIZE = 4  # completions per group, for members that compare completions
_SHARE_OF_SEARCH = 0.8  # of the seconds; the rest is for reducing and confirming what was found


def attack(
    rewards: Mapping[str, Reward],
    style: StyleName,
    problems: Sequence[Problem],
    *,
    seconds: float = 60.0,
    seed: int = 0,
    most_tokens: int = MOST_TOKENS,
    openers: Openers | None = None,
) -> AttackReport:
    """Search for completions that score well without a right answer.

    Args:
        rewards: The members.
        style: The prompt's.
        problems: Some problems of the training set; the first three are searched, the others confirm.
        seconds: Most seconds of the search. It ends earlier when it no longer finds anything better.
        seed: Of the search's choices.
        most_tokens: Longest completion.
        openers: As for `Committee`; a member that cannot be opened here is left out, with a warning.

    Raises:
        Refused: `problems` is empty.
    """
    if not problems:
        raise Refused("there is no problem to attack the rewards with; give a data set that is not empty")
    begin = time.perf_counter()
    warnings: list[str] = []
    members = _members_that_count(rewards)
    weights = {name: reward.weight for name, reward in members.items()}
    runs_programs = any(isinstance(reward, RunsCode) for reward in members.values())
    mistakes = [HONEST_PROGRAM] if runs_programs else []
    with tempfile.TemporaryFile() as output:
        committee = Committee(
            members,
            openers_of(members, openers or {}, warnings),
            isolated=users_own(members),
            output=output,
        )
        try:
            searched, others = problems[:_NUM_SEARCHED], problems[_NUM_SEARCHED:] or problems
            scorer = _scorer(committee, style, searched, most_tokens)
            until = begin + _SHARE_OF_SEARCH * seconds
            found = search(scorer, ALL_ANSWERS, measure(scorer, mistakes), weights, until=until, seed=seed)
            judge = _scorer(committee, style, others, most_tokens)
            levels = measure(judge, mistakes)
            exploits = confirmed(judge, levels, found)
        finally:
            committee.close()
    if not levels.depends_on_answer:
        warnings.append(
            "a wrong answer scores as much as a right one, so nothing teaches the policy to be right"
        )
    return AttackReport(
        exploits=tuple(_exploit(exploit, levels, weights) for exploit in exploits),
        gold=levels.gold,
        mistake=levels.lowest,
        num_strategies=scorer.num_scored,
        num_problems=len(problems),
        seconds=time.perf_counter() - begin,
        warnings=tuple(warnings),
    )


def _members_that_count(rewards: Mapping[str, Reward]) -> dict[str, Reward]:
    judges = {
        reward.judged_by for reward in rewards.values() if isinstance(reward, JudgedReward) and reward.weight
    }
    return {name: reward for name, reward in rewards.items() if reward.weight > 0.0 or name in judges}


def _scorer(
    committee: Committee,
    style: StyleName,
    problems: Sequence[Problem],
    most_tokens: int,
) -> Scorer:
    has_group = any(isinstance(reward, GroupReward) for reward in committee.rewards.values())
    return Scorer(
        committee,
        style_named(style),
        problems,
        [probes_of(committee.rewards, style_named(style), problem)[GOLD] for problem in problems],
        ALL_ANSWERS,
        group_size=_GROUP_SIZE if has_group else 1,
        most_tokens=most_tokens,
    )


def _exploit(found: Found, levels: Levels, weights: Mapping[str, float]) -> Exploit:
    result = found.result
    assert result.total is not None
    own = result.strategy.deviations()
    also = dict.fromkeys(word for strategy in found.also for word in strategy.deviations() if word not in own)
    return Exploit(
        total=result.total,
        deviations=tuple(own),
        scored_by={
            name: (result.scores[name], levels.mistake.scores.get(name, 0.0))
            for name in sources(result, levels, weights)
            if name not in result.abstained
        },
        abstained={name: reason for name, reason in result.abstained.items() if weights[name] > 0.0},
        also=tuple(also),
        closed_by=tuple(result.strategy.closed_by(ALL_ANSWERS)),
        example=result.example,
    )
