import pytest

from r1exp.judgement.choices import read_choice, read_choices


@pytest.mark.parametrize(
    "text",
    [
        "C", "(C)", "C.", "C)", "c", "(c)", r"\boxed{C}", "**C**", "答案是C", "答案：C。", "Answer: C", "The answer is (C).",
        "Option C", "选C", "选项 C 正确", "（C）", "Ｃ", r"\text{(C)}", r"$\boxed{\text{C}}$", r"\textbf{(C)}\ 42", "C: 42 apples",
        "(C) 42 apples", "C. Paris", "The correct answer is **C**.",
    ],
)  # fmt: skip
def test_the_letter_of_a_choice_is_read_in_every_form(text: str) -> None:
    assert read_choice(text) == "C"


@pytest.mark.parametrize("text", ["", "K", "Cats", "A cat", "not C", "42", "C" * 5000, "none of them"])
def test_a_text_without_a_choice_has_none(text: str) -> None:
    assert read_choices(text) == []


@pytest.mark.parametrize("text", ["A or C", "A/C", "A, C", "A and C", "(A) (C)", "A或C", "(A) or (C)"])
def test_several_letters_are_no_choice(text: str) -> None:
    assert read_choices(text) == ["A", "C"]
    assert read_choice(text) is None


def test_only_the_letters_of_the_options_are_choices() -> None:
    assert read_choice("(C)", "AB") is None
    assert read_choice("C", ["C", "D"]) == "C"
