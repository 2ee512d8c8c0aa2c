"""What a version's noise says in words: one line, a section of the card, and the story of one row."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from curate.publish.noise_figures import KINDS, PLANTED, Group, Noise, Share, estimates
from curate.publish.wording import code, markdown_table, number

LISTED = 12  # groups of a kind that are told, the noisiest first
SCALES = (0.1, 0.25, 0.5, 1.0)
"""Ends that the axis of a plot may have."""
CELLS = 30  # characters of a plot's axis
NOT_MEASURED = (
    "Nobody measured how many of these labels are wrong: no step of the recipe looks for wrong labels. "
    "`curate bench noise FOLDER` (this folder) plants wrong labels here and shows which filter finds them; "
    "with that step in the recipe the next version tells its noise."
)
TURNS = (
    (0.05, "the label is very probably right"),
    (0.2, "the label is probably right"),
    (0.5, "the label is more likely right than wrong"),
    (0.8, "the label is more likely wrong than right"),
    (0.95, "the label is probably wrong"),
    (1.0, "the label is very probably wrong"),
)
PAIR_KINDS = {0: "robust", 1: "ambiguous", 2: "wrong"}


def percent(value: float) -> str:
    """A share in percent, to a tenth; a dash for none."""
    return "–" if np.isnan(value) else f"{100 * value:.1f} %"


def interval(share: Share) -> str:
    """The interval of a share, in percent."""
    return "–" if np.isnan(share.low) else f"{100 * share.low:.1f} to {100 * share.high:.1f} %"


def in_short(manifest: Mapping[str, Any]) -> str | None:
    """One line on a version's noise from its metrics and steps; None where it has none."""
    metrics = manifest.get("metrics") or {}
    told = {name: metrics.get(name) for name in ("noise_before", "noise_after", "noise_after_low", "noise_after_high")}
    before, after, low, high = (np.nan if value is None else value for value in told.values())
    if np.isnan(before) and np.isnan(after):
        return None
    kept = f"{percent(after)} of those kept ({interval(Share(0, after, low, high))})"
    if estimates(manifest["steps"]):
        return f"noise: {percent(before)} of the labels before, {kept}"
    return f"opinions against the label: {percent(before)} before, {kept}"


# -- the card


def section(found: Sequence[Noise]) -> str:
    """The card's section: a table with a plot in text for each step that tells wrong labels."""
    parts = [_of_step(noise) for noise in found] or [NOT_MEASURED]
    return "\n\n".join(["## Noise", *parts])


def _of_step(noise: Noise) -> str:
    top = axis_end(noise)
    rows = [
        [name, f"{share.n:,}", percent(share.value), interval(share), bar([(share, "●")], top)]
        for name, share in (("before", noise.before), ("after", noise.after))
    ]
    table = markdown_table(["", "pairs", wrong_of(noise), "95 %", _axis(top)], rows, numbers=(1, 2, 3))
    groups = [_group_table(kind, noise.groups[kind], top) for kind in KINDS if kind in noise.groups]
    legend = [f"○ before, ● after; noisiest first.{' ' + PAIR_OF_TWO if 'model' in noise.groups else ''}"] if groups else []
    return "\n\n".join([about(noise, code), table, *groups, *legend])


PAIR_OF_TWO = "A pair counts for the models of both of its sides."


def about(noise: Noise, name: Any = str) -> str:
    """What was measured, in a sentence or two. name: how a step's name is written."""
    if noise.told is not None:
        first = f"{name(noise.step)} was told that {percent(noise.told)} of the labels are wrong, and estimates which."
    elif noise.estimated:
        first = f"{name(noise.step)} estimates how many labels are wrong, without knowing the truth."
    else:
        first = (
            f"{name(noise.step)} counts opinions against the label. Raters err, too: "
            "this goes up and down with the share of wrong labels, but is not it."
        )
    if noise.operator == "label_em":
        first += " Its margins have confirmed each other: take what is left for a lower bound."
    parts = [f"{noise.flipped:,} of the kept pairs have their sides exchanged since" if noise.flipped else ""]
    parts += [f"of {noise.unmeasured:,} kept pairs it says nothing" if noise.unmeasured else ""]
    more = "; ".join(part for part in parts if part)
    return f"{first} {more[0].upper()}{more[1:]}." if more else first


def wrong_of(noise: Noise) -> str:
    """What the shares are shares of."""
    return "wrong labels" if noise.estimated else "opinions against"


def axis_end(noise: Noise) -> float:
    """Where the plot's axis ends: the least round share that holds everything shown."""
    listed = [group for groups in noise.groups.values() for group in groups[:LISTED]]
    shares = [noise.before, noise.after, *(share for group in listed for share in (group.before, group.after))]
    highest = max((share.high for share in shares if not np.isnan(share.high)), default=0.0)
    return next(scale for scale in SCALES if highest <= scale or scale == 1)


