"""The demo's acts about what filters find: the numbers are computed, honest, and worth showing."""

import re
from pathlib import Path

import pytest

from curate.cli import demo_findings
from curate.cli.demo import sample_truth
from curate.cli.demo_findings import Found, alarms, harm, original, repeats, repeats_found, review_found, wrong_labels
from curate.store.versions import Versions, read_version


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which both acts were played."""
    folder = tmp_path_factory.mktemp("acts")
    wrong_labels(folder, folder / "store")
    repeats(folder, folder / "store")
    return folder


def test_most_planted_wrong_labels_are_found_with_few_false_alarms(played: Path) -> None:
    found = review_found(Versions(played / "store").find("wrong-labels"))
    assert 300 <= found.pairs <= 450 and 0.15 <= found.wrong / found.pairs <= 0.3
    assert found.hits >= 0.6 * found.wrong and found.false_alarms <= 0.1 * found.hits
    assert 0.4 * found.wrong <= found.flipped <= found.hits and found.harmed <= found.false_alarms


def test_the_counts_are_those_of_a_slow_count(played: Path) -> None:
    version = Versions(played / "store").find("wrong-labels")
    names, truth = demo_findings.sample_names(version), sample_truth()
    slow = dict.fromkeys(Found._fields, 0)
    for batch in read_version(version, "pairs"):
        for row in batch.to_pylist():
            told = {entry["name"]: entry["value"] for entry in row["evidence"]}
            if told["flip_prob"] is None:
                continue
            sides = [row["chosen_id"], row["rejected_id"]]
            before = sides[::-1] if told["turned"] else sides  # as the review saw it
            wrong = truth[names[before[0]]]["rating"] < truth[names[before[1]]]["rating"]
            slow["pairs"] += 1
            slow["wrong"] += wrong
            slow["hits" if wrong else "false_alarms"] += told["flip_prob"] > 0.5
            slow["flipped" if wrong else "harmed"] += bool(told["turned"])
    assert review_found(version)._asdict() == slow


def test_most_planted_repeats_are_found_with_few_false_alarms(played: Path) -> None:
    found = list(repeats_found(Versions(played / "store").find("repeats")))
    hits = sum(repeat.planted for repeat in found)
    assert sum(row["repeat_of"] is not None for row in sample_truth().values()) == 40
    assert 30 <= hits <= 40 and len(found) - hits <= 4
    assert all(repeat.similarity >= 0.7 and repeat.dropped != repeat.kept for repeat in found)


def test_the_acts_say_what_was_counted(played: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for act in (wrong_labels, repeats):  # again: nothing is computed anew
        act(played, played / "store")
    told = " ".join(capsys.readouterr().out.split())
    found = review_found(Versions(played / "store").find("wrong-labels"))
    assert (
        f"found {found.hits} of {found.wrong} planted wrong labels with {alarms(found.false_alarms)}; flipped {found.flipped}"
        in told
    )
    assert f"{found.pairs} of 1,010 pairs have answers that can be checked" in told
    assert re.search(
        r"By its own estimate [\d.]+ % of the labels were wrong before and [\d.]+ % are now; in truth [\d.]+ %", told
    )
    assert re.search(r"found \d+ of 40 planted repeats, \d+ false alarms?\.", told)
    assert told.count(" dropped ") >= 3 and len(re.findall(r"0\.\d\d dropped \S.*? kept \S", told)) == 3
    assert "sides exchanged: by peer_review:flip_prob" in told


def test_a_repeat_of_a_repeat_is_one_of_the_first() -> None:
    truth = {"a": {"repeat_of": None}, "b": {"repeat_of": "a"}, "c": {"repeat_of": "b"}, "d": {"repeat_of": None}}
    assert [original(truth, name) for name in "abcd"] == ["a", "a", "a", "d"]


def test_counts_in_words() -> None:
    assert [alarms(0), alarms(1)] == ["0 false alarms", "1 false alarm"]
    assert [harm(0), harm(2)] == ["", ", and 2 right ones with them"]
