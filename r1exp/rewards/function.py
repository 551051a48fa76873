"""Scores with a TRL-style reward function from any module, `kind: package.module:function`.

The function is called as TRL calls one, with the completions of one prompt, in a worker process:

    function(prompts, completions, completion_ids, **columns, **arguments) -> [number | None, ...]

`prompts` and `completions` are conversational; `columns` are the problem's (id, question, answer and
any others of the data set), one value per completion. None and NaN abstain. A coroutine function is
awaited. `log_metric` and `log_extra` are accepted and do nothing in a worker.

With `factory: true` the name is called once with `arguments` and returns the function, as
`trl.rewards:get_repetition_penalty_reward` does.
"""

import importlib
import importlib.util
import inspect
import json
import math
from collections.abc import Callable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Abstain, Context, Reward, Score, SlowGroupReward, Span, TokenizedCompletion

NO_VALUE = Abstain("function gave no value")


class Function(SlowGroupReward):
    """A TRL-style reward function."""

    kind: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]  # package.module:function
    # Keyword arguments of the function, or of the factory.
    arguments: dict[str, Any] = Field(default_factory=dict)
    factory: bool = False  # true: the name is called with `arguments` and returns the function
    lowest: float | None = None  # the lowest value the function can return; null: unbounded
    highest: float | None = None  # the highest value the function can return; null: unbounded

    @model_validator(mode="after")
    def _package_is_installed(self) -> Self:
        package = self.kind.partition(":")[0].partition(".")[0]
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"kind={self.kind} names the package {package!r}, which Python does not find; "
                "install it, or run r1exp in the folder that contains it"
            )
        return self

    @property
    def span(self) -> Span:
        return (
            -math.inf if self.lowest is None else self.lowest,
            math.inf if self.highest is None else self.highest,
        )

    def prepare(self) -> None:
        self._function()

    def score_group(
        self, problem: Problem, completions: Sequence[Completion], context: Context
    ) -> list[Score]:
        columns = {**problem.columns, "id": problem.id, "question": problem.prompt, "answer": problem.answer}
        num = len(completions)
        values = self._function()(
            prompts=[problem.messages for _ in completions],
            completions=[[{"role": "assistant", "content": answer.text}] for answer in completions],
            completion_ids=[_token_ids(answer) for answer in completions],
            trainer_state=SimpleNamespace(global_step=context.step, max_steps=context.num_steps),
            log_extra=lambda column, values: None,
            log_metric=lambda name, value: None,
            **{name: [value] * num for name, value in columns.items()},
            **({} if self.factory else self.arguments),
        )
        if inspect.isawaitable(values):
            import asyncio  # a fiftieth of a second, which `r1exp plan` does not need

            values = asyncio.run(_awaited(values))
        if len(values) != num:
            raise ValueError(f"{self.kind} returned {len(values)} values for {num} completions")
        return [NO_VALUE if value is None or math.isnan(value) else float(value) for value in values]

    def _function(self) -> Callable[..., Any]:
        return _resolved(self.kind, json.dumps(self.arguments) if self.factory else None)


@cache
def _resolved(kind: str, factory_arguments: str | None) -> Callable[..., Any]:
    """Import the function, or call the factory with arguments given as JSON."""
    module, _, name = kind.partition(":")
    found: Any = getattr(importlib.import_module(module), name)
    if isinstance(found, type) and issubclass(found, Reward):
        raise ValueError(
            f"{kind} is a reward class, and its module assigns it to this name instead of defining it with a "
            f"class statement; type kind={found.__module__}:{found.__name__}"
        )
    function: Callable[..., Any] = (
        found if factory_arguments is None else found(**json.loads(factory_arguments))
    )
    return function


async def _awaited(values: Any) -> Any:
    return await values


def _token_ids(completion: Completion) -> list[int]:
    return list(completion.token_ids) if isinstance(completion, TokenizedCompletion) else []
