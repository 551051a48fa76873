"""The rows that an interrupted step leaves: what is read back, what is dropped, and that nothing is asked twice."""

import json
import os
import subprocess
import sys
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from r1exp.errors import StepFailed
from r1exp.records import Completion, Message
from r1exp.rollout.base import Sampling
from r1exp.rollout.hf import HfGenerator
from r1exp.rollout.kept import KeptRows
from r1exp.rollout.settings import HfRollout

OWNER = {"key": "4711", "rank": 0, "world_size": 1}
SAMPLED = Sampling(temperature=1.0, max_tokens=8, seed=7)
GREEDY = Sampling(temperature=0.0, max_tokens=8)
PROMPTS: list[list[Message]] = [
    [{"role": "user", "content": text}] for text in ("one two", "five", "one", "two three one", "four")
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows" / "rank-0-of-1.jsonl"


def test_completions_come_back_as_they_were(path: Path) -> None:
    completions = {
        3: Completion("half a pair \ud800 \u2028 and\nlines", 3, finished=False),
        1: Completion("", 1, logprobs=(-0.1, -1e-17, float("-inf"))),
        2: Completion("a", 9, reasoning="b", num_prompt_tokens=4, finish_reason="content_filter"),
    }
    KeptRows(path, OWNER).completions(PROMPTS, 2, SAMPLED).add(completions, "state")
    kept = KeptRows(path, OWNER).completions(PROMPTS, 2, SAMPLED)
    assert (kept.done, kept.state) == (completions, "state")
    assert [kept.done[2].num_prompt_tokens, kept.done[2].finish_reason] == [4, "content_filter"]


def test_what_watches_sees_each_completion_once_in_every_execution(path: Path) -> None:
    seen: list[int] = []

    def watch(new: Collection[Completion]) -> None:
        seen.extend(each.num_tokens for each in new)

    for number in range(3):
        seen.clear()
        kept = KeptRows(path, OWNER, watch)
        assert kept.num_completions(PROMPTS, 1, SAMPLED) == number
        kept.completions(PROMPTS, 1, SAMPLED).add({number: Completion("a", number)})
        assert seen == list(range(number + 1))


def test_a_completion_is_kept_before_what_watches_can_end_the_step(path: Path) -> None:
    def end(new: object) -> None:
        raise StepFailed("enough")

    with pytest.raises(StepFailed, match="enough"):
        KeptRows(path, OWNER, end).completions(PROMPTS, 1, SAMPLED).add({0: Completion("a", 1)})
    assert KeptRows(path, OWNER).num_completions(PROMPTS, 1, SAMPLED) == 1


def test_rows_of_other_prompts_or_another_sampling_are_another_part(path: Path) -> None:
    KeptRows(path, OWNER).completions(PROMPTS, 1, SAMPLED).add({0: Completion("a", 1)})
    again = KeptRows(path, OWNER)
    assert len(again.completions(PROMPTS, 1, SAMPLED).done) == 1
    assert again.completions(PROMPTS, 1, GREEDY).done == {}
    assert again.completions(PROMPTS, 2, SAMPLED).done == {}
    assert again.completions(PROMPTS[1:], 1, SAMPLED).done == {}


@pytest.mark.parametrize("change", [{"key": "other"}, {"world_size": 2}, {"numerics": {"device": "cuda"}}])
def test_rows_of_another_owner_are_dropped(path: Path, change: dict[str, Any]) -> None:
    KeptRows(path, OWNER).part("p").add({0: "a"})
    assert KeptRows(path, OWNER | change).part("p").rows == {}
    assert KeptRows(path, OWNER).part("p").rows == {}  # the file has the other owner now


@pytest.mark.parametrize(
    "tail", [b'{"part": "p", "rows": {"2": "c', b"\0\0\0\0", b"\0\0\0\n", b'{"rows": 1}\n', b"\n"],
    ids=["torn", "zeros", "a line of zeros", "another form", "an empty line"],
)  # fmt: skip
def test_a_line_that_a_crash_left_unfinished_is_dropped_and_the_file_goes_on(path: Path, tail: bytes) -> None:
    KeptRows(path, OWNER).part("p").add({0: "a", 1: "b"})
    with path.open("ab") as file:
        file.write(tail)
    kept = KeptRows(path, OWNER).part("p")
    assert kept.rows == {0: "a", 1: "b"}
    kept.add({2: "c"})
    assert KeptRows(path, OWNER).part("p").rows == {0: "a", 1: "b", 2: "c"}


def test_a_file_cut_at_any_byte_gives_whole_rows_only(path: Path) -> None:
    part = KeptRows(path, OWNER).part("p")
    for number in range(3):
        part.add({number: f"text {number}"})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        rows = KeptRows(path, OWNER).part("p").rows
        assert rows == {number: f"text {number}" for number in range(len(rows))}
        assert len(rows) == max(0, content[:length].count(b"\n") - 1)


def test_a_hard_link_of_another_run_stays_as_it_is(path: Path, tmp_path: Path) -> None:
    KeptRows(path, OWNER).part("p").add({0: "a"})
    os.link(path, tmp_path / "theirs")
    KeptRows(path, OWNER).part("p").add({1: "b"})
    assert (tmp_path / "theirs").read_text().count("\n") == 2
    assert path.read_text().count("\n") == 3


def test_rows_of_many_threads_are_whole_lines(path: Path) -> None:
    part = KeptRows(path, OWNER).part("p")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: part.add({number: "x" * 5000}), range(200)))
    assert len(KeptRows(path, OWNER).part("p").rows) == 200


