"""Cards that are given to `plan` by name."""

import pytest

from r1exp.errors import Refused
from r1exp.plan.devices import CARDS, given_hardware, hardware_here


@pytest.mark.parametrize(
    ("name", "memory"),
    [
        pytest.param("h100", 81_559 << 20, id="what its driver reports"),
        pytest.param("H100", 81_559 << 20, id="in capitals"),
        pytest.param("80GB", 80 * 10**9, id="GB are powers of 1000"),
        pytest.param("80GiB", 80 << 30, id="GiB are powers of 1024"),
        pytest.param("22.5 GiB", int(22.5 * 2**30), id="a fraction"),
    ],
)
def test_a_card_is_given_by_its_name_or_its_memory(name: str, memory: int) -> None:
    found = given_hardware(name, "4")
    assert found is not None
    assert (found.memory, found.number, found.device) == (memory, 4, "cuda")


@pytest.mark.parametrize(
    ("name", "number", "message"),
    [
        pytest.param("h10", None, "Did you mean device=h100.*mi300x.*device=48GB", id="unknown card"),
        pytest.param("80 cards", None, "no such card", id="unknown unit"),
        pytest.param("h100", "0", "devices=8", id="no device"),
        pytest.param("h100", "x", "devices=8", id="no number"),
        pytest.param(None, "8", "add device=h100", id="number alone"),
        pytest.param("cpu", "8", "launcher.num_processes=8", id="number of CPUs"),
    ],
)
def test_what_is_no_card_is_refused_with_what_to_type(
    name: str | None, number: str | None, message: str
) -> None:
    with pytest.raises(Refused, match=message):
        given_hardware(name, number)


def test_nothing_given_means_this_machine() -> None:
    assert given_hardware(None, None) is None
    here = hardware_here("cpu")
    assert here.memory is not None and here.memory > 10**8
    assert given_hardware("cpu", None) == here
    assert all(memory > 16_000 for memory in CARDS.values())  # MiB
