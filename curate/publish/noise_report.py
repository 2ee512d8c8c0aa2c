"""The report's section on noise: shares of wrong labels before and after, with their intervals drawn."""

from collections.abc import Sequence

import numpy as np

from curate.publish.noise_figures import KINDS, Group, Noise, Share
from curate.publish.noise_words import LISTED, NOT_MEASURED, PAIR_OF_TWO, about, axis_end, interval, percent, wrong_of
from curate.publish.wording import escape, one_line

WIDTH, HEIGHT = 400, 20
KEY = '<p class="key"><i class="rejected"></i> before <i class="kept"></i> after; lines: 95 % intervals</p>'


def section(found: Sequence[Noise]) -> str:
    """A chart for each step that tells wrong labels; how to measure where none does."""
    if not found:
        return "<p>" + escape(NOT_MEASURED.replace("`", "").replace("FOLDER (this folder)", "NAME's folder")) + "</p>"
    return "".join(_chart(noise) for noise in found)


def _chart(noise: Noise) -> str:
    top = axis_end(noise)
    rows = [
        _row("before", f"{percent(noise.before.value)} of {noise.before.n:,} pairs", interval(noise.before), [noise.before], top),
        _row(
            "after", f"{percent(noise.after.value)} of {noise.after.n:,} pairs", interval(noise.after), [None, noise.after], top
        ),
    ]
    for kind in KINDS:
        groups = noise.groups.get(kind, ())
        note = f"{kind}, noisiest first" + (f", {LISTED} of {len(groups):,}" if len(groups) > LISTED else "")
        rows += [f'<div class="grain">{escape(note)}</div>'] if groups else []
        rows += [_group(group, top) for group in groups[:LISTED]]
    two = f"<p>{escape(PAIR_OF_TWO)}</p>" if "model" in noise.groups else ""
    told = f"<p>{escape(about(noise))} Shown: {escape(wrong_of(noise))}, from 0 to {100 * top:.0f} %.</p>"
    return f'{told}<div class="funnel">{"".join(rows)}</div>{KEY}{two}'


def _group(group: Group, top: float) -> str:
    name = f"<bdi>{escape(one_line(group.name, 60))}</bdi>"
    count = f"{percent(group.before.value)} → {percent(group.after.value)}"
    return _row(name, count, f"{group.before.n:,} → {group.after.n:,} pairs", [group.before, group.after], top)


def _row(name: str, count: str, small: str, shares: Sequence[Share | None], top: float) -> str:
    """A line of the chart. name: as HTML; shares: before and after, those there are."""
    marks = "".join(_mark(share, place, top) for place, share in enumerate(shares) if share is not None)
    title = "; ".join(f"{percent(share.value)} ({interval(share)})" for share in shares if share is not None)
    return (
        f'<div class="name">{name}</div><div><svg viewBox="-5 0 {WIDTH + 10} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f'<line class="axis" x1="0" x2="{WIDTH}" y1="{HEIGHT - 1}" y2="{HEIGHT - 1}"/>{marks}</svg></div>'
        f'<div class="count">{escape(count)} <small>{escape(small)}</small></div>'
    )


def _mark(share: Share, place: int, top: float) -> str:
    """A dot on its interval; nothing where there is no share."""
    if np.isnan(share.value):
        return ""
    low, middle, high = (min(WIDTH * value / top, WIDTH) for value in (share.low, share.value, share.high))
    y, name = 6 + 7 * place, ("rejected", "kept")[place]
    line = f'<line class="{name}" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>'
    return f'{line}<circle class="{name}" cx="{middle:.1f}" cy="{y}" r="3.5"/>'
