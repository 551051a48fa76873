"""Measures stage=filter: which planted near-copies of GSM8K's test questions it finds, and what a million rows cost.

    python benchmarks/filter.py --gsm8k FOLDER          # a folder with train.jsonl and test.jsonl
    python benchmarks/filter.py --rows 100000 1000000

Near-copies are test questions with other numbers (other values, or the same ones as words), with their sentences in another order,
with other names (and pronouns, half of the time), and with every combination of the three. They take the places of random training
rows. Half of the test questions (those with even numbers) and half of the training rows choose the thresholds; the table is of the
other half, with other seeds. The names that are replaced are those that the corpus never writes in lower case: a rule that the
filter does not know.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from r1exp.assets import CONF
from r1exp.filtering.contamination import EvaluatedQuestions

ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = [".", ".", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
NEW_NAMES = [
    "Aurelio",
    "Brunhilde",
    "Casimir",
    "Dagny",
    "Emeka",
    "Fenna",
    "Giovanna",
    "Hiroshi",
    "Ingrid",
    "Joaquin",
    "Katya",
    "Leopold",
    "Mireille",
    "Nkechi",
    "Ottavio",
    "Priyanka",
    "Quentin",
    "Rosalind",
    "Svetlana",
    "Thaddeus",
    "Ulrich",
    "Violetta",
    "Wendell",
    "Xiomara",
    "Yusuf",
    "Zelda",
]
OTHER_PRONOUN = {"he": "she", "she": "he", "his": "her", "her": "his", "him": "her"}
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
CAPITALIZED = re.compile(r"[A-Z][a-z]+")
SENTENCE_END = re.compile(r"(?<=[.?!])\s+")
Edit = Callable[[str, random.Random], str | None]  # None: the text has nothing to edit


def spelled(number: int) -> str:
    """Return a number in English words."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10] + (f"-{ONES[number % 10]}" if number % 10 else "")
    if number < 1000:
        rest = f" and {spelled(number % 100)}" if number % 100 else ""
        return f"{ONES[number // 100]} hundred{rest}"
    if number < 10**6:
        return f"{spelled(number // 1000)} thousand" + (f" {spelled(number % 1000)}" if number % 1000 else "")
    return str(number)


def other_numbers(text: str, draw: random.Random) -> str | None:
    """Return a text with other values, or with the same ones in words."""

    def value(match: re.Match[str]) -> str:
        number = float(match[0].replace(",", ""))
        return str(draw.randint(2, 9)) if number < 10 else f"{int(number * draw.uniform(1.3, 2.7)) + 1:,}"

    def in_words(match: re.Match[str]) -> str:
        plain = match[0].replace(",", "")
        return spelled(int(plain)) if plain.isdigit() else match[0]

    changed = NUMBER.sub(value if draw.random() < 0.5 else in_words, text)
    return None if changed == text else changed


def other_order(text: str, draw: random.Random) -> str | None:
    """Return a text with its sentences in another order."""
    sentences = [each for each in SENTENCE_END.split(text.strip()) if each]
    if len(set(sentences)) < 2:
        return None
    changed = list(sentences)
    while changed == sentences:
        draw.shuffle(changed)
    return " ".join(changed)


def other_names(text: str, draw: random.Random, names: frozenset[str]) -> str | None:
    """Return a text with other names, and half of the time with the other pronouns."""
    found = list(dict.fromkeys(word for word in CAPITALIZED.findall(text) if word in names))
    if not found or len(found) > len(NEW_NAMES):
        return None
    new = dict(zip(found, draw.sample(NEW_NAMES, len(found)), strict=True))
    text = CAPITALIZED.sub(lambda match: new.get(match[0], match[0]), text)
    if draw.random() < 0.5:
        return text

    def pronoun(match: re.Match[str]) -> str:
        other = OTHER_PRONOUN.get(match[0].lower(), match[0])
        return other.capitalize() if match[0][0].isupper() else other

    return re.sub(r"\b(?:he|she|his|her|him)\b", pronoun, text, flags=re.IGNORECASE)


def names_in(texts: Iterable[str]) -> frozenset[str]:
    """Return the words that are capitalized inside of sentences, twice or more, and never written in lower case."""
    lower: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    for text in texts:
        for sentence in SENTENCE_END.split(text):
            for position, word in enumerate(re.findall(r"[A-Za-z]+", sentence)):
                lower[word] += word.islower()
                inside[word] += position > 0 and CAPITALIZED.fullmatch(word) is not None
    return frozenset(
        word for word, number in inside.items() if number > 1 and not lower[word.lower()] and len(word) > 2
    )


