"""Option letters read out of hostile texts, with what each text says written beside it."""

import pytest

from curate.maths.choice_answers import final_choice

CHOICES = [
    ("The answer is (B).", "B"),
    ("answer: **C**", "C"),
    ("Answer: D) mitochondria", "D"),
    (r"\boxed{A}", "A"),
    ("I'd go with option E", "E"),
    ("B", "B"),
    ("(b)", "B"),
    ("b", "B"),
    ("A... no, B", "B"),
    ("The answer is (A). Wait, that is wrong. The answer is (C).", "C"),
    ("A dog has four legs and I like it.", None),
    ("I think a mole is big.", None),
    ("Option A is wrong, and B is too weak. So the answer is C.", "C"),
    ("Let A = 3 and B = 4. Then C = 5.", None),
    ("The answer is A mole of gas.", None),
    ("The answer is I think hard to say.", None),
    ("The answer is I.", "I"),
    ("**B**", "B"),
    ("B. Mitochondria", "B"),
    ("B) mitochondria\n\nExplanation: A and C are wrong.", "B"),
    ("The correct option is D because A is false.", "D"),
    ("The answer is (A) or (B).", None),
    ("The answer is (B).\n\nQuestion: what?\nAnswer: The answer is (C).", "B"),
    (r"The answer is $\boxed{\text{C}}$.", "C"),
    ("Therefore, the most likely diagnosis is (E).", "E"),
    ("", None),
    ("Thus, the correct answer is:\n\nA. True, False", "A"),
    ("答案是B。", "B"),
    ("答案：C", "C"),
    ("Die Antwort ist B.", "B"),
    ("The answer is not (A) but (B).", "B"),
    ("My final answer is D", "D"),
    ("Answer - F", "F"),
    ("Final answer: (g)", "G"),
    ("It must be vitamin C.", None),
    ("The answer is Z.", None),
    ("#### B", "B"),
    ("I choose B.", "B"),
    ("ANSWER: B", "B"),
    ("The answer is option (H): foo", "H"),
    ("I", "I"),
    ("The answer is K.", None),
    ("Ａ", "A"),
    ("The best choice would be B, since A is wrong.", "B"),
    ("The answer is B, because C and D are wrong.", "B"),
    ("Both A and B are right.", None),
    ("The answer is (D", "D"),
    ("The answer is A<eos>", "A"),
    ("The answers are:\n(a) 12\n(b) 15\n\nThe answer is (C).", "C"),
    ("The answer is (A).\n\nNow the summary of all answers:\nThe answer is (B).", "A"),
    ("The answer is (A). However, that ignores friction, so the answer is (B).", "B"),
    (r"\[ \text{The answer is } (H) \]", "H"),
    ("The gas that remains is neon (F).", "F"),
    ("I'd pick b", None),
    ("The answer is (Cannot be determined).", None),
    ("The answer is (C, D).", None),
]


@pytest.mark.parametrize(("text", "letter"), CHOICES)
def test_the_option_a_text_settles_on(text, letter):
    assert final_choice(text) == letter


def test_only_letters_on_offer_are_options():
    assert final_choice("The answer is E.", letters="ABCD") is None
    assert final_choice("The answer is E.", letters="ABCDE") == "E"


@pytest.mark.parametrize("piece", ["(A) ", r"\boxed{", "answer is ", "no, B ", "**A** ", "\n", "The answer is not here. "])
def test_long_texts_of_letters_take_no_longer_than_their_length(piece):
    final_choice(piece * (200_000 // len(piece)))
