"""Two acts of the demo about what filters find, held against the truth: wrong labels, and near-repeats."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import typer

from curate import tables
from curate.cli.demo import sample_names, sample_truth, say, type_out
from curate.publish.wording import one_line, share
from curate.store.versions import Version, Versions, read_version

SURE = 0.7
"""Probability of a wrong label above which the demo turns a pair."""
SHOWN = 3
LINE = 96  # characters of a text that is shown
SOURCE = """\
source:
  path: samples:responses.jsonl
  rows: candidates
  join:
    - {path: samples:prompts.jsonl, on: prompt_id}
  columns: {prompt: prompt, response: response, model: model, domain: kind, reference: reference}
  scores: {given: {value: rating, aspect: rating}}
  meta: [id, check, language]
"""
WRONG_LABELS = f"""\
# Pairs by the given rating, some of their labels turned. peer_review sees measures of the texts, and no rating; and as pairs of
# an answer share its rating, right or wrong, none is judged by the others (related: apart).
name: wrong-labels
{SOURCE}steps:
  - features
  - verify: {{check: auto}}
  - pair: {{by: "given:rating", how: all_gap, min_gap: 3}}
  - inject_noise: {{rate: 0.2, seed: 1}}
  - peer_review: {{use: ["verify:correct", length, "features:truncated", "features:refusal"], threshold: 1.0, related: apart}}
  - flip: {{by: "peer_review:flip_prob", above: {SURE}}}
"""
REPEATS = f"""\
# Answers to one prompt that are nearly the same, letter by letter.
name: repeats
{SOURCE}steps:
  - near_duplicate: {{shingle: character}}
"""


class Found(NamedTuple):
    """What a review of labels found, of the pairs that it could measure."""

    pairs: int
    wrong: int
    """Pairs whose chosen side is truly the worse one."""
    hits: int
    """Of those, how many are more likely wrong than right by the review."""
    false_alarms: int
    """Right ones of which the review says so."""
    flipped: int
    """Wrong ones that were turned back."""
    harmed: int
    """Right ones that were turned."""


def wrong_labels(folder: Path, store: Path) -> None:
    """Plant wrong labels, look for them, turn those that are surely wrong, and count what was found."""
    recipe = folder / "wrong-labels.yaml"
    recipe.write_text(WRONG_LABELS, encoding="utf-8")
    type_out("Wrong labels: a fifth of the pairs is turned, and two models look for them.", "run", recipe, "--store", store)
    version = Versions(store).find("wrong-labels")
    pair = turned_pair(version)
    type_out("Why was this pair turned?", "why", version, pair, "--store", store)
    found = review_found(version)
    estimated = [version.manifest["metrics"][name] for name in ("noise_before", "noise_after")]
    left = found.wrong - found.flipped + found.harmed
    total = sum(version.manifest["splits"].values())
    say(
        f"Held against the truth, which no step reads: {found.pairs} of {total:,} pairs have answers that can be checked. Of "
        f"these it found {found.hits} of {found.wrong} planted wrong labels with {alarms(found.false_alarms)}; "
        f"flipped {found.flipped} of them back, those wrong with a probability above {SURE:g}{harm(found.harmed)}. "
        f"By its own estimate {share(estimated[0], 1)} of the labels were wrong before and {share(estimated[1], 1)} are now; "
        f"in truth {share(found.wrong, found.pairs)} and {share(left, found.pairs)}."
    )


def alarms(count: int) -> str:
    """1 false alarm, 0 false alarms."""
    return f"{count} false alarm{'' if count == 1 else 's'}"


def harm(count: int) -> str:
    """What flips cost."""
    return f", and {count} right one{'' if count == 1 else 's'} with them" if count else ""


def review_found(version: Version) -> Found:
    """The review held against the true ratings."""
    truth, names = sample_truth(), sample_names(version)
    counts = np.zeros(len(Found._fields), dtype=int)
    for batch in read_version(version, "pairs", ["chosen_id", "rejected_id", "origin", "evidence"]):
        probability = tables.value_of(batch["evidence"], by="peer_review", name="flip_prob")
        turned = np.array(batch["origin"].to_pylist()) == "flipped"
        sides = zip(*(batch[f"{side}_id"].to_pylist() for side in ("chosen", "rejected")), strict=True)
        lead = np.array([truth[names[chosen]]["rating"] - truth[names[rejected]]["rating"] for chosen, rejected in sides])
        # of sides that are truly equal neither way round is wrong
        measured, wrong, told = np.isfinite(probability), np.where(turned, -lead, lead) < 0, probability > 0.5
        told_of = (measured, measured & wrong, told & wrong, told & ~wrong, turned & wrong, turned & ~wrong)
        counts += [int(which.sum()) for which in told_of]
    return Found(*counts.tolist())


def turned_pair(version: Version) -> str:
    """The beginning of the id of the first pair that was turned."""
    for batch in read_version(version, "pairs", ["pair_id", "origin"]):
        for row in batch.to_pylist():
            if row["origin"] == "flipped":
                return str(row["pair_id"])[:12]
    raise LookupError(f"no pair of {version} was turned")


# -- repeats


class Repeat(NamedTuple):
    """A dropped answer and the one it repeats."""

    dropped: str
    kept: str
    similarity: float
    planted: bool


def repeats(folder: Path, store: Path) -> None:
    """Look for the near-repeats among the sample answers, and count what was found."""
    recipe = folder / "repeats.yaml"
    recipe.write_text(REPEATS, encoding="utf-8")
    type_out("Near-repeats: answers to one prompt that share most of their letters.", "run", recipe, "--store", store)
    found = list(repeats_found(Versions(store).find("repeats")))
    planted = sum(row["repeat_of"] is not None for row in sample_truth().values())
    hits = sum(repeat.planted for repeat in found)
    say(f"Held against the truth: found {hits} of {planted} planted repeats, {alarms(len(found) - hits)}. {SHOWN} of them:")
    # the least alike are the ones worth a look
    for repeat in sorted(found, key=lambda one: (one.similarity, one.dropped))[:SHOWN]:
        typer.echo(f"  {repeat.similarity:.2f}  dropped  {one_line(repeat.dropped, LINE)}")
        typer.echo(f"        kept     {one_line(repeat.kept, LINE)}")


def repeats_found(version: Version) -> Iterator[Repeat]:
    """What was dropped as a repeat, with the kept answer that each names."""
    truth, names = sample_truth(), sample_names(version)
    texts: dict[str, str] = {}
    for table in ("responses", "dropped/responses"):
        for batch in read_version(version, table, ["response_id", "response"]):
            texts |= {row["response_id"]: row["response"] or "" for row in batch.to_pylist()}
    for batch in read_version(version, "dropped/responses", ["response_id", "other", "value"]):
        for row in batch.to_pylist():
            same = original(truth, names[row["response_id"]]) == original(truth, names[row["other"]])
            yield Repeat(texts[row["response_id"]], texts[row["other"]], row["value"], same)


def original(truth: dict[str, dict[str, Any]], name: str) -> str:
    """The answer that an answer repeats, through others that repeat it; itself if it repeats none."""
    while (before := truth[name]["repeat_of"]) is not None:
        name = before
    return name
