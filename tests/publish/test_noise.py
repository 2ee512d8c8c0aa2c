"""What a version tells about wrong labels: figures, card, report, metrics, and the story of a row."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from curate import ids, tables
from curate.cli.main import app
from curate.errors import GateClosed
from curate.filter.consistency import Consistency
from curate.filter.label_em import LabelEm
from curate.filter.peer_review import PeerReview
from curate.operator import Operator
from curate.pair.pair import Pair
from curate.publish.card import card
from curate.publish.figures import figures
from curate.publish.metric_names import Names, StepNames
from curate.publish.noise_figures import Noise, Share, leading, noise_figures
from curate.publish.noise_words import bar, in_short, meaning
from curate.publish.report import report
from curate.publish.show import show
from curate.publish.why import why
from curate.relabel.flip import Flip
from curate.relabel.goal import Goal
from curate.relabel.inject_noise import InjectNoise
from curate.store.versions import Version
from tests.publish.versions import SECRET, answer, make, steps, three_prompts

WRONG = {"careful": 0.0, "sloppy": 0.4}
"""Share of wrong labels by source; a third of the pairs are sloppy ones."""


def rows(count: int = 600, seed: int = 0, spread: float = 1.0) -> list[dict[str, Any]]:
    """Pairs scored by `rm`, which tells the better side, best where the scores are far apart. meta: 1, a wrong label."""
    random = np.random.default_rng(seed)
    found = []
    for n in range(count):
        source = "sloppy" if n % 3 == 0 else "careful"
        wrong = bool(random.random() < WRONG[source])
        gap = 2 * spread * abs(random.normal()) * (-1 if wrong else 1)
        prompt = [{"role": "user", "content": f"question {n % 60}"}]
        row = {
            "prompt": prompt,
            "prompt_id": ids.prompt_id(prompt),
            "pair_id": ids.pair_id(f"c{n}", f"r{n}"),
            "origin": "observed",
        }
        row |= {"chosen": f"answer {n} a", "rejected": f"answer {n} b", "chosen_id": f"c{n}", "rejected_id": f"r{n}"}
        row |= {"chosen_scores": [{"rater": "rm", "value": gap}], "rejected_scores": [{"rater": "rm", "value": 0.0}]}
        row |= {"source": source, "chosen_model": f"m{n % 2}", "rejected_model": "m1", "meta": str(int(wrong))}
        row |= {"votes": [{"rater": f"worker-{n % 3}", "p_chosen": 1.0}]}
        found.append(row)
    return found


def version(root: Path, *operators: Operator, of: list[dict[str, Any]] | None = None, **more: Any) -> Version:
    return make(root, rows() if of is None else of, operators, grain="pairs", **more)


def found(of: Version) -> Noise:
    told = leading(figures(of.path, of.manifest).noise)
    assert told is not None
    return told


REVIEW = PeerReview(name="review", use=["rm"], threshold=1.0)
FLIP = Flip(name="flip", by="review:flip_prob")


# -- figures


def test_noise_is_told_before_and_after_and_holds_the_truth(tmp_path: Path) -> None:
    made = version(tmp_path, PeerReview(name="review", use=["rm"], threshold=0.9), FLIP)
    noise = found(made)
    kept = show(made, n=600).rows
    wrong = np.mean([(row["meta"] == "1") != (row["origin"] == "flipped") for row in kept])
    planted = np.mean([row["meta"] == "1" for row in rows()])
    assert noise.before.n == 600 and noise.before.low <= planted <= noise.before.high
    assert noise.after.n == len(kept) < 600 and noise.after.low <= wrong <= noise.after.high
    assert noise.after.high < noise.before.low
    assert noise.flipped == sum(row["origin"] == "flipped" for row in kept) > 0


def test_dropping_alone_lowers_the_noise_and_flips_nothing(tmp_path: Path) -> None:
    noise = found(version(tmp_path, PeerReview(name="review", use=["rm"])))
    assert noise.flipped == 0 and noise.after.n < noise.before.n == 600
    assert noise.after.value < noise.before.value / 3


def test_groups_tell_the_sloppy_source_and_its_annotator(tmp_path: Path) -> None:
    noise = found(version(tmp_path, REVIEW, FLIP))
    sloppy, careful = noise.groups["source"]
    planted = np.mean([row["meta"] == "1" for row in rows() if row["source"] == "sloppy"])
    assert (sloppy.name, sloppy.before.n, careful.name, careful.before.n) == ("sloppy", 200, "careful", 400)
    assert sloppy.before.low <= planted <= sloppy.before.high and careful.before.high < 0.1
    assert sloppy.after.value < 0.1
    assert [group.name for group in noise.groups["annotator"]][0] == "worker-0"
    # m0 is the chosen one of every second pair, m1 is in all
    assert {group.name: group.before.n for group in noise.groups["model"]} == {"m0": 300, "m1": 600}


def test_a_goal_after_a_flip_hides_no_flip_and_doubles_no_pair(tmp_path: Path) -> None:
    plain = found(version(tmp_path / "a", REVIEW, FLIP))
    noise = found(version(tmp_path / "b", REVIEW, FLIP, Goal(name="goal", by="rm", round=None)))
    assert noise.groups["source"][0].before == plain.groups["source"][0].before
    assert (noise.after.n, noise.flipped) == (2 * plain.after.n, 2 * plain.flipped)
    assert noise.after.value == pytest.approx(plain.after.value)


def test_who_labelled_is_the_first_voter_that_is_no_step_and_has_a_name(tmp_path: Path) -> None:
    given = rows()
    for n, row in enumerate(given):
        row["votes"] = [{"rater": rater, "p_chosen": 1.0} for rater in ("source", "review", f"anna-{n % 2}", "later")]
    given[0]["votes"] = []
    groups = found(version(tmp_path, REVIEW, of=given)).groups["annotator"]
    assert {group.name: group.before.n for group in groups} == {"anna-0": 299, "anna-1": 300}


def test_copies_of_a_pair_count_each(tmp_path: Path) -> None:
    given = rows()
    assert found(version(tmp_path, REVIEW, of=[*given, *given[:50]])).groups["source"][1].before.n == 400 + 33


def test_label_em_flips_by_its_own_probability_and_is_not_believed_when_sure(tmp_path: Path) -> None:
    given = rows(spread=0.25)
    for row in given:  # a rater that errs: what it says is not what is true
        noise = float(np.random.default_rng(int(row["chosen_id"][1:])).normal() * 0.2)
        row["chosen_scores"][0]["value"] += noise
    made = version(tmp_path, LabelEm(name="em", use=["rm"], drop=False), Flip(name="flip"), of=given)
    noise, kept = found(made), show(made, n=600).rows
    wrong = np.mean([(row["meta"] == "1") != (row["origin"] == "flipped") for row in kept])
    assert noise.flipped == sum(row["origin"] == "flipped" for row in kept) > 10
    assert noise.after.low <= wrong <= noise.after.high


def test_a_pair_without_a_measure_is_counted_as_such(tmp_path: Path) -> None:
    given = rows()
    given[7]["chosen_scores"] = []
    noise = found(version(tmp_path, REVIEW, of=given))
    assert (noise.before.n, noise.unmeasured) == (599, 1)


def test_opinions_against_a_label_are_no_estimate_and_come_second(tmp_path: Path) -> None:
    raters = Consistency(name="raters", raters=["rm"])
    noise = found(version(tmp_path / "a", raters))
    against = np.mean([row["chosen_scores"][0]["value"] < 0 for row in rows()])
    assert not noise.estimated and noise.before.value == pytest.approx(against) and noise.after.value == 0
    both = version(tmp_path / "b", REVIEW, raters)
    assert [one.step for one in figures(both.path, both.manifest).noise] == ["review", "raters"]
    assert found(both).step == "review"


def test_a_share_that_was_told_has_no_interval_of_its_own(tmp_path: Path) -> None:
    auto = found(version(tmp_path / "a", PeerReview(name="review", use=["rm"])))
    told = found(version(tmp_path / "b", PeerReview(name="review", use=["rm"], noise=0.13)))
    assert told.after.high - told.after.low < auto.after.high - auto.after.low


def test_a_share_that_was_told_is_what_all_figures_go_by(tmp_path: Path) -> None:
    noise = found(made := version(tmp_path, PeerReview(name="review", use=["rm"], noise=0.3, threshold=1.0)))
    of_groups = [(group.before.n, group.before.value) for group in noise.groups["source"]]
    assert noise.told == 0.3 and noise.before.value == pytest.approx(sum(n * value for n, value in of_groups) / 600)
    assert noise.before == noise.after
    assert "`review` was told that 30.0 % of the labels are wrong, and estimates which." in (made.path / "README.md").read_text()


def test_a_step_that_trusts_every_label_says_nothing_of_them(tmp_path: Path) -> None:
    trusting = PeerReview(name="trusting", use=["rm"], noise=0.0, threshold=1.0)
    made = version(tmp_path, trusting, REVIEW)
    assert [one.step for one in figures(made.path, made.manifest).noise] == ["review"]


def test_labels_in_a_circle_are_no_opinions_on_labels(tmp_path: Path) -> None:
    made = version(tmp_path, Consistency(name="circles", how="cycles"))
    assert figures(made.path, made.manifest).noise == ()
    assert "Nobody measured how many of these labels are wrong" in (made.path / "README.md").read_text()


def test_a_version_goes_by_the_estimate_of_most_pairs(tmp_path: Path) -> None:
    made = version(tmp_path, PeerReview(name="review", use=["rm"], threshold=0.9), LabelEm(name="em", use=["rm"], drop=False))
    first, second = figures(made.path, made.manifest).noise
    assert found(made).step == "review" and second.before.n < first.before.n == 600


def test_of_estimates_of_the_same_pairs_the_last_before_a_flip_counts(tmp_path: Path) -> None:
    again = PeerReview(name="again", use=["rm"], threshold=1.0)
    assert found(version(tmp_path / "a", REVIEW, again)).step == "again"
    made = version(tmp_path / "b", REVIEW, FLIP, again)
    assert found(made).step == "review" and found(made).before.value > 2 * found(made).after.value


def by_hand(wrong: list[float | None], turned: list[int], noise: tuple[float, float, float]) -> Noise:
    """What is told of pairs with these probabilities, turned or not, under an estimate with its interval."""
    entries = []
    for n, (p, t) in enumerate(zip(wrong, turned, strict=True)):
        told = {"flip_prob": p} | dict(zip(("noise", "noise_low", "noise_high"), noise, strict=True))
        evidence = [{"by": "review", "name": name, "value": value} for name, value in told.items()]
        evidence += [{"by": "flip", "name": "turned", "value": float(t)}]
        entries.append({"prompt_id": f"p{n}", "pair_id": f"{n}", "evidence": evidence})
    table = tables.from_rows(entries, "pairs")
    listed = [{"name": name, "operator": kind, "grain": "pairs", "parameters": {}} for name, kind in STEPS_BY_HAND]
    return noise_figures(lambda columns: iter([table.select(list(columns))]), lambda columns: iter(()), listed)[0]


STEPS_BY_HAND = [("review", "peer_review"), ("flip", "flip")]


def test_what_is_left_is_the_mean_of_what_each_kept_label_leaves() -> None:
    noise = by_hand([0.1, 0.3, 0.9, None], [0, 0, 1, 0], (0.4, 0.4, 0.4))
    assert noise.after.value == pytest.approx((0.1 + 0.3 + 0.1) / 3)
    assert noise.before == Share(3, *np.float32([0.4, 0.4, 0.4]).tolist())
    assert (noise.flipped, noise.unmeasured) == (1, 1)


def test_the_interval_of_what_is_left_is_as_wide_as_the_estimate_makes_it() -> None:
    sure, unsure = (by_hand([0.1] * 2000, [0] * 2000, noise) for noise in ((0.2, 0.2, 0.2), (0.2, 0.05, 0.4)))
    assert sure.after.high - sure.after.low < 0.03
    # odds of 1 to 9, times 0.05 / 0.95 x 0.8 / 0.2 and 0.4 / 0.6 x 0.8 / 0.2
    assert unsure.after.low < 0.0229 < unsure.after.value == pytest.approx(0.1) and unsure.after.high > 0.2286


def test_without_a_wrong_label_the_rest_may_hold_as_many_as_before() -> None:
    noise = by_hand([0.0] * 2000, [0] * 2000, (0.0, 0.0, 0.1))
    assert (noise.after.value, noise.after.high) == (0, pytest.approx(0.1))


# -- card and report


def test_the_card_tells_noise_with_a_plot(tmp_path: Path) -> None:
    made = version(tmp_path, REVIEW, FLIP)
    noise, text = found(made), (made.path / "README.md").read_text()
    before, after = (f"{100 * share.value:.1f} %" for share in (noise.before, noise.after))
    assert re.search(rf"^\| before \| 600 \| {before} \| [\d.]+ to [\d.]+ % \| `·*─*●─*·*` \|$", text, re.MULTILINE)
    assert re.search(rf"^\| after \| \d+ \| {after} \| [\d.]+ to [\d.]+ % \| `·*─*●─*·*` \|$", text, re.MULTILINE)
    assert re.search(r"^\| `sloppy` \| 200 \| .*○.*\|$", text, re.MULTILINE)
    assert f"{noise.flipped} of the kept pairs have their sides exchanged since" in text


def test_a_card_without_such_a_step_says_how_to_measure(tmp_path: Path) -> None:
    made = make(tmp_path, three_prompts(), steps())
    text = (made.path / "README.md").read_text()
    assert "Nobody measured how many of these labels are wrong" in text and "`curate bench noise FOLDER`" in text
    assert "Nobody measured" in report(made)
    responses = make(tmp_path / "r", three_prompts(), steps()[:1])
    assert "## Noise" not in (responses.path / "README.md").read_text()


def test_card_and_report_are_the_same_for_the_same_rows(tmp_path: Path) -> None:
    first, second = (version(tmp_path / name, REVIEW, FLIP) for name in "ab")
    assert card(first.path, first.manifest) == card(second.path, second.manifest)
    assert report(first).split("<footer>")[0] == report(second).split("<footer>")[0]


def test_names_from_data_are_no_markup(tmp_path: Path) -> None:
    given = rows()
    for row in given[::3]:
        row |= {"source": SECRET, "chosen_model": SECRET}
    made = version(tmp_path, REVIEW, of=given)
    text = (made.path / "README.md").read_text()
    section = text.split("## Noise")[1].split("\n## ")[0]
    assert "\u202e" not in section and "alert(1)</script>\\|" in section
    html = report(made)
    part = html.split('<section id="noise">')[1].split("</section>")[0]
    assert "<script" not in part and "&lt;script&gt;" in part and part.count("<svg") == part.count("</svg>") >= 6


def test_the_report_draws_each_interval_where_it_lies(tmp_path: Path) -> None:
    made = version(tmp_path, REVIEW, FLIP)
    noise = found(made)
    line, dot = re.findall(
        r'<line class="rejected" x1="([\d.]+)" x2="([\d.]+)"|<circle class="rejected" cx="([\d.]+)"', report(made)
    )[:2]
    low, high, middle = float(line[0]), float(line[1]), float(dot[2])
    scale = middle / noise.before.value
    assert (low, high) == pytest.approx((noise.before.low * scale, noise.before.high * scale), abs=0.2)


def test_a_bar_marks_the_share_on_its_interval() -> None:
    assert bar([(Share(9, 0.5, 0.2, 0.7), "●")], 1.0) == f"`{'·' * 6}{'─' * 9}●{'─' * 6}{'·' * 8}`"
    assert bar([(Share(0, np.nan, np.nan, np.nan), "●")], 1.0) == f"`{'·' * 30}`"
    assert bar([(Share(9, 1.0, 1.0, 1.0), "●")], 0.5)[-2] == "●"


# -- metrics, one line, one row


def test_gates_are_held_against_the_noise_that_is_left(tmp_path: Path) -> None:
    made = version(tmp_path, REVIEW, FLIP, gates={"noise_after_high": "< 0.2", "noise_before": "> 0.05"})
    metrics, noise = made.manifest["metrics"], found(made)
    assert metrics["noise_after"] == pytest.approx(noise.after.value, abs=1e-5)
    assert metrics["noise_before_low"] <= metrics["noise_before"] <= metrics["noise_before_high"]
    with pytest.raises(GateClosed, match="noise_after"):
        version(tmp_path, REVIEW, FLIP, gates={"noise_after": "< 0.0001"}, name="other")
    assert in_short(made.manifest).startswith(f"noise: {100 * noise.before.value:.1f} % of the labels before")
    assert in_short(make(tmp_path / "p", three_prompts(), steps()).manifest) is None


def test_show_ends_with_a_line_on_noise_where_it_is_known(tmp_path: Path) -> None:
    made = version(tmp_path / "a", REVIEW, FLIP)
    shown = CliRunner().invoke(app, ["show", "demo", "-n", "1", "--store", str(tmp_path / "a")])
    assert shown.stdout.splitlines()[-1] == in_short(made.manifest)
    make(tmp_path / "b", three_prompts(), steps())
    shown = CliRunner().invoke(app, ["show", "demo", "-n", "1", "--store", str(tmp_path / "b")])
    assert shown.exit_code == 0 and "noise" not in shown.stdout


def test_opinions_against_labels_are_not_called_noise_in_short(tmp_path: Path) -> None:
    told = in_short(version(tmp_path, Consistency(name="raters", raters=["rm"])).manifest)
    assert re.fullmatch(r"opinions against the label: [\d.]+ % before, 0.0 % of those kept \(.* %\)", str(told))


def test_a_gate_on_noise_needs_a_step_that_looks_for_it() -> None:
    none, some = (Names("pairs", (StepNames("review", "peer_review"),), tuple(REVIEW.writes("pairs"))[:end]) for end in (0, None))
    for name in ("noise_before", "noise_after", "noise_after_low", "noise_after_high"):
        assert none.known(name) and "no step looks for wrong labels" in str(none.lack(name)) and some.lack(name) is None
    em, raters = LabelEm(use=["length"], name="em"), Consistency(raters=["rm"], name="raters")
    assert [Names("pairs", (), tuple(one.writes("pairs"))).lack("noise_after") for one in (em, raters)] == [None, None]


def told(of: Version, row: dict[str, Any]) -> dict[str, str]:
    return {event.step: f"{event.did}: {event.text}" for event in why(of, row["pair_id"]).events}


def test_the_story_says_in_words_what_the_review_found_and_what_was_done(tmp_path: Path) -> None:
    made = version(tmp_path, PeerReview(name="review", use=["rm"], threshold=0.95), FLIP)
    kept = next(row for row in show(made, n=600).rows if row["origin"] == "observed" and row["chosen_scores"][0]["value"] > 1)
    story = told(made, kept)
    assert re.match(r"saw: kept; flip_prob \S+ \(kept if <= 0.95\); the label is very probably right; margins ", story["review"])
    assert "they would keep it in 100 % of their rounds" in story["review"]
    assert re.search(r"of all labels [\d.]+ % are estimated to be wrong \([\d.]+ to [\d.]+ %\)$", story["review"])
    assert re.fullmatch(
        r"saw: kept; not flipped: by review:flip_prob \S+, a wrong label not more probable than 0.5", story["flip"]
    )
    turned = told(made, show(made, where="origin = 'flipped'", n=1).rows[0])
    assert re.search(r"the label is (more likely|probably) wrong", turned["review"])
    assert re.match(
        r"made: became pair \w+ out of \w+; sides exchanged: by review:flip_prob \S+, a wrong label more probable than 0.5$",
        turned["flip"],
    )
    dropped = told(made, show(made, table="dropped", n=1).rows[0])
    assert re.match(r"dropped: wrong_label: \S+, kept if <= 0.95; the label is very probably wrong; margins -", dropped["review"])


def test_the_story_tells_the_posterior_and_its_annotator(tmp_path: Path) -> None:
    made = version(tmp_path, LabelEm(name="em", use=["rm"], annotator="rater", drop=False), Flip(name="flip"))
    story = told(made, show(made, where="origin = 'flipped'", n=1).rows[0])
    assert re.search(r"label_prob [\d.e-]+; the label is [\w ]*wrong; margin -", story["em"])
    assert re.search(r"[\d.]+ % of its annotator's labels are right", story["em"])
    assert "sides exchanged: by label_prob, a wrong label more probable than 0.5" in story["flip"]


def test_planting_is_not_told_as_the_making_of_a_pair(tmp_path: Path) -> None:
    made = version(tmp_path, InjectNoise(name="plant", rate=0.2), REVIEW, FLIP)
    rows = show(made, where="origin = 'flipped'", n=600).rows
    back = next(row for row in rows if row["pair_id"] == row["parent_id"])  # planted, and turned back: the pair it was
    story = told(made, back)
    assert story["plant"] == "saw: kept; sides exchanged on purpose: a planted wrong label" and story["flip"].startswith(
        "made: sides exchanged: by review:flip_prob"
    )
    assert "parent" not in story
    other = next(row for row in rows if row["pair_id"] != row["parent_id"])
    assert told(made, other)["plant"] == "saw: kept; sides left as they were"


@pytest.mark.parametrize("after", [[], [Goal(name="goal", by="rm")]])
def test_the_story_of_a_pair_begins_with_what_was_paired(tmp_path: Path, after: list[Operator]) -> None:
    """Whatever was planted, turned or made a goal since: good (9) over fair or bad, and a margin above 0."""
    pairing, planting = Pair(name="pair", by="rm", how="all_gap"), InjectNoise(name="plant", rate=0.2, seed=3)
    flipping = Flip(name="flip", by="review:flip_prob", above=0.3)
    review = PeerReview(name="review", use=["length"], threshold=1.0)
    given = [answer(f"{n}?", text, mark) for n in range(40) for text, mark in (("a long answer" + "!" * n, 9), ("short", 1))]
    made = make(tmp_path, given, [pairing, planting, review, flipping, *after])
    rows = show(made, n=100).rows
    assert len({(e["by"], e["value"]) for row in rows for e in row["evidence"] if e["name"] in ("planted", "turned")}) == 4
    for row in rows:
        good, short = sorted((row["chosen_id"], row["rejected_id"]), key=lambda one: given_marks(given)[one], reverse=True)
        assert told(made, row)["pair"] == f"made: paired {good[:10]} over {short[:10]}; margin 8"


def given_marks(given: list[dict[str, Any]]) -> dict[str, float]:
    return {row["response_id"]: row["scores"][0]["value"] for row in given}


@pytest.mark.parametrize(
    ("wrong", "words"), [(0.0, "very probably right"), (0.5, "more likely right"), (0.99, "very probably wrong")]
)
def test_words_for_probabilities(wrong: float, words: str) -> None:
    assert words in meaning(wrong)
