"""Scores with a TRL-style reward function from any module, `kind: package.module:function`.

The function is called as TRL calls one, with the completions of one prompt, in a worker process:

    function(prompts, completions, completion_ids, **columns, **arguments) -> [number | None, ...]

`prompts` and `completions` are conversational; `columns` are the problem's (id, question, answer and
any others of the data set), one value per completion. None abstains; what is no finite number is an error.
A coroutine function is awaited. `log_metric` and `log_extra` are accepted and do nothing in a worker.

With `factory: true` the name is called once with `arguments` and returns the function, as
`trl.rewards:get_repetition_penalty_reward` does.
"""

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
from r1exp.registry import load
from r1exp.rewards.base import Context, Reward, Score, SlowGroupReward, Span, TokenizedCompletion
from r1exp.rewards.faults import place_of, scores_from
from r1exp.settings import nearest


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
        function = self._function()
        values = self._call(function, self._given(problem, completions, context))
        if inspect.isawaitable(values):
            import asyncio  # a fiftieth of a second, which `r1exp plan` does not need

            values = asyncio.run(_awaited(values))
        try:
            return scores_from(values, len(completions))
        except ValueError as error:
            raise ValueError(f"{error}{place_of(function)}") from None

    def _given(self, problem: Problem, completions: Sequence[Completion], context: Context) -> dict[str, Any]:
        """Return the keyword arguments of the function, as TRL passes them."""
        columns = {"id": problem.id, "question": problem.prompt, "answer": problem.answer} | dict(
            problem.columns
        )
        given = {
            "prompts": [problem.messages for _ in completions],
            "completions": [[{"role": "assistant", "content": answer.text}] for answer in completions],
            "completion_ids": [_token_ids(answer) for answer in completions],
            "trainer_state": SimpleNamespace(global_step=context.step, max_steps=context.num_steps),
            "log_extra": lambda column, values: None,
            "log_metric": lambda name, value: None,
            **{name: [value] * len(completions) for name, value in columns.items()},
        }
        own = {} if self.factory else self.arguments
        taken = sorted(own.keys() & given.keys())
        if taken:
            raise ValueError(
                f"has {taken[0]!r} among its `arguments`, which is what every reward function is given; rename it"
            )
        return given | own

    def _call(self, function: Callable[..., Any], given: dict[str, Any]) -> Any:
        """Call the function. Raises ValueError where its signature does not fit what it is given."""
        try:
            signature = inspect.signature(function)
            bound = signature.bind(**given)
        except ValueError:  # a function of C code, which does not state its signature
            return function(**given)
        except TypeError as error:
            raise ValueError(
                f"cannot be called: {error}; it gets {', '.join(given)} by name, so name those that it reads and take "
                f"the others with **kwargs{place_of(function)}"
            ) from None
        if not self.factory:
            _refuse_misspelt(self.arguments, signature, place_of(function))
        return function(*bound.args, **bound.kwargs)

    def _function(self) -> Callable[..., Any]:
        return _resolved(self.kind, json.dumps(self.arguments) if self.factory else None)


def _refuse_misspelt(arguments: dict[str, Any], signature: inspect.Signature, place: str) -> None:
    """Raise ValueError for a key of `arguments` that only **kwargs takes, if the function has a similar parameter."""
    named = [name for name, found in signature.parameters.items() if found.kind is not found.VAR_KEYWORD]
    for key in arguments.keys() - set(named):
        close = nearest(key, named)
        if close:
            raise ValueError(f"has no parameter {key!r}; did you mean arguments.{close[0]}?{place}")


@cache
def _resolved(kind: str, factory_arguments: str | None) -> Callable[..., Any]:
    """Import the function, or call the factory with arguments given as JSON."""
    found = load(kind)
    if isinstance(found, type) and issubclass(found, Reward):
        raise ValueError(
            f"{kind} is a reward class, and its module assigns it to this name instead of defining it with a "
            f"class statement; type kind={found.__module__}:{found.__name__}"
        )
    if factory_arguments is not None:
        found = found(**json.loads(factory_arguments))
    elif isinstance(found, type):
        raise ValueError(
            f"is a class, and not one of r1exp.rewards.base; name a function, or set factory=true if its instances "
            f"are reward functions{place_of(found)}"
        )
    if not callable(found):
        verb = "is" if factory_arguments is None else "makes"
        raise ValueError(f"{verb} a {type(found).__name__}, which cannot be called; name a function")
    function: Callable[..., Any] = found
    return function


async def _awaited(values: Any) -> Any:
    return await values


def _token_ids(completion: Completion) -> list[int]:
    return list(completion.token_ids) if isinstance(completion, TokenizedCompletion) else []
