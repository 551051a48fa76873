"""IFEval's 25 kinds of instruction: pairs of a reply and an instruction, and the scores of whole prompts.

The verdicts of CASES are also those of the paper's code (benchmarks/ifeval_agreement.py compares 20,000 others); those of
DIFFERENT are not, for the reason given.
"""

import time
from typing import Any

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Abstain, Context
from r1exp.rewards.check import check
from r1exp.rewards.instruction_kinds import KINDS
from r1exp.rewards.instruction_text import count_sentences, count_words, language_of
from r1exp.rewards.instructions import NO_INSTRUCTIONS, UNKNOWN, UNREADABLE, Instructions

NOW = Context()
PROSE = "The river runs past the old mill. Children swim in it all day long, and nobody minds!"
CASES: list[tuple[str, dict[str, Any], str, bool]] = [
    ("keywords:existence", {"keywords": ["river", "MILL"]}, PROSE, True),
    ("keywords:existence", {"keywords": ["river", "boat"]}, PROSE, False),
    ("keywords:frequency", {"keyword": "the", "relation": "at least", "frequency": 2}, PROSE, True),
    ("keywords:frequency", {"keyword": "the", "relation": "less than", "frequency": 2}, PROSE, False),
    ("keywords:forbidden_words", {"forbidden_words": ["boat", "child"]}, PROSE, True),
    ("keywords:forbidden_words", {"forbidden_words": ["boat", "children"]}, PROSE, False),
    ("keywords:letter_frequency", {"letter": "l", "let_relation": "at least", "let_frequency": 6}, PROSE, True),
    ("keywords:letter_frequency", {"letter": "L", "let_relation": "less than", "let_frequency": 3}, PROSE, False),
    ("language:response_language", {"language": "en"}, PROSE, True),
    ("language:response_language", {"language": "de"}, PROSE, False),
    ("language:response_language", {"language": "hi"}, "आज नदी बहुत ठंडी है लेकिन बच्चे तैर रहे हैं।", True),
    ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 2}, PROSE, True),
    ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 2}, PROSE, False),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One.\n***\nTwo.\n***\n", True),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One. *** *** Two.", False),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 17}, PROSE, True),
    ("length_constraints:number_words", {"relation": "less than", "num_words": 17}, PROSE, False),
    ("length_constraints:number_words", {"relation": "less than", "num_words": 4}, "नदी बहुत ठंडी", True),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"}, "One.\n\n\"Then, two.\"", True),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "then"}, "One.\n\nThen two.", False),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 1, "nth_paragraph": 2, "first_word": "then"}, "One.\n\n", False),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "Dear [name], [address]]", True),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "Dear [name\n], [address]", False),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\n\np. s. Write soon.", True),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\n\nP.S. Write soon.", False),
    ("detectable_format:number_bullet_lists", {"num_bullets": 3}, "* a\n  - b\n-c\n** d", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b\n* c", False),
    ("detectable_format:constrained_response", {}, "I think: My answer is maybe.", True),
    ("detectable_format:constrained_response", {}, "My answer is unclear.", False),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*one* and **two**", True),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*one* and ** **", False),
    ("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 2}, "SECTION 1\na\nSECTION 2\nb", True),
    ("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 2}, "Section 1\na\nSection 2\nb", False),
    ("detectable_format:json_format", {}, '```json\n{"a": [1, 2]}\n```', True),
    ("detectable_format:json_format", {}, 'Here: {"a": 1}', False),
    ("detectable_format:title", {}, "<<A river>>\nIt runs.", True),
    ("detectable_format:title", {}, "<< >>\n<A river>", False),
    ("combination:two_responses", {}, "One.\n******\nTwo.", True),
    ("combination:two_responses", {}, "One.\n******\nOne.", False),
    ("combination:two_responses", {}, "One.", False),
    ("combination:repeat_prompt", {"prompt_to_repeat": "What is it? "}, " what is it?\nA river.", True),
    ("combination:repeat_prompt", {"prompt_to_repeat": "What is it?"}, "A river. What is it?", False),
    ("startend:end_checker", {"end_phrase": "Any questions?"}, '"It runs. any questions?"', True),
    ("startend:end_checker", {"end_phrase": "Any questions?"}, "Any questions? No.", False),
    ("startend:quotation", {}, '  "It runs."\n', True),
    ("startend:quotation", {}, '"It runs" past', False),
    ("startend:quotation", {}, '"', False),
    ("change_case:capital_word_frequency", {"capital_relation": "at least", "capital_frequency": 2}, "NASA is in the USA.", True),
    ("change_case:capital_word_frequency", {"capital_relation": "less than", "capital_frequency": 2}, "NASA is in the USA.", False),
    ("change_case:english_capital", {}, PROSE.upper(), True),
    ("change_case:english_capital", {}, PROSE, False),
    ("change_case:english_lowercase", {}, PROSE.lower(), True),
    ("change_case:english_lowercase", {}, "der fluss ist heute sehr kalt und die kinder schwimmen darin.", False),
    ("punctuation:no_comma", {}, "It runs. It swims.", True),
    ("punctuation:no_comma", {}, "It runs, it swims.", False),
]  # fmt: skip
DIFFERENT = [
    pytest.param("language:response_language", {"language": "fr"}, "1 2 3", False, id="a text without letters has no language"),
    pytest.param("keywords:existence", {"keywords": ["C++"]}, "I write C++.", True, id="a keyword is no pattern"),
    pytest.param("keywords:forbidden_words", {"forbidden_words": ["不"]}, "我不知道。", False, id="words of Chinese have no boundaries"),
    pytest.param("punctuation:no_comma", {}, "你好，世界。", False, id="the commas of other scripts"),
    pytest.param("length_constraints:number_words", {"relation": "at least", "num_words": 6}, "今天天气很好。", True, id="characters of Chinese"),
    pytest.param("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 2}, "नदी ठंडी है। बच्चे तैरते हैं।", True, id="Hindi sentences"),
    pytest.param("detectable_format:json_format", {}, '{"a": NaN}', False, id="NaN is no JSON"),
    pytest.param("startend:quotation", {}, "“It runs.”", True, id="typographic quotation marks"),
]  # fmt: skip


def problem(*instructions: tuple[str, dict[str, Any]], **columns: Any) -> Problem:
    names, arguments = [name for name, _ in instructions], [given for _, given in instructions]
    return Problem("p", "Write.", None, {"instruction_id_list": names, "kwargs": arguments, **columns})


def score(given: Problem, reply: str, **settings: Any) -> Any:
    reward = Instructions(style="think_answer", read="whole", **settings)
    return reward.score(given, Completion(f"<think>x</think>{reply}", 5), NOW)


@pytest.mark.parametrize(("name", "arguments", "reply", "follows"), [*CASES, *DIFFERENT])
def test_a_reply_follows_an_instruction_or_not(
    name: str, arguments: dict[str, Any], reply: str, follows: bool
) -> None:
    with_nulls = {**dict.fromkeys(("num_words", "keywords", "relation")), **arguments}  # as Arrow stores rows
    assert score(problem((name, with_nulls)), reply) == float(follows)


def test_there_are_cases_of_every_kind_both_ways() -> None:
    assert len(KINDS) == 25
    assert {(name, follows) for name, _, _, follows in CASES} == {
        (n, f) for n in KINDS for f in (True, False)
    }


def test_a_prompt_counts_as_a_whole_or_by_its_instructions() -> None:
    both = problem(("punctuation:no_comma", {}), ("startend:quotation", {}))
    assert [score(both, text) for text in ('"It runs."', "It runs.")] == [1.0, 0.0]
    assert score(both, "It runs.", level="instruction") == 0.5


def test_the_loose_mode_forgives_a_first_line_a_last_line_and_asterisks() -> None:
    quoted = problem(("startend:quotation", {}))
    for reply in ('Sure:\n"It runs."', '"It runs."\nIs that right?', 'Sure:\n**"It runs."**\nBye.'):
        assert [score(quoted, reply, mode=mode) for mode in ("strict", "loose")] == [0.0, 1.0]
    assert score(quoted, "It runs.", mode="loose") == 0.0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (problem(), NO_INSTRUCTIONS),
        (problem(("keywords:rhyme", {})), UNKNOWN),
        (problem(("keywords:existence", {})), UNREADABLE),
        (problem(("keywords:existence", {"keywords": "river"})), UNREADABLE),
        (problem(("length_constraints:number_words", {"relation": "about", "num_words": 5})), UNREADABLE),
        (problem(("language:response_language", {"language": "tlh"})), UNREADABLE),
        (problem(("punctuation:no_comma", {}), kwargs=[]), UNREADABLE),
    ],
)
def test_instructions_that_cannot_be_read_abstain(given: Problem, expected: Abstain) -> None:
    assert score(given, "It runs.") == expected


