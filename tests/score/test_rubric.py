"""Rubrics: which there are, how a file is read, what tells them apart."""

from pathlib import Path

import pytest

from curate.errors import UsageError
from curate.score.rubric import instruction, load, read, rubrics

OWN = "# Warmth\n\nScale: 0-3\n\nIs it kind?\n\n## Marks\n\n- 3: very\n- 0: not at all\n"


def test_what_the_issue_asks_for_is_there():
    names = set(rubrics())
    assert {"helpfulness", "honesty", "truthfulness", "instruction_following", "harmlessness"} <= names
    assert len([name for name in names if name.startswith("code_")]) == 5
    assert len([name for name in names if name.startswith("domain_")]) >= 5


@pytest.mark.parametrize("name", rubrics())
def test_each_can_be_judged_by(name):
    rubric = load(name)
    assert rubric.name == name and rubric.title and len(rubric.criteria) > 100
    described = [int(number) for line in rubric.marks.splitlines() for number in line[2:].split(":")[0].split("-")]
    assert (min(described), max(described)) == (rubric.low, rubric.high)
    assert "<" not in rubric.criteria  # nothing that looks like the end of a block


@pytest.mark.parametrize("name", ["pointwise", "listwise", "critique", "reference", "prompt", "pairwise", "blocks"])
def test_each_way_of_judging_has_its_instruction(name):
    assert len(instruction(name)) > 100


def test_a_file_is_read():
    rubric = read("warmth", OWN)
    assert (rubric.title, rubric.low, rubric.high) == ("Warmth", 0, 3)
    assert rubric.criteria == "Is it kind?"
    assert rubric.marks == "- 3: very\n- 0: not at all"
    assert read("warmth", OWN.replace("\n", "\r\n")) == read("warmth", "\ufeff" + OWN) == rubric
    assert read("warmth", "# W\nScale: 1-5\nIs it kind?").marks == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Is it kind?", "begins with a line `# Title`"),
        ("# Warmth\n\nIs it kind?", "a line `Scale: 1-5`"),
        ("# Warmth\n\nScale: 5-1\n\nIs it kind?", "got 5-1"),
        ("# Warmth\n\nScale: 1-500\n\nIs it kind?", "at most 100"),
        ("# Warmth\n\nScale: 1-5\n\n", "nothing to mark by"),
    ],
)
def test_a_file_that_is_no_rubric_is_named(text, said):
    with pytest.raises(UsageError, match=r"rubric my/warmth\.md: ") as error:
        read("warmth", text, "my/warmth.md")
    assert said in str(error.value)


def test_the_text_and_the_aspect_tell_rubrics_apart_not_the_folder(tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "warmth.md").write_text(OWN)
    (tmp_path / "b" / "kindness.md").write_text(OWN)
    here, there, other = (load(tmp_path / name) for name in ("a/warmth.md", "b/warmth.md", "b/kindness.md"))
    assert here.identity == there.identity
    assert here.identity["sha256"] == other.identity["sha256"] and here.identity != other.identity
    assert read("warmth", OWN.replace("kind?", "warm?")).identity != here.identity


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"absent\.md: cannot be read"):
        load(tmp_path / "absent.md")
    (tmp_path / "latin.md").write_bytes(b"# W\xe4rme")
    with pytest.raises(UsageError, match="not UTF-8 at byte 4"):
        load(tmp_path / "latin.md")
    (tmp_path / "long.md").write_text(OWN + "x" * 70_000)
    with pytest.raises(UsageError, match="too long"):
        load(tmp_path / "long.md")
