"""Compares the verdicts of rewards.instructions with those of another implementation of IFEval, the one of lm-eval.

    python -m venv /tmp/reference
    /tmp/reference/bin/pip install --no-deps lm-eval langdetect nltk immutabledict packaging six joblib regex click tqdm
    python benchmarks/ifeval_agreement.py /tmp/reference/bin/python

Writes replies in eight languages with and without each kind of format, asks both implementations about all 25 kinds of
instruction with random arguments, and prints the agreement of each kind and the pairs on which they differ. The reference
splits sentences and words with NLTK's Punkt; where its trained data are not installed, Punkt without training is used.
"""

import json
import random
import subprocess
import sys
import tempfile
import types
from collections import Counter
from pathlib import Path
from typing import Any

NUM_REPLIES = 400
SENTENCES = {
    "en": [
        "The river runs past the old mill, and children swim in it.", "Dr. Smith arrived at 5 p.m. with a heavy bag.",
        "Why would anyone pay $3.50 for that?", "It's a well-known fact that cats sleep all day!", "We walked home slowly.",
        "Version 2.0 of the program was released in June.", "Nothing is certain, e.g. the weather.", "I like my new job.",
        "NASA and the FBI work in the USA.", "The answer depends on what the customer wants to buy.",
    ],
    "de": ["Der Fluss ist heute sehr kalt, aber die Kinder schwimmen trotzdem.", "Wir gehen morgen ins Kino.", "Das Haus steht am See."],
    "fr": ["La rivière est froide aujourd'hui, mais les enfants nagent.", "Nous irons au cinéma demain soir.", "Où est la gare ?"],
    "es": ["El río está frío hoy, pero los niños nadan.", "Mañana iremos al cine con nuestros amigos.", "¿Dónde está la estación?"],
    "ru": ["Река сегодня холодная, но дети купаются.", "Завтра мы пойдём в кино с друзьями.", "Где находится вокзал?"],
    "hi": ["आज नदी बहुत ठंडी है लेकिन बच्चे तैर रहे हैं।", "हम कल दोस्तों के साथ सिनेमा जाएंगे।"],
    "ko": ["오늘 강물은 매우 차갑지만 아이들은 수영을 합니다.", "우리는 내일 친구들과 영화관에 갈 것입니다."],
    "th": ["วันนี้แม่น้ำเย็นมากแต่เด็ก ๆ ยังว่ายน้ำ", "พรุ่งนี้เราจะไปดูหนังกับเพื่อน"],
}  # fmt: skip
WORDS = ["river", "cat", "customer", "the", "job", "answer", "June", "slow"]
RELATIONS = ["less than", "at least"]
CODES = [*SENTENCES, "it", "pt"]


def reply(rng: random.Random) -> str:
    """Return a reply in one language, with some formats."""
    language = rng.choices(list(SENTENCES), [10, *[1] * (len(SENTENCES) - 1)])[0]
    paragraphs = [
        " ".join(rng.choices(SENTENCES[language], k=rng.randint(1, 4))) for _ in range(rng.randint(1, 5))
    ]
    text = rng.choice(["\n\n", "\n\n", "\n", " *** ", "\n***\n", "\n******\n"]).join(paragraphs)
    if rng.random() < 0.3:
        text = f"<<{rng.choice(['A river', ' ', 'Day <one>'])}>>\n" + text
    if rng.random() < 0.3:
        bullets = [
            f"{rng.choice(['* ', '- ', '  * ', '** '])}{rng.choice(WORDS)}" for _ in range(rng.randint(1, 4))
        ]
        text += "\n" + "\n".join(bullets)
    if rng.random() < 0.3:
        text = text.replace(" is ", " *is* ").replace("The", "**The**")
    if rng.random() < 0.2:
        text = "\n".join(
            f"{rng.choice(['Section', 'SECTION'])} {i + 1}\n{part}" for i, part in enumerate(paragraphs)
        )
    if rng.random() < 0.2:
        text += f"\n\n{rng.choice(['P.S. ', 'P.P.S ', 'p.s. ', 'P. S. '])}Bring [your name] and [address]."
    if rng.random() < 0.15:
        text = json.dumps({"text": text}, indent=1)
        text = rng.choice([text, f"```json\n{text}\n```", f"```\n{text}\n```", f"Here: {text}"])
    if rng.random() < 0.15:
        text = f'"{text}"'
    if rng.random() < 0.1:
        text += "\nMy answer is " + rng.choice(["yes.", "no.", "maybe.", "unclear."])
    if rng.random() < 0.15:
        text += " Any other questions?"
    return rng.choices([text, text.upper(), text.lower(), text.replace(",", "")], [6, 1, 1, 2])[0]


