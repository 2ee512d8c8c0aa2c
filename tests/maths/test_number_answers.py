"""Final numbers read out of hostile texts, with what each text says written beside it."""

from decimal import Decimal

import pytest

from curate.maths.number_answers import gold_number, numbers_equal, read_number


def final_number(text):
    """The first reading of the number that a text settles on."""
    found = read_number(text)
    return None if found is None else found.value


def number_matches(text, gold):
    """Whether that number is the gold one; None where there is nothing to read."""
    found = read_number(text)
    return None if found is None else numbers_equal(found, gold)


NUMBERS = [
    (r"So \boxed{42}.", "42"),
    (r"\boxed{\frac{3}{4}}", "0.75"),
    (r"\boxed{\dfrac{3}{4}}", "0.75"),
    (r"$\boxed{-\frac{1}{2}}$", "-0.5"),
    (r"\boxed{12 \text{ cm}}", "12"),
    (r"\boxed{\$12.50}", "12.50"),
    (r"\boxed{x = 5}", "5"),
    (r"\boxed{1{,}234}", "1234"),
    (r"\boxed{\text{(B) } 12}", "12"),
    (r"\boxed{3 \times 10^{8}}", "3e8"),
    (r"\boxed{50\%}", "50"),
    (r"\boxed{2\sqrt{3}}", None),
    (r"\boxed{(3, 4)}", None),
    (r"First \boxed{7}, wait, recomputing: \boxed{8}", "8"),
    ("6 * 7 = 42\n#### 42", "42"),
    ("#### $1,200", "1200"),
    ("The answer is 42.", "42"),
    ("A: 42", "42"),
    ("Therefore the total is **42**.", "42"),
    ("**Answer:** 42 km", "42"),
    ("The answer is 3/4.", "0.75"),
    ("The answer is 1 1/2.", "1.5"),
    ("She has 1½ pies.", "1.5"),
    ("The answer is 12%.", "12"),
    ("It is 12 km long.", "12"),
    ("The price is $12.50.", "12.50"),
    ("Das kostet 12,50 EUR.", "12.50"),
    ("The angle is 45°.", "45"),
    ("The area is 3 m².", "3"),
    ("The volume is 8 cm^3", "8"),
    ("The area is 3 m^{2}.", "3"),
    ("The answer is 1.000,5", "1000.5"),
    ("The answer is 1,000.5", "1000.5"),
    ("The answer is 1 000", "1000"),
    ("The answer is 1'000", "1000"),
    ("The answer is 1,00,000.", "100000"),
    ("7 ... no, 8", "8"),
    ("The answer is 7. Wait, actually 8.", "8"),
    ("I get 7 - sorry, 9.", "9"),
    ("The answer is 12, which is 3 more than 9.", "12"),
    ("So 3 + 4 =", None),
    ("So we have 3 +", None),
    ("We buy 3 apples,", None),
    ("First 3 * 4 = 12, and then 12 * (", None),
    ("The answer is", None),
    (r"The answer is \boxed{4", None),
    ("No numbers here.", None),
    ("", None),
    ("The speed is 3e8 m/s.", "3e8"),
    (r"c = 3 \times 10^8 m/s", "3e8"),
    ("c = 3×10⁸ m/s", "3e8"),
    ("1.5 x 10^-3", "0.0015"),
    ("The answer is -5.", "-5"),
    ("The answer is −5.", "-5"),
    ("x = -5", "-5"),
    ("10 - 5 = 5", "5"),
    ("The answer is twelve.", "12"),
    ("Twelve.", "12"),
    ("The answer is minus two.", "-2"),
    ("答案是４２。", "42"),
    ("الجواب هو ٤٢", "42"),
    ("الجواب: ٣٫٥", "3.5"),
    ("Step 1: add.\nStep 2: multiply.\nStep 3: done, she has 12 eggs.", "12"),
    ("She has 12 eggs.\n\nStep 3: Done.", "12"),
    ("1. Take 5 apples.\n2. Add 4, so there are 9.\n3. Enjoy", "9"),
    ("She has 8 coins as of May 5, 2024.", "8"),
    ("It happened in 1999.", "1999"),
    ("There were 5 wars in 1999.", "5"),
    ("x = 5", "5"),
    ("The value is between 3 and 4.", None),
    ("The answer is between 3 and 4.", None),
    ("The answer is 3-5.", None),
    ("The answer is 3 or 4.", None),
    ("The answer is 12 + 5.", None),
    ("The answer is 3 + 4 = 7.", "7"),
    ("The answer is not 12 but 13.", "13"),
    ("The answer is 12, not 13.", "12"),
    ("It is 12, not 13.", "12"),
    ("The answer is 12.\n\nQuestion: What is 3+3?\nAnswer: 6", "12"),
    ("Answer: First there are 3 apples. Then 4 more come. In total 7 apples.", "7"),
    ("So the total is 42. Would you like 3 more examples?", "42"),
    ("He wins at 10:30.", None),
    ("H2O has 3 atoms.", "3"),
    ("GPT-4 says 7", "7"),
    ("The answer is Rs. 500", "500"),
    ("The answer is Rs500", "500"),
    ("The answer is $-5$", "-5"),
    ("The answer is -$5", "-5"),
    ("The total is 3 million.", "3000000"),
    ("final answer: 2^10", "1024"),
    ("The answer is 5th.", None),
    ("(5)", "5"),
    ("42", "42"),
    ("42.", "42"),
    ("= 42 apples", "42"),
    ("The answer is:\n\n$$x = 7$$", "7"),
    (r"The answer is: \[ 7 \]", "7"),
    ("Final answer: **7**", "7"),
    ("The final answer is $7$ (see step 3).", "7"),
    ("The answer (in cm) is 7", "7"),
    ("Therefore, she pays 20 dollars (5 × 4).", "20"),
    ("2 + 2 = 4, so he needs 4 because 3 is too few.", "4"),
    ("The probability is .25", "0.25"),
    ("1.2.3", None),
    ("version 1.2.3 has 5 bugs", "5"),
    ("Answer: 12/05/2024", None),
    ("0.125", "0.125"),
    ("1.000.000", "1000000"),
    ("The answer is 1.000", "1.000"),
    ("3,14159", "3.14159"),
    ("The ratio is 3:4", None),
    (r"\boxed{\frac34}", "0.75"),
    ("¾", "0.75"),
    ("La réponse est 12,5.", "12.5"),
    ("Die Antwort lautet 1.234,5", "1234.5"),
    (r"The answer is 1\,000", "1000"),
    ("It costs €5", "5"),
    ("Answer = 12", "12"),
    ("ANSWER: 12", "12"),
    ("The answer is about 12 to 13 km", None),
    ("The answer is 7 because 3 + 4 = 7 and 7 > 6", "7"),
    ("The answer to question 3 is 12", "12"),
    (r"The answer is \$1,234.00 per month", "1234"),
    ("So there are 5 apples and", None),
    ("The answer is 5 (five).", "5"),
    ("The answer is 100 000.", "100000"),
    ("So, the final answer is:\n\n42", "42"),
    ("**Final Answer**\n42", "42"),
    ("**Final Answer:** The ratio is 0.5", "0.5"),
    (r"The answer is $\frac{-3}{4}$", "-0.75"),
    ("Result: 42", "42"),
    ("I think it's 7. Hmm, wait, let me recount: 8.", "8"),
    ("<answer>42</answer>", "42"),
    ("Answer: 42\nExplanation: 6 × 7 = 42, and 40 < 42.", "42"),
    ("The answer is 42. I am 95% confident.", "42"),
    ("The result is 42. I am 95% confident.", "42"),
    ("Answer: -7°C", "-7"),
    ("The answer is .5", "0.5"),
    ("The answer is 1,234,567.89", "1234567.89"),
    ("The answer is 12,345", "12345"),
    ("Answer: 1 234,56 €", "1234.56"),
    ("Answer: 0,5", "0.5"),
    ("The answer is £3.50.", "3.50"),
    ("Answer: 50 cents", "50"),
    ("x = 2 or x = 3", None),
    ("The solutions are x = 2 and x = -3.", None),
    ("The answer is x = 2 or x = 3.", None),
    ("The answer is 5x.", None),
    ("The answer is 3π.", None),
    ("The answer is √2.", None),
    (r"$\sqrt{16} = 4$", "4"),
    ("The answer is 7!", "7"),
    ("Answer: 7:30 PM", None),
    ("Answer: (D) 42", "42"),
    ("There are 12 (3 × 4) apples", "12"),
    ("The answer: 10%–15%", None),
    ("**The answer is 42**", "42"),
    ("So x must be 5, not 6.", "5"),
    ("It costs 20 dollars more than the 15 dollar one.", "20"),
    ("3x = 45, so x = 15.", "15"),
    ("a = 3, b = 4, c = 5", None),
    ("Total = 3 × 5 = 15 eggs", "15"),
    ("First, 3 + 4 = 7. Then 7 × 2 = 14.\n\nSo there are **14** eggs, i.e. more than a dozen (12).", "14"),
    ("The answer is 42 , right?", "42"),
    ("Answer:\n42", "42"),
    ("Answer\n\n42", "42"),
    ("The area equals 24 cm^2, so the answer is 24 cm^2.", "24"),
    ("The correct answer is $18$.", "18"),
    ("Therefore, Janet makes $18 every day at the farmers' market.", "18"),
    ("The final answer is 18 dollars per day.", "18"),
    ("The answer is 2:1.", None),
    ("I cannot solve this.", None),
    ("The answer is 007.", "7"),
    ("Let n be 5. Then n + 1 = 6", "6"),
    ("He has 5 apples.\nShe has 6 apples.", "6"),
    ("The number is 6,", None),
    ("the answer is 12.5.", "12.5"),
    ("The probability is 1 in 6.", "6"),
    ("The answer is ５．５", "5.5"),
    ("答え：１２個", "12"),
    ("Ответ: 42.", "42"),
    ("Antwort: 3,5 kg", "3.5"),
    ("Respuesta: 1.200 €", "1.200"),
    ("The answer is “42”.", "42"),
    ("The answer is `42`.", "42"),
    ("The answer is _42_.", "42"),
    ("42 (see 3.2)", "42"),
]


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_the_number_a_text_settles_on(text, number):
    assert final_number(text) == (None if number is None else Decimal(number))


