"""The raters of a version on the screen and as JSON."""

import json
import re
from pathlib import Path

from curate import ids
from tests.cli.conftest import Curate
from tests.publish.versions import make


def voted(number: int) -> dict[str, object]:
    """A pair on which two voted, one of them in both orders and for the side shown first."""
    prompt = [{"role": "user", "content": f"{number}?"}]
    votes = [
        {"rater": "ann[x]", "aspect": "pref", "p_chosen": 1},
        {"rater": "bob", "aspect": "pref", "p_chosen": 1, "p_swapped": 0},
    ]
    row = {"prompt": prompt, "prompt_id": ids.prompt_id(prompt), "chosen": "a", "rejected": "b", "votes": votes, "source": "s"}
    return row | {"pair_id": f"{number:06}", "chosen_id": f"c{number}", "rejected_id": f"r{number}"}


def test_raters_are_told_on_the_screen_and_as_json(curate: Curate, tmp_path: Path) -> None:
    make(tmp_path, [voted(number) for number in range(3)], [], "pairs")
    told = curate("show", "demo", "--raters", "--store", str(tmp_path)).out
    assert "2 raters of demo@v1" in told and re.search(r"ann\[x\] pref\s+3 ", told)
    assert "– where no other rater named a side of the same pairs" in " ".join(told.split())
    listed = json.loads(curate("show", "demo", "--raters", "--json", "--store", str(tmp_path)).out)
    assert listed["version"] == "demo@v1"
    assert [(rater["rater"], rater["flipped"]) for rater in listed["raters"]] == [("ann[x]", None), ("bob", 1.0)]


def test_where_nobody_voted_it_says_so(curate: Curate, tmp_path: Path) -> None:
    make(tmp_path, [voted(0) | {"votes": []}], [], "pairs")
    assert "nobody voted on the pairs of demo@v1" in curate("show", "demo", "--raters", "--store", str(tmp_path)).out
