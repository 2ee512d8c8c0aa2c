"""Final answers read out of hostile texts, with what each text says written beside it."""

from decimal import Decimal

import pytest

from curate.maths.answers import (
    final_choice,
    final_number,
    fits_schema,
    gold_number,
    matches_pattern,
    number_matches,
    numbers_equal,
    read_number,
)

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


@pytest.mark.parametrize("text", ["9" * 20_000, "10^999 million", "1e9999", "99^999", "1/" + "9" * 20_000, "1e9999^9"])
def test_absurd_numbers_do_no_harm(text):
    final_number(text)


@pytest.mark.parametrize(
    "piece", ["1 ", r"\boxed{", "answer is ", "(", "7 no, ", "**1** ", "1=1 ", "\n", "The answer is not here. "]
)
def test_long_texts_take_no_longer_than_their_length(piece):
    text = piece * (200_000 // len(piece))
    final_number(text)
    final_choice(text)


def test_a_pattern_is_searched_for_unless_it_is_anchored():
    assert matches_pattern("order 12-345 sent", r"\d{2}-\d{3}")
    assert not matches_pattern("order 12-345 sent", r"\A\d{2}-\d{3}\Z")


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(a|aa)+$", "took more than 1 s"),
        ("(x", "not a regular expression"),
        ("a{99999999}", "too long"),
        ("(?:(?:a{999}){999}){999}", "too long"),
        ("a" * 20_000, "too long"),
        ("(" * 2_000 + ")" * 2_000, "not a regular expression"),
    ],
)
def test_a_pattern_that_cannot_answer_says_so(pattern, problem):
    with pytest.raises(ValueError, match=problem):
        matches_pattern("a" * 5_000 + "b", pattern)


CITY = {"type": "object", "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}}, "required": ["name"]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"name": "Graz"}', None),
        ('Here it is:\n```json\n{"name": "Graz"}\n```\nDone.', None),
        ('```\n{"name": "Graz"}\n```', None),
        ('{"name": "graz"}', "$.name: 'graz' does not match '^[A-Z]'"),
        ('{"name": 5}', "$.name: 5 is not of type 'string'"),
        ("{}", "$: 'name' is a required property"),
        ('{"name": "Graz"', "not JSON: Expecting ',' delimiter: line 1 column 16 (char 15)"),
        ('{"name": NaN}', "not JSON: NaN is not a JSON value"),
        ("", "not JSON: Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_a_text_fits_a_schema_or_says_why_not(text, problem):
    assert fits_schema(text, CITY) == (problem is None, problem)


def test_nested_brackets_without_end_are_no_json():
    fits, problem = fits_schema("[" * 100_000, CITY)
    assert not fits
    assert problem is not None
    assert problem.startswith("not JSON")


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"$ref": "https://example.org/city.json"}, "outside itself"),
        ({"$ref": "file:///etc/passwd"}, "outside itself"),
        ({"type": "city"}, "not a JSON schema"),
        ({"$ref": "#"}, "refers to itself"),
        ({"properties": {"name": {"pattern": "(a|aa)+$"}}}, "took more than"),
        ({"patternProperties": {"(a|aa)+$": {}}}, "took more than"),
    ],
)
def test_a_schema_that_cannot_judge_says_so(schema, problem):
    slow = "a" * 5_000 + "b"
    with pytest.raises(ValueError, match=problem):
        fits_schema(f'{{"name": "{slow}", "{slow}": 1}}', schema)


def test_a_schema_may_refer_to_its_own_parts():
    schema = {"properties": {"n": {"$ref": "#/$defs/count"}}, "$defs": {"count": {"type": "integer"}}}
    assert fits_schema('{"n": 3}', schema) == (True, None)
    assert fits_schema('{"n": "x"}', schema) == (False, "$.n: 'x' is not of type 'integer'")
