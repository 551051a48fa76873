import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1exp.errors import StoppedByHealth
from r1exp.records import Completion, Problem
from r1exp.rewards.adapter import reward_funcs
from r1exp.rewards.base import Context, Reward
from r1exp.rewards.committee import Committee
from r1exp.rewards.ranks import Ranks, score_together
from r1exp.rewards.strict import Strict
from r1exp.rewards.vote_partial import VotePartial

NUMBERS = [42, 41, 42, 43, 41, 42, 40, 41, 7, 8, 7, 8, 9, 9, 9, 7]


def batch(num_generations: int = 8) -> tuple[list[Problem], list[Completion]]:
    problems = [Problem(f"p{row // num_generations}", "?", "42") for row in range(len(NUMBERS))]
    return problems, [Completion(f"#### {number}", 3) for number in NUMBERS]


def members() -> dict[str, Reward]:
    vote = VotePartial(style="plain", scope="group", tolerance=1)
    return {"vote": vote, "right": Strict(style="plain", applies_to=None)}


class ThreadGather:
    """`gather_object` for threads: the lists of all ranks, joined in rank order."""

    def __init__(self, num_ranks: int) -> None:
        self._lists: list[list[Any]] = [[] for _ in range(num_ranks)]
        self._barrier = threading.Barrier(num_ranks, timeout=20)

    def gather(self, rank: int) -> Callable[[list[Any]], list[Any]]:
        def gather(own: list[Any]) -> list[Any]:
            self._lists[rank] = own
            self._barrier.wait()
            joined = [item for part in self._lists for item in part]
            self._barrier.wait()
            return joined

        return gather