def test_a_number_says_where_it_stands_and_what_pointed_to_it():
    text = "First ３ eggs, then 4. The answer is １２%."
    found = read_number(text)
    assert found is not None
    assert (text[found.start : found.end], found.cue) == ("１２%", "answer")
    assert found.readings == (Decimal(12), Decimal("0.12"))


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("12%", "12", True),
        ("12%", "0.12", True),
        ("0.12", "12%", True),
        ("12%", "1.2", False),
        ("1.000", "1000", True),
        ("1.000", "1", True),
        ("1,000", "1000", True),
        ("1,000", "1", False),
        ("1/3", "1/3", True),
        ("0.3333333333", "1/3", True),
        ("0.33", "1/3", False),
        ("3 million", "3000000", True),
        ("3 million", 3, True),
        ("The answer is 42 km.", 42, True),
        ("The answer is 42 km.", "42 m", True),
        ("The answer is 42.", 42.0, True),
        ("41", Decimal(42), False),
        ("There is none.", "42", None),
        ("So 6 × 7 =", "42", None),
    ],
)
def test_a_number_against_the_gold_answer(text, gold, right):
    assert number_matches(text, gold) is right


def test_a_gold_answer_without_a_number_is_an_error():
    assert gold_number("$1,250.00").value == 1250
    with pytest.raises(ValueError, match="must hold a number, got 'blue'"):
        number_matches("12", "blue")


def test_a_tolerance_is_relative():
    assert numbers_equal(Decimal("3.14"), "3.14159", tolerance=0.001)
    assert not numbers_equal(Decimal("3.14"), "3.14159")


@pytest.mark.parametrize("text", ["9" * 20_000, "10^999 million", "1e9999", "99^999", "1/" + "9" * 20_000, "1e9999^9"])
def test_absurd_numbers_do_no_harm(text):
    final_number(text)


@pytest.mark.parametrize(
    "piece", ["1 ", r"\boxed{", "answer is ", "(", "7 no, ", "**1** ", "1=1 ", "\n", "The answer is not here. "]
)
def test_long_texts_take_no_longer_than_their_length(piece):
    text = piece * (200_000 // len(piece))
    final_number(text)