def test_the_file_is_removed_when_the_step_is_done(path: Path) -> None:
    kept = KeptRows(path, OWNER)
    kept.part("p").add({0: "a"})
    kept.remove()
    assert not path.parent.exists()


def test_a_full_disk_says_so_and_what_was_written_is_kept(path: Path, tmp_path: Path) -> None:
    script = tmp_path / "full.sh"
    script.write_text(
        f"mount -t tmpfs -o size=64k none {tmp_path} && cd / && exec python -c '"
        "import sys; from pathlib import Path; from r1exp.errors import StepFailed; from r1exp.rollout.kept import KeptRows\n"
        f'path = Path("{path}")\n'
        "part = KeptRows(path, {}).part(\"p\"); number = 0\n"
        "try:\n"
        "    while True: part.add({number: \"x\" * 5000}); number += 1\n"
        "except StepFailed as error: print(error)\n"
        "print(number, len(KeptRows(path, {}).part(\"p\").rows))'\n"
    )  # fmt: skip
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["unshare", "-rm", "sh", script], capture_output=True, text=True, env=environment, check=False
    )
    if ended.returncode:
        pytest.skip(f"no tmpfs of its own: {ended.stderr[-200:]}")
    message, numbers = ended.stdout.splitlines()
    assert "no space left on the disk" in message and "the same command goes on" in message
    written, kept = map(int, numbers.split())
    assert written == kept > 3


class Stop(Exception):
    """Ends a generator in the middle."""


@pytest.mark.parametrize("sampling", [SAMPLED, GREEDY], ids=["sampled", "greedy"])
@pytest.mark.parametrize("num_batches", [0, 1, 3])
def test_transformers_go_on_with_the_same_completions_as_if_undisturbed(
    random_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, path: Path, sampling: Sampling, num_batches: int
) -> None:  # fmt: skip
    settings = HfRollout(kind="hf", batch_size=3)
    expected = HfGenerator(random_model, tokenizer, settings).generate(PROMPTS, 3, sampling)
    interrupted = HfGenerator(random_model, tokenizer, settings, kept=KeptRows(path, OWNER))
    complete, calls = interrupted._complete, 0

    def limited(rows: list[list[int]], sampling: Sampling) -> list[Completion]:
        nonlocal calls
        calls += 1
        if calls > num_batches:
            raise Stop
        return complete(rows, sampling)

    interrupted._complete = limited  # type: ignore[method-assign]
    with pytest.raises(Stop):
        interrupted.generate(PROMPTS, 3, sampling)
    counted: list[float] = []
    again = HfGenerator(random_model, tokenizer, settings, counted.append, kept=KeptRows(path, OWNER))
    complete, calls = again._complete, -1000
    again._complete = limited  # type: ignore[method-assign]
    assert again.generate(PROMPTS, 3, sampling) == expected
    assert calls == -1000 + 5 - num_batches
    assert sum(counted) == pytest.approx(15.0)


def test_the_error_of_a_folder_that_cannot_be_written_names_it(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("a file in its place")
    with pytest.raises(StepFailed, match="rows"):
        KeptRows(tmp_path / "rows" / "rank-0-of-1.jsonl", OWNER)


def test_the_first_line_names_the_owner(path: Path) -> None:
    KeptRows(path, OWNER)
    assert json.loads(path.read_text()) == {"owner": OWNER}
