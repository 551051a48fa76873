"""Labels the questions of a data set with the answers of a teacher, and keeps the good ones.

    artifact/answers.jsonl  one answer per line: question, text, reasoning, tokens, reward, whether it is right, why it was dropped
    artifact/data.jsonl     one kept answer per line, in the form of dataset=jsonl: `question`, `answer` (the gold answer, or
                            the one that was read) and `solution` (the reasoning, or the text before the answer). Where
                            these three cannot say what the teacher wrote, the row has `messages` instead, a chat
    artifact/facts.json     counts and tokens
    spent.json              beside the artifact: tokens, prices and cost

The reasoning is what the endpoint returns apart from the text, else what stands in <think> or the style's tags. Rewards and judge
get both together.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from r1exp.distributed import interleave
from r1exp.errors import Refused
from r1exp.files import whole_folder, write_json, write_json_lines
from r1exp.paths import ArtifactPaths, StepPaths
from r1exp.prompt.reasoning import joined, split_reasoning
from r1exp.prompt.style import Style, style_named
from r1exp.records import Completion, Problem
from r1exp.stage.asking import ask
from r1exp.stage.generate import Generate
from r1exp.stage.sample_answers import pass_rate, scored
from r1exp.stage.spending import Spending
from r1exp.stage.step import Step
from r1exp.terminal import say
from r1exp.tracking.completions import CompletionFiles

Row = dict[str, Any]


def generate_answers(step: Step, folder: Path) -> str | None:
    """Write the artifact; the questions are divided among the ranks. Tracks nothing.

    Raises:
        BudgetSpent: the budget was spent before the last answer.
    """
    stage = step.config.stage
    assert isinstance(stage, Generate)
    stage.check_bound(step.config)
    spending = Spending(stage)
    asked = ask(step, folder, stage.num_problems, stage.samples, "answers", stage.top_p, spending)
    say(f"{spending.num_answered:,} answers, {spending.text()}; {asked.speed()}")
    style = style_named(step.config.prompt.style)
    groups = [
        [replace(each, text=joined(each.reasoning, each.text, style)) for each in group]
        for group in asked.groups
    ]
    verdicts = scored(step.config, asked.problems, groups, asked.kept)
    stage = stage.without_bounds() if step.config.debug.num_problems is not None else stage
    labelled = [
        _labelled(problem, group, judged, stage, style)
        for problem, group, judged in zip(asked.problems, groups, verdicts, strict=True)
    ]
    whole = interleave(gather_object([labelled]))
    spent = gather_object([spending.facts()])
    if asked.state.is_main_process:
        _save(whole, StepPaths(folder).artifact)
        write_json(StepPaths(folder).spent, _together(spent, stage))
        files = CompletionFiles(step.config.completions, folder)
        files.write("answers", files.sample([[answer for answer, _ in group] for group in whole]))
    asked.state.wait_for_everyone()
    asked.kept.remove()
    return None


def _labelled(
    problem: Problem, group: Iterable[Completion], judged: Collection[Row], stage: Generate, style: Style
) -> list[tuple[Row, Row | None]]:
    """Return each answer to a question as a row of answers.jsonl, and as one of data.jsonl if it is kept.

    Args:
        problem: The question.
        group: Its completions, with their reasoning in the text.
        judged: The reward and the verdict of each.
        stage: What is kept.
        style: The prompt's.
    """
    rows: list[tuple[Row, Row | None]] = []
    rate = pass_rate(judged)
    for number, (completion, verdict) in enumerate(zip(group, judged, strict=True)):
        reasoning, text = split_reasoning(completion.text, style)
        answer = {
            "id": problem.id if stage.samples == 1 else f"{problem.id}-{number}",
            "question": _question(problem),
            "answer": problem.answer,
            "reasoning": reasoning,
            "text": text,
            "num_prompt_tokens": completion.num_prompt_tokens,
            "num_tokens": completion.num_tokens,
            "finish_reason": completion.finish_reason or ("stop" if completion.finished else "length"),
            **{name: verdict[name] for name in ("reward", "right", "read", "how")},
        }
        answer["dropped"] = _why_dropped(answer, completion.finished, stage)
        kept = None if answer["dropped"] else data_row(problem, answer, completion.text, style)
        if kept is not None and rate is not None:
            kept["pass_rate"] = rate
        rows.append((answer, kept))
    return rows


def _question(problem: Problem) -> Any:
    return problem.messages if problem.earlier else problem.prompt


def _why_dropped(answer: Row, finished: bool, stage: Generate) -> str | None:
    if answer["finish_reason"] == "refused":
        return "refused"
    if not answer["text"].strip():
        return "empty"
    if stage.only_finished and not finished:
        return "cut"
    if stage.only_right and answer["right"] is False:
        return "wrong"
    if stage.min_reward is not None and (answer["reward"] is None or answer["reward"] < stage.min_reward):
        return "low_reward"
    return None


def data_row(problem: Problem, answer: Row, whole: str, style: Style) -> Row:
    """Return a kept answer as a row of dataset=jsonl.

    It has `question`, `answer` and `solution` if SFT can write the teacher's answer from them, else `messages`.

    Args:
        problem: The question.
        answer: The row of answers.jsonl.
        whole: The completion, with its reasoning.
        style: The prompt's.
    """
    columns = {name: value for name, value in problem.columns.items() if name != "solution"}
    label = problem.answer if problem.answer is not None else style.read_answer(whole)
    solution = answer["reasoning"] or style.read_reasoning(whole) or answer["text"]
    if label is not None and answer["right"] is not False and _can_be_written(solution, label, style):
        row = {"id": answer["id"], "question": answer["question"], "answer": label, "solution": solution}
        return columns | row
    gold = {} if problem.answer is None else {"answer": problem.answer}  # for later steps that sample
    messages = [*problem.messages, {"role": "assistant", "content": whole}]
    return columns | {"id": answer["id"], "messages": messages} | gold


def _can_be_written(solution: str, label: str, style: Style) -> bool:
    try:
        style.write(solution, label)
    except Refused:
        return False
    return True


def _save(groups: list[list[tuple[Row, Row | None]]], artifact: Path) -> None:
    answers = [answer for group in groups for answer, _ in group]
    kept = [row for group in groups for _, row in group if row is not None]
    facts = _facts(answers, kept)
    facts["num_questions"] = len(groups)
    facts["num_questions_kept"] = sum(any(row is not None for _, row in group) for group in groups)
    if not kept:
        say(
            f"none of the {len(answers):,} answers was kept ({_listed(facts['dropped'])}); artifact/answers.jsonl has them all"
        )
    with whole_folder(artifact) as unfinished:
        paths = ArtifactPaths(unfinished)
        write_json_lines(paths.answers, answers)
        write_json_lines(paths.data, kept)
        write_json(paths.facts, facts)


def _facts(answers: list[Row], kept: list[Row]) -> Row:
    """Return the counts. Prices are no part of the step's key, so that the cost is not in the artifact."""
    prompt_tokens = [answer["num_prompt_tokens"] for answer in answers]
    num_prompt_tokens = None if None in prompt_tokens else sum(prompt_tokens)
    num_tokens = sum(answer["num_tokens"] for answer in answers)
    dropped = Counter(answer["dropped"] for answer in answers if answer["dropped"])
    verdicts = [answer["right"] for answer in answers if answer["right"] is not None]
    return {
        "unit": "answers",  # of the next two, and of `dropped`
        "num_rows": len(answers),
        "num_kept": len(kept),
        "num_chats": sum("messages" in row for row in kept),
        "num_with_reasoning": sum(answer["reasoning"] is not None for answer in answers),
        "dropped": dict(sorted(dropped.items())),
        "pass_rate": sum(verdicts) / len(verdicts) if verdicts else None,
        "num_prompt_tokens": num_prompt_tokens,
        "num_tokens": num_tokens,
    }


def _together(shares: list[Row], stage: Generate) -> Row:
    """Return what all ranks have spent."""
    total = {
        name: sum(share[name] for share in shares)
        for name in ("num_answers", "num_prompt_tokens", "num_tokens")
    }
    prices = {name: shares[0][name] for name in ("price_input", "price_output")}
    return total | prices | {"cost": stage.cost(total["num_prompt_tokens"], total["num_tokens"])}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())