def on_ranks(num_ranks: int, work: Callable[[Ranks, slice], Any], num_rows: int) -> list[Any]:
    """Run `work` on each of `num_ranks` threads; return what each returned or raised."""
    threads_gather = ThreadGather(num_ranks)
    results: list[Any] = [None] * num_ranks
    size = num_rows // num_ranks

    def one(rank: int) -> None:
        try:
            ranks = Ranks(rank, num_ranks, threads_gather.gather(rank))
            results[rank] = work(ranks, slice(rank * size, (rank + 1) * size))
        except StoppedByHealth as error:
            results[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(num_ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("num_ranks", [1, 2, 4, 8])
def test_the_scores_do_not_depend_on_how_the_batch_is_split(num_ranks: int) -> None:
    """With 4 and 8 ranks, groups of 8 are split between ranks."""
    problems, completions = batch()

    def work(ranks: Ranks, rows: slice) -> dict[str, list]:
        scored = score_together(Committee(members()), problems[rows], completions[rows], Context(), ranks)
        assert scored.own == rows
        return scored.table

    tables = on_ranks(num_ranks, work, len(problems))
    alone = Committee(members()).score(problems, completions, Context())
    assert tables == [alone] * num_ranks
    assert alone["vote"][:8] == [2.0, 0.5, 2.0, 0.5, 0.5, 2.0, 0.0, 0.5]


class Counting(Reward):
    """Records the texts that each thread scores."""

    kind: str = "counting"

    @property
    def span(self) -> tuple[float, float]:
        return (0.0, 1.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> float:
        SCORED.setdefault(threading.get_ident(), []).append(completion.text)
        return 1.0


SCORED: dict[int, list[str]] = {}  # thread: the texts that it scored


def test_rows_of_a_single_rank_are_scored_by_all_ranks() -> None:
    """All rows of the slow kind are on rank 0."""
    SCORED.clear()
    problems = [Problem(f"p{row}", "?", "1", {"task": "code" if row < 8 else "chat"}) for row in range(16)]
    completions = [Completion(str(row), 3) for row in range(16)]

    def work(ranks: Ranks, rows: slice) -> None:
        committee = Committee({"count": Counting(applies_to={"task": "code"})})
        score_together(committee, problems[rows], completions[rows], Context(), ranks)

    on_ranks(2, work, 16)
    assert sorted(len(texts) for texts in SCORED.values()) == [4, 4]


class Sleeping(Counting):
    def score(self, problem: Problem, completion: Completion, context: Context) -> float:
        time.sleep(float(completion.text))
        return 1.0


def test_the_seconds_of_a_member_are_those_of_the_slowest_rank() -> None:
    problems = [Problem("a", "a", "1"), Problem("b", "b", "1")]
    completions = [Completion("0.0", 3), Completion("0.2", 3)]

    def work(ranks: Ranks, rows: slice) -> float:
        committee = Committee({"slow": Sleeping()})
        return score_together(committee, problems[rows], completions[rows], Context(), ranks).seconds["slow"]

    assert all(seconds >= 0.2 for seconds in on_ranks(2, work, 2))


class Refusing(Counting):
    def score(self, problem: Problem, completion: Completion, context: Context) -> Any:
        if completion.text == "stop":
            raise StoppedByHealth("no more")
        return 1.0


def test_an_error_on_one_rank_is_raised_on_all_ranks() -> None:
    problems = [Problem("a", "a", "1"), Problem("b", "b", "1")]
    completions = [Completion("go", 3), Completion("stop", 3)]

    def work(ranks: Ranks, rows: slice) -> Any:
        committee = Committee({"count": Refusing()})
        return score_together(committee, problems[rows], completions[rows], Context(), ranks)

    assert [str(result) for result in on_ranks(2, work, 2)] == ["no more", "no more"]


def test_each_rank_gets_its_own_rows_and_the_same_metrics() -> None:
    problems, completions = batch()

    def work(ranks: Ranks, rows: slice) -> tuple[list, dict[str, float]]:
        logged: dict[str, float] = {}
        func = reward_funcs(Committee({"vote": members()["vote"]}), ranks)[0]
        own = [problem.to_row([]) for problem in problems[rows]]
        columns = {name: [row[name] for row in own] for name in ("id", "question", "answer")}
        texts = [answer.text for answer in completions[rows]]
        rewards = func(
            prompts=[[]] * len(texts), completions=texts, completion_ids=[[1]] * len(texts),
            log_metric=logged.__setitem__, **columns,
        )  # fmt: skip
        return rewards, logged

    results = on_ranks(4, work, len(problems))
    alone = Committee(members()).score(problems, completions, Context())["vote"]
    assert [value for rewards, _ in results for value in rewards] == alone
    assert all(logged == results[0][1] for _, logged in results)


GLOO = """
import json, sys
from accelerate import Accelerator
from accelerate.utils import gather_object
from types import SimpleNamespace
from r1exp.records import Problem
from r1exp.rewards.adapter import reward_funcs
from r1exp.rewards.committee import Committee
from r1exp.rewards.function import Function
from r1exp.rewards.ranks import Ranks
from r1exp.rewards.strict import Strict
from r1exp.rewards.vote_partial import VotePartial

accelerator = Accelerator(cpu=True)
numbers, foreign, out = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
per_rank = len(numbers) // accelerator.num_processes
own = range(accelerator.process_index * per_rank, (accelerator.process_index + 1) * per_rank)
committee = Committee({
    "vote": VotePartial(style="plain", scope="group"),
    "right": Strict(style="plain"),
    "foreign": Function(kind=f"{foreign}:last_number", deadline=20.0),
}, num_workers=1)
funcs = reward_funcs(committee, Ranks(accelerator.process_index, accelerator.num_processes, gather_object))
state = SimpleNamespace(global_step=0, max_steps=1)
columns = {
    "id": [f"p{row // 8}" for row in own], "question": ["?"] * per_rank, "answer": ["42"] * per_rank,
    "prompts": [[]] * per_rank, "completion_ids": [[1, 2]] * per_rank, "trainer_state": state,
    "completions": [[{"role": "assistant", "content": f"#### {numbers[row]}"}] for row in own],
}
rewards = [func(**columns) for func in funcs]
gathered = gather_object([rewards])
committee.close()
if accelerator.is_main_process:

    joined = [[value for part in gathered for value in part[k]] for k in range(len(funcs))]
    open(out, "w").write(json.dumps([accelerator.num_processes, joined]))
accelerator.wait_for_everyone()
accelerator.end_training()
"""


@pytest.mark.slow
def test_gloo_ranks_give_identical_rewards(tmp_path: Path, foreign: str) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(GLOO)
    tables = {}
    for num_ranks in (1, 2, 4):
        out = tmp_path / f"{num_ranks}.json"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={num_ranks}", str(script), json.dumps(NUMBERS), foreign, str(out)]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stderr
        num_seen, tables[num_ranks] = json.loads(out.read_text())
        assert num_seen == num_ranks
    assert tables[1] == tables[2] == tables[4]
    assert tables[1][2] == [float(number) for number in NUMBERS]
