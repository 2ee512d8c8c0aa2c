"""Texts against patterns and schemas, hostile ones among them."""

import pytest

from curate.maths.checked_texts import fits_schema, matches_pattern


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
