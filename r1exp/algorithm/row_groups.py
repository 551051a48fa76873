"""Computes the forward pass of a policy on rows of different lengths without their padding.

A row's tokens are moved together, so that no column at its left is padding; the rows are sorted by length and cut into groups,
and each group is one forward pass of the width of its longest row. Only the tokens that are scored go through the output matrix,
and the last token of a row, after which nothing is scored, through no layer. What is returned per token is put back in place:

    cost of a group = rows of the group * longest row + overhead        in tokens

The cut is the one of least cost. The result is that of one pass over padded rows up to rounding, because matrix products have
other shapes; a token of padding is in no result. Each row begins at position 0, as it does when it is sampled.

Written against TRL 1.16 (`add_fused_lm_head`, which reads `shift_labels`). Shapes: B rows, S tokens of prompt and completion with
padding; in a group G rows, W tokens of the longest one, N tokens that are scored, D features.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

# What a further pass costs, in tokens of a longer pass: measured with the tiny model on a CPU; on a GPU a pass of few tokens takes
# as long as one of some thousand.
_OVERHEAD = {"cpu": 64}
_OVERHEAD_ELSEWHERE = 4096
_NOT_SCORED = -100  # PyTorch's label
_INPUTS = {"input_ids", "attention_mask", "labels"}


@dataclass(frozen=True)
class RowGroups:
    """How the rows of a pass are cut."""

    most_rows: int  # of a group
    overhead: int  # tokens that a further group costs
    are_even: bool = (
        False  # groups of `most_rows` each: as many groups on each rank, whose weights are gathered for each
    )

    @classmethod
    def on(cls, device: str, most_rows: int, *, are_even: bool) -> "RowGroups":
        """Return the groups for a type of device, "cpu" or another."""
        return cls(most_rows, _OVERHEAD.get(device, _OVERHEAD_ELSEWHERE), are_even)

    def cut(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return the indices of the rows of each group; the rows of a group are neighbors in the order of their lengths."""
        order = sorted(range(len(lengths)), key=lambda row: lengths[row])
        if self.are_even:
            return [order[start : start + self.most_rows] for start in range(0, len(order), self.most_rows)]
        best, start_of = [0], [0]  # least cost of the first n rows, and where their last group starts
        for end in range(1, len(order) + 1):
            longest = lengths[order[end - 1]]
            costs = [
                (best[start] + (end - start) * longest + self.overhead, start)
                for start in range(max(0, end - self.most_rows), end)
            ]
            cost, start = min(costs)
            best.append(cost)
            start_of.append(start)
        groups, end = [], len(order)
        while end:
            groups.append(order[start_of[end] : end])
            end = start_of[end]
        return groups[::-1]


def cut_rows(model: nn.Module, groups: RowGroups, trunks: Sequence[nn.Module]) -> None:
    """Let the scoring forward of `model` compute its rows in groups without padding; sampling is not changed.

    Args:
        model: A policy or reference with TRL's fused head, and with its critic if it has one, not yet wrapped.
        groups: How rows are cut.
        trunks: The modules that return `last_hidden_state` for a head in `model`.
    """
    whole = model.forward

    @functools.wraps(type(model).forward)  # `generate` validates its arguments by the signature
    def forward(self: Any, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return whole(*args, **kwargs)
        given = {name: value for name, value in kwargs.items() if value is not None}  # peft passes None
        if args or given.keys() != _INPUTS:
            return whole(*args, fused_lm_head=True, **kwargs)
        return in_groups(functools.partial(whole, fused_lm_head=True), groups, trunks, **given)

    model.forward = MethodType(forward, model)


def in_groups(
    forward: Callable[..., Any],
    groups: RowGroups,
    trunks: Sequence[nn.Module],
    *,
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor,
) -> Any:
    """Return the output of `forward` on all rows, with 0 at tokens that are not scored.

    Args:
        forward: Called with `input_ids`, (G, W - 1), `attention_mask` None and `shift_labels`, (1, N); returns a dataclass whose
            tensors of two dimensions are (1, N), about each scored token.
        groups: How rows are cut.
        trunks: The modules whose `last_hidden_state` is (G, W - 1, D), of which the heads are given (1, N, D).
        input_ids: (B, S).
        attention_mask: (B, S), 1 on tokens that count.
        labels: (B, S), -100 on tokens that are not scored.
    """
    lengths_b = attention_mask.sum(dim=1)
    lengths: list[int] = lengths_b.tolist()
    order_bs = torch.argsort(attention_mask == 0, dim=1, stable=True)  # of each row its tokens first
    rows, columns, outputs = [], [], []
    for members in groups.cut(lengths):
        width = max(2, max(lengths[row] for row in members))
        index = torch.tensor(members, device=input_ids.device)
        order_gw = order_bs[index, :width]
        ids_gw = input_ids[index].gather(1, order_gw)
        is_token_gw = torch.arange(width, device=index.device) < lengths_b[index, None]
        next_gw = labels[index].gather(1, order_gw).masked_fill(~is_token_gw, _NOT_SCORED)[:, 1:]
        is_scored_gw = next_gw != _NOT_SCORED
        if not is_scored_gw.any():  # something must come of a pass whose gradient others wait for
            is_scored_gw[0, 0] = True
        with _picked(trunks, is_scored_gw):
            # No mask: padding is at the right, where causal attention of the tokens before does not see it.
            outputs.append(
                forward(
                    input_ids=ids_gw[:, :-1],
                    attention_mask=None,
                    shift_labels=next_gw[is_scored_gw].unsqueeze(0),
                )
            )
        rows.append(index[:, None].expand_as(next_gw)[is_scored_gw])
        columns.append(order_gw[:, 1:][is_scored_gw] - 1)
    return _joined(outputs, (torch.cat(rows), torch.cat(columns)), (input_ids.size(0), input_ids.size(1) - 1))


@contextmanager
def _picked(trunks: Sequence[nn.Module], is_scored_gw: Tensor) -> Iterator[None]:
    """Let trunks return the hidden states, (1, N, D), from which the scored tokens are predicted."""

    def pick(module: Any, args: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[is_scored_gw].unsqueeze(0)
        return output

    handles = [trunk.register_forward_hook(pick) for trunk in trunks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _joined(outputs: list[Any], place: tuple[Tensor, Tensor], shape: tuple[int, int]) -> Any:
    """Return one output, (B, S - 1), from those of the groups; a mean or sum over rows is left out."""
    found: dict[str, Any] = {}
    for each in fields(outputs[0]):
        parts = [getattr(output, each.name) for output in outputs]
        if not isinstance(parts[0], Tensor) or parts[0].dim() != 2:
            found[each.name] = None
            continue
        values_n = torch.cat([part[0] for part in parts])
        found[each.name] = values_n.new_zeros(shape).index_put(place, values_n)
    return replace(outputs[0], **found)
