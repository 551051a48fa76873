"""What a trainer does when it begins with the checkpoint of a run with other settings."""

from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer

from r1exp.algorithm.resume import _set_settings, _settings_of
from r1exp.algorithm.seeded_batches import SeededBatches, seed_of_batch


def optimizer(rate: float, decay: float) -> tuple[torch.optim.AdamW, LambdaLR]:
    made = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], lr=rate, weight_decay=decay)
    return made, LambdaLR(made, lambda step: 1 - step / 10)


def test_loaded_optimizers_get_the_settings_of_the_fork_at_their_place_in_the_schedule() -> None:
    theirs, their_schedule = optimizer(1e-3, 0.1)
    for _ in range(4):
        theirs.step()
        their_schedule.step()
    ours, our_schedule = optimizer(3e-3, 0.0)
    groups, rates = _settings_of(ours, our_schedule)
    ours.load_state_dict(theirs.state_dict())
    our_schedule.load_state_dict(their_schedule.state_dict())
    assert ours.param_groups[0]["lr"] == 1e-3 * 0.6  # transformers goes on with the checkpoint's
    _set_settings(ours, our_schedule, groups, rates)
    assert ours.param_groups[0]["lr"] == 3e-3 * 0.6
    assert ours.param_groups[0]["weight_decay"] == 0.0
    our_schedule.step()
    assert ours.param_groups[0]["lr"] == 3e-3 * 0.5


def test_unchanged_settings_leave_the_learning_rate_bit_for_bit() -> None:
    theirs, their_schedule = optimizer(3e-4, 0.1)
    for _ in range(3):
        theirs.step()
        their_schedule.step()
    before = theirs.param_groups[0]["lr"]
    fresh, fresh_schedule = optimizer(3e-4, 0.1)
    _set_settings(theirs, their_schedule, *_settings_of(fresh, fresh_schedule))
    assert theirs.param_groups[0]["lr"] == before


class Sampling(Trainer):
    """A trainer that draws random numbers instead of completions."""

    def __init__(self) -> None:
        self.model = torch.nn.Linear(1, 1)
        self.args: Any = type("Arguments", (), {"seed": 1, "process_index": 0})()
        self.state: Any = type("State", (), {"global_step": 0})()

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        return torch.rand(inputs)


class Seeded(SeededBatches, Sampling):
    """The same with seeds."""


def test_each_batch_has_random_numbers_of_its_own_however_many_were_drawn_before() -> None:
    first, second = Seeded(), Seeded()
    first.seeds_each_batch = second.seeds_each_batch = True
    drawn = []
    for trainer, many in ((first, 3), (second, 7)):
        trainer._generate_and_score_completions(many)
        trainer.state.global_step = 1
        drawn.append((trainer._generate_and_score_completions(4), trainer._generate_and_score_completions(4)))
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert torch.equal(drawn[0][1], drawn[1][1])
    assert not torch.equal(drawn[0][0], drawn[0][1])


def test_random_numbers_are_left_alone_where_no_seed_is_asked_for() -> None:
    trainer = Seeded()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(trainer._generate_and_score_completions(3), expected)


def test_seeds_differ_between_runs_steps_and_batches() -> None:
    seeds = {seed_of_batch(*each) for each in ((1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1))}
    assert len(seeds) == 4
