"""The quick look that spares most texts the search for refusals in other languages."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.maths.detectors import refusal_wordings
from curate.maths.detectors.refusal_wordings import DECLINES, DISCLAIMS, Wording, first

GATED = [wording for wording in (*DECLINES, *DISCLAIMS) if wording.gate]


def without_looking_around(pattern: str) -> str:
    """The pattern without what stands before or after it, which text can only make rarer."""
    plain = re.sub(r"\(\?<?[=!](?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)", "", pattern)
    return plain.replace(r"\b", "")


@pytest.mark.parametrize("wording", GATED, ids=[wording.gate.pattern[:20] for wording in GATED if wording.gate])
@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_whatever_its_wordings_say_passes_the_gate(wording: Wording, data: st.DataObject) -> None:
    said = data.draw(st.from_regex(without_looking_around(wording.pattern.pattern), fullmatch=True))

    assert wording.gate is not None
    assert not wording.pattern.search(said) or wording.gate.search(said)


def test_every_language_but_english_has_a_gate() -> None:
    assert len(GATED) == len(refusal_wordings._DECLINES) - 1 + 1  # and one for admissions of limits in other scripts


def test_the_first_place_counts_whichever_language_it_is_in() -> None:
    found = first(DECLINES, "ich kann dir dabei nicht helfen, i cannot help with that")

    assert found is not None and found.start() == 4  # "kann", behind "ich"