def kinds_of_edits(names: frozenset[str]) -> dict[str, tuple[Edit, ...]]:
    """Return the three edits and their combinations."""
    by_name: dict[str, Edit] = {
        "numbers": other_numbers, "order": other_order, "names": partial(other_names, names=names)
    }  # fmt: skip
    combinations = [
        "numbers",
        "order",
        "names",
        "numbers+order",
        "numbers+names",
        "order+names",
        "numbers+order+names",
    ]
    return {each: tuple(by_name[part] for part in each.split("+")) for each in combinations}


def planted(
    questions: Sequence[tuple[int, str]], edits: dict[str, tuple[Edit, ...]], number: int, draw: random.Random
) -> list[tuple[str, int, str]]:
    """Return `number` near-copies as (kind, number of the question, text), of the kinds in turn and of different questions."""
    found: list[tuple[str, int, str]] = []
    kinds = list(edits)
    for index, question in draw.sample(list(questions), len(questions)):
        kind = kinds[len(found) % len(kinds)]
        text: str | None = question
        for edit in edits[kind]:
            text = None if text is None else edit(text, draw)
        if text is not None:
            found.append((kind, index, text))
        if len(found) == number:
            return found
    raise SystemExit(f"only {len(found)} of {number} questions can be edited")


def questions_of(folder: Path, split: str) -> list[str]:
    """Return the questions of a split."""
    lines = (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["question"] for line in lines]


def index_of(tests: Sequence[str], **changes: Any) -> EvaluatedQuestions:
    """Return the index of all test questions with the defaults of conf/stage/filter.yaml."""
    settings = yaml.safe_load((CONF / "stage" / "filter.yaml").read_text(encoding="utf-8"))["stage"][
        "contamination"
    ]
    del settings["against"]
    index = EvaluatedQuestions(**settings | changes)
    for text in tests:
        index.add(text)
    index.finish()
    return index


def choose(train: Sequence[str], tests: Sequence[str], edits: dict[str, tuple[Edit, ...]]) -> None:
    """Print recall and alarms for some thresholds, on the half of the data that chooses them."""
    copies = planted([(i, t) for i, t in enumerate(tests) if i % 2 == 0], edits, 420, random.Random(1))
    print("thresholds, on the even test questions (420 near-copies) and the even training rows (alarms)")
    print(f"{'n-gram':>7} {'similarity':>10} {'missed':>7} {'alarms':>7}")
    for ngram in (3, 4, 5, 6):
        for similarity in (0.5, 0.6, 0.65, 0.7, 0.8, 0.9):
            index = index_of(tests, ngram=ngram, similarity=similarity)
            missed = sum(index.find(text) is None for _, _, text in copies)
            alarms = sum(index.find(text) is not None for text in train[::2])
            print(f"{ngram:>7} {similarity:>10} {missed:>7} {alarms:>7}")


def many_seeds(tests: Sequence[str], edits: dict[str, tuple[Edit, ...]], num_seeds: int) -> None:
    """Print the recall of each kind of edit on the odd test questions."""
    index = index_of(tests)
    found: Counter[str] = Counter()
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for seed in range(num_seeds):
        half = [(i, t) for i, t in enumerate(tests) if i % 2 == 1]
        for kind, number, text in planted(half, edits, 50, random.Random(1000 + seed)):
            copy = index.find(text)
            total[kind] += 1
            found[kind] += copy is not None
            right[kind] += copy is not None and copy.question == number
    print(f"\n50 near-copies of odd test questions, {num_seeds} seeds")
    print(f"{'edit':<21} {'planted':>8} {'found':>6} {'right question':>15}")
    for kind in total:
        print(f"{kind:<21} {total[kind]:>8} {found[kind]:>6} {right[kind]:>15}")
    every = total.total()
    print(f"recall {found.total() / every:.4f}")
    for name, changes in (("13-gram", {"shared_ngram": 13}), ("8-gram", {"shared_ngram": 8})):
        plain = index_of(tests, similarity=None, **changes)
        hits = sum(
            plain.find(text) is not None
            for seed in range(num_seeds)
            for _, _, text in planted(half, edits, 50, random.Random(1000 + seed))
        )
        print(f"one shared {name} alone: recall {hits / every:.4f}")