def _group_table(kind: str, groups: Sequence[Group], top: float) -> str:
    rows = [
        [
            code(group.name, 60),
            f"{group.before.n:,}",
            percent(group.before.value),
            interval(group.before),
            f"{group.after.n:,}",
            percent(group.after.value),
            bar([(group.before, "○"), (group.after, "●")], top),
        ]
        for group in groups[:LISTED]
    ]
    head = [kind, "pairs", "before", "95 %", "kept", "after", _axis(top)]
    if len(groups) > LISTED:
        rows.append([f"{len(groups) - LISTED:,} more", *("" for _ in head[1:])])
    return markdown_table(head, rows, numbers=range(1, 6))


def _axis(top: float) -> str:
    return f"0 to {100 * top:.0f} %"


def bar(marks: Iterable[tuple[Share, str]], top: float) -> str:
    """Shares on an axis of CELLS characters, each with its interval as a line, as a code span: `···├──●─┤·····`."""
    cells = ["·"] * CELLS
    told = [(share, sign) for share, sign in marks if not np.isnan(share.value)]
    for share, _ in told:
        low, high = _cell(share.low, top), _cell(share.high, top)
        cells[low : high + 1] = "─" * (high - low + 1)
    for share, sign in told:
        cells[_cell(share.value, top)] = sign
    return f"`{''.join(cells)}`"


def _cell(value: float, top: float) -> int:
    return min(max(int(value / top * CELLS), 0), CELLS - 1)


# -- one row


def meaning(wrong: float) -> str:
    """What a probability of a wrong label means."""
    return next(words for most, words in TURNS if wrong <= most or most == 1)


def story(operator: str, measures: Mapping[str, float | None]) -> tuple[list[str], set[str]]:
    """What a step found out about one label, in words, and the measures that are told so."""
    tell = {"peer_review": _review, "label_em": _posterior, "inject_noise": _planting}.get(operator)
    if tell is None or not measures:
        return [], set()
    texts, told = tell(measures)
    whole = ("noise", "noise_low", "noise_high")
    if all(measures.get(name) is not None for name in whole):
        share = Share(0, *(measures[name] or 0.0 for name in whole))
        texts.append(f"of all labels {percent(share.value)} are estimated to be wrong ({interval(share)})")
        told |= set(whole)
    return texts, told


def _review(measures: Mapping[str, float | None]) -> tuple[list[str], set[str]]:
    texts = []
    wrong = measures.get("flip_prob")
    texts.append("not measured: a feature has no number" if wrong is None else meaning(wrong))
    pair = [measures.get(name) for name in ("margin_a", "margin_b")]
    if None not in pair:
        margins = f"{number(pair[0])} and {number(pair[1])}"
        texts.append(f"margins {margins} (log odds that the label is right, by two models that did not learn from it)")
    if (rate := measures.get("keep_rate")) is not None:
        texts.append(f"they would keep it in {100 * rate:.0f} % of their rounds")
    loss, spread = measures.get("loss_mean"), measures.get("loss_spread")
    if loss is not None and spread is not None:
        kind = measures.get("kind")
        called = f": {PAIR_KINDS[int(kind)]}" if kind is not None and int(kind) in PAIR_KINDS else ""
        texts.append(f"loss {number(loss)} ± {number(spread)} nats{called}")
    return texts, {"margin_a", "margin_b", "keep_rate", "loss_mean", "loss_spread", "kind", "selected"}


def _posterior(measures: Mapping[str, float | None]) -> tuple[list[str], set[str]]:
    right = measures.get("label_prob")
    texts = ["not measured: a feature has no number" if right is None else meaning(1 - right)]
    if (margin := measures.get("margin")) is not None:
        texts.append(f"margin {number(margin)} (log odds that the chosen side is better, whoever labelled it)")
    if (reliability := measures.get("reliability")) is not None:
        texts.append(f"{percent(reliability)} of its annotator's labels are right")
    return texts, {"margin", "reliability"}


def _planting(measures: Mapping[str, float | None]) -> tuple[list[str], set[str]]:
    turned = measures.get(PLANTED) == 1
    return ["sides exchanged on purpose: a planted wrong label" if turned else "sides left as they were"], {PLANTED}


def flip_story(turned: bool, by: str | None, value: float | None, above: float) -> str:
    """Why `flip` did or did not exchange the sides of a pair. by and value: the evidence it went by; None for label_prob."""
    found = f"{by or 'label_prob'} {number(value)}" if value is not None else by or "label_prob"
    limit = f"a wrong label {'' if turned else 'not '}more probable than {number(above)}"
    return f"{'sides exchanged' if turned else 'not flipped'}: by {found}, {limit}"