def instructions(rng: random.Random, text: str) -> list[tuple[str, dict[str, object]]]:
    """Return one instruction of each kind, with arguments near what the reply has."""
    relation, small = rng.choice(RELATIONS), rng.randint(1, 4)
    first = text.split()[0].strip("*<\"'.,").lower() if text.split() else "a"
    return [
        ("keywords:existence", {"keywords": rng.sample(WORDS, 2)}),
        ("keywords:frequency", {"keyword": rng.choice(WORDS), "frequency": small, "relation": relation}),
        ("keywords:forbidden_words", {"forbidden_words": rng.sample(WORDS, 2)}),
        ("keywords:letter_frequency", {"letter": rng.choice("aeqx"), "let_frequency": small * 5, "let_relation": relation}),
        ("language:response_language", {"language": rng.choice(CODES)}),
        ("length_constraints:number_sentences", {"num_sentences": rng.randint(2, 12), "relation": relation}),
        ("length_constraints:number_paragraphs", {"num_paragraphs": small}),
        ("length_constraints:number_words", {"num_words": rng.randint(5, 90), "relation": relation}),
        ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": small, "nth_paragraph": 1, "first_word": first}),
        ("detectable_content:number_placeholders", {"num_placeholders": rng.randint(1, 3)}),
        ("detectable_content:postscript", {"postscript_marker": rng.choice(["P.S.", "P.P.S"])}),
        ("detectable_format:number_bullet_lists", {"num_bullets": small}),
        ("detectable_format:constrained_response", {}),
        ("detectable_format:number_highlighted_sections", {"num_highlights": small}),
        ("detectable_format:multiple_sections", {"section_spliter": rng.choice(["Section", "SECTION"]), "num_sections": small}),
        ("detectable_format:json_format", {}),
        ("detectable_format:title", {}),
        ("combination:two_responses", {}),
        ("combination:repeat_prompt", {"prompt_to_repeat": rng.choice([text[:20], "The river"]) or "x"}),
        ("startend:end_checker", {"end_phrase": "Any other questions?"}),
        ("startend:quotation", {}),
        ("change_case:capital_word_frequency", {"capital_frequency": small, "capital_relation": relation}),
        ("change_case:english_capital", {}),
        ("change_case:english_lowercase", {}),
        ("punctuation:no_comma", {}),
    ]  # fmt: skip


def reference(path: Path) -> None:
    """Write the reference's verdicts of the pairs in `path`; runs in the reference's environment."""
    import nltk  # type: ignore[import-not-found] # of the reference

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        punkt = nltk.tokenize.punkt.PunktSentenceTokenizer()
        nltk.download = lambda *names, **settings: True
        nltk.data.load = lambda *names, **settings: punkt
        nltk.tokenize.sent_tokenize = lambda text, language="english": punkt.tokenize(text)
    import lm_eval  # type: ignore[import-not-found] # of the reference

    tasks = types.ModuleType("lm_eval.tasks")  # the real one imports all of its dependencies
    tasks.__path__ = [str(Path(lm_eval.__file__).parent / "tasks")]
    sys.modules["lm_eval.tasks"] = tasks
    import langdetect  # type: ignore[import-not-found] # of the reference
    from lm_eval.tasks.ifeval.utils import (  # type: ignore[import-not-found] # of the reference
        InputExample,
        test_instruction_following_loose,
        test_instruction_following_strict,
    )

    langdetect.DetectorFactory.seed = 0
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        example = InputExample(
            key=0, instruction_id_list=row["ids"], prompt="", kwargs=[dict(given) for given in row["kwargs"]]
        )
        verdicts = [
            test(example, row["reply"]).follow_instruction_list
            for test in (test_instruction_following_strict, test_instruction_following_loose)
        ]
        rows.append(json.dumps(verdicts))
    path.with_suffix(".verdicts").write_text("\n".join(rows))


def own(row: dict[str, Any], mode: str) -> list[bool]:
    """Return r1exp's verdicts of one row."""
    from r1exp.records import Completion, Problem
    from r1exp.rewards.base import Context
    from r1exp.rewards.instructions import Instructions

    reward = Instructions.model_validate({"style": "plain", "read": "whole", "mode": mode})
    verdicts = []
    for name, given in zip(row["ids"], row["kwargs"], strict=True):
        problem = Problem("p", "", None, {"instruction_id_list": [name], "kwargs": [given]})
        verdicts.append(reward.score(problem, Completion(row["reply"], 1), Context()) == 1.0)
    return verdicts


def main() -> None:
    """Print the agreement."""
    rng = random.Random(0)
    rows: list[dict[str, Any]] = []
    for _ in range(NUM_REPLIES):
        text = reply(rng)
        chosen = instructions(rng, text)
        rows.append(
            {"reply": text, "ids": [name for name, _ in chosen], "kwargs": [given for _, given in chosen]}
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
        subprocess.run([sys.argv[1], __file__, "--reference", str(path)], check=True)
        theirs = [json.loads(line) for line in path.with_suffix(".verdicts").read_text().splitlines()]
    same: Counter[str] = Counter()
    true: Counter[str] = Counter()
    for row, pair in zip(rows, theirs, strict=True):
        for mode, expected in zip(("strict", "loose"), pair, strict=True):
            for name, mine, other, given in zip(
                row["ids"], own(row, mode), expected, row["kwargs"], strict=True
            ):
                same[name] += mine == other
                true[name] += other
                if mine != other and "--differences" in sys.argv:
                    print(
                        json.dumps(
                            [name, mode, given, {"own": mine, "reference": other}, row["reply"]],
                            ensure_ascii=False,
                        )
                    )
    number = 2 * NUM_REPLIES
    for name in rows[0]["ids"]:
        print(f"{name:50s} {same[name]:5d} of {number}   followed {true[name] / number:.0%}")
    total = number * len(same)
    print(f"{'all':50s} {sum(same.values())} of {total}: {sum(same.values()) / total:.2%}")


if __name__ == "__main__":
    if sys.argv[1] == "--reference":
        reference(Path(sys.argv[2]))
    else:
        main()