def whole_stage(folder: Path, tests: Sequence[str], edits: dict[str, tuple[Edit, ...]], seed: int) -> None:
    """Plant 50 near-copies among the training rows, run the stage on them, and print what it dropped."""
    draw = random.Random(seed)
    half = [(i, t) for i, t in enumerate(tests) if i % 2 == 1]
    copies = planted(half, edits, 50, draw)
    rows = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    places = draw.sample(range(len(rows)), len(copies))
    for place, (_, _, text) in zip(places, copies, strict=True):
        rows[place] = json.dumps({"question": text, "answer": "It is planted.\n#### 1"})
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary, "data")
        data.mkdir()
        (data / "train.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
        (data / "test.jsonl").write_bytes((folder / "test.jsonl").read_bytes())
        artifact = run(Path(temporary), "dataset=gsm8k", f"dataset.path={data}", "stage.examples=100")
        dropped = [
            json.loads(line) for line in (artifact / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        facts = json.loads((artifact / "facts.json").read_text(encoding="utf-8"))
    alarms = {row["row"] for row in dropped if row["reason"] == "contamination"}
    hits = len(alarms & set(places))
    others = len(alarms - set(places))
    print(
        f"\nstage=filter on {len(rows)} rows with 50 near-copies, seed {seed}: found {hits} of 50, {others} other alarms"
    )
    print(
        f"precision {hits / max(hits + others, 1):.3f}, recall {hits / 50:.3f}; dropped: {facts['dropped']}"
    )
    print("the other alarms:")
    ids = {f"gsm8k-train-{place:04d}" for place in places}
    for example in facts["examples"]["contamination"]:
        if example["id"] not in ids:
            print(
                f"  {example['id']} ({example['value']:.2f}): {example['text']}\n    {example['copy_of']}: {example['copied_text']}"
            )


def run(folder: Path, *arguments: str) -> Path:
    """Run stage=filter in a process of its own, and return its artifact."""
    command = [
        sys.executable,
        "-m",
        "r1exp",
        "stage=filter",
        *arguments,
        "tracking=none",
        f"paths.run={folder / 'run'}",
    ]
    subprocess.run([*command, f"paths.store={folder / 'store'}"], cwd=folder, check=True, capture_output=True)
    return folder / "run" / "steps" / "01-filter" / "artifact"


def write_rows(path: Path, num_rows: int, tests: Sequence[str]) -> dict[str, int]:
    """Write generated rows of about 40 words; return how many of each kind they hold.

    One in a hundred repeats an earlier row, one in a hundred an earlier row with another last word, one in a thousand is a
    test question.
    """
    draw = random.Random(5)
    vocabulary = [f"{one}{two}{three}" for one in "bdfgklmnprst" for two in ("a", "e", "i", "o", "u", "ai", "oo", "ie") for three in ("b", "n", "rt", "sh", "m", "ll", "ck", "st", "ve", "nd", "per", "tion", "ing", "ly", "er")]  # fmt: skip
    weights = [1 / (rank + 10) for rank in range(len(vocabulary))]
    kinds: Counter[str] = Counter()
    recent: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_rows):
            chance = draw.random()
            text = " ".join(draw.choices(vocabulary, weights, k=draw.randint(35, 45)))
            kind = "new"
            if chance < 0.01 and recent:
                kind, text = "repeated", draw.choice(recent)
            elif chance < 0.02 and recent:
                kind, text = "last word", draw.choice(recent).rpartition(" ")[0] + f" w{number}"
            elif chance < 0.021 and tests:
                kind, text = "test question", draw.choice(tests)
            elif len(recent) < 20_000:
                recent.append(text)
            kinds[kind] += 1
            file.write(
                json.dumps({"id": f"r{number}", "question": text, "answer": str(number), "solution": text})
                + "\n"
            )
    return dict(kinds)


def large(num_rows: int, tests: Sequence[str], gsm8k: Path | None) -> None:
    """Run the stage on generated rows, and print its seconds and peak memory."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "rows.jsonl")
        kinds = write_rows(path, num_rows, tests)
        data = ["dataset=gsm8k", f"dataset.path={gsm8k}"] if gsm8k else ["stage.contamination=null"]
        artifact = run(Path(temporary), f"stage.path={path}", *data)
        facts = json.loads((artifact / "facts.json").read_text(encoding="utf-8"))
        summary = json.loads((artifact.parents[2] / "summary.json").read_text(encoding="utf-8"))
        step = summary["steps"]["filter"]
        print(
            f"{num_rows:>9,} rows ({path.stat().st_size / 1e6:.0f} MB): {step['seconds']:.0f} s, peak "
            f"{1024 * step['memory']['host_gib']:.0f} MiB; written {kinds}; dropped {facts['dropped']}", flush=True,
        )  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gsm8k", type=Path, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--rows", type=int, nargs="*", default=[], help="numbers of generated rows")
    parser.add_argument("--seeds", type=int, default=20, help="seeds of the near-copies")
    arguments = parser.parse_args()
    gsm8k = None if arguments.gsm8k is None else arguments.gsm8k.resolve()
    tests = [] if gsm8k is None else questions_of(gsm8k, "test")
    if gsm8k is not None and not arguments.rows:
        train = questions_of(gsm8k, "train")
        edits = kinds_of_edits(names_in([*train, *tests]))
        choose(train, tests, edits)
        many_seeds(tests, edits, arguments.seeds)
        whole_stage(gsm8k, tests, edits, seed=2026)
    for number in arguments.rows:
        large(number, tests, gsm8k)


if __name__ == "__main__":
    main()