def test_the_columns_may_hold_json_text() -> None:
    given = Problem(
        "p",
        "Write.",
        None,
        {"instruction_id_list": '["punctuation:no_comma"]', "kwargs": '[{"keywords": null}]'},
    )
    assert [score(given, text) for text in ("It runs.", "a, b")] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "num_words", "num_sentences"),
    [
        pytest.param("Don't stop.", 3, 1, id="as the paper's code counts"),
        pytest.param("Dr. Smith paid $3.50 at 5 p.m. to J. Doe. Why?", 13, 2, id="abbreviations"),
        pytest.param("1. One thing.\n2. Another.", 5, 2, id="numbers of a list"),
        pytest.param("Wait... what?! (Yes.) No", 4, 4, id="several marks"),
        pytest.param("今天天气很好。我们去公园！", 11, 2, id="Chinese"),
        pytest.param("東京へ行きたい。", 7, 1, id="Japanese"),
        pytest.param("오늘 강물은 차갑다.", 3, 1, id="Korean"),
        pytest.param("เราไปเดินเล่น", 4, 1, id="Thai"),
        pytest.param("नदी बहुत ठंडी है।", 4, 1, id="Hindi"),
        pytest.param("هل أنت بخير؟ نعم.", 4, 2, id="Arabic"),
        pytest.param("", 0, 0, id="nothing"),
    ],
)
def test_words_and_sentences_are_counted_in_every_script(
    text: str, num_words: int, num_sentences: int
) -> None:
    assert (count_words(text), count_sentences(text)) == (num_words, num_sentences)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("La rivière est froide aujourd'hui, mais les enfants nagent.", "fr"),
        ("¿DÓNDE ESTÁ LA ESTACIÓN DE AUTOBUSES?", "es"),
        ("今天天气很好，我们去公园散步吧。", "zh"),
        ("今日は天気がいいので公園へ行きましょう。", "ja"),
        ("Mto ni baridi sana leo lakini watoto wanaogelea.", "sw"),
        ("12 + 30 = 42", None),
    ],
)
def test_the_language_of_a_text_is_found(text: str, language: str | None) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    "unit", ["[", "*", "<<", "\n", " ", "- ", "p. ", "SECTION ", "******", "a.", "ไ", "។", '"', "```\n"]
)
def test_pathological_replies_are_judged_in_linear_time(unit: str) -> None:
    given = problem(*[(name, next(a for n, a, _, _ in CASES if n == name)) for name in KINDS])
    score(given, "warm up", mode="loose")
    begin = time.process_time()
    score(given, unit * (20_000 // len(unit)), mode="loose", level="instruction")
    assert time.process_time() - begin < 2.0


def test_a_committee_without_gold_replies_passes_the_check() -> None:
    given = problem(("punctuation:no_comma", {}))
    report = check({"follows": Instructions(style="think_answer")}, "think_answer", [given])
    assert report.ok, report.text()
