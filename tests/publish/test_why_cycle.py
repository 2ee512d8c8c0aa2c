"""The story of a pair that was given up for a circle of preferences."""

from pathlib import Path

from curate import ids
from curate.filter.consistency import Consistency
from curate.publish.why import why
from tests.publish.versions import make


def test_a_pair_given_up_tells_the_circle_and_its_evidence(tmp_path: Path) -> None:
    prompt = [{"role": "user", "content": "?"}]
    rows = [
        {"prompt": prompt, "prompt_id": ids.prompt_id(prompt), "chosen": sides[0], "rejected": sides[1], "source": "s"}
        | {"chosen_id": sides[0], "rejected_id": sides[1], "pair_id": f"{place:08}"}
        | {"votes": [{"rater": f"w{n}", "aspect": "h", "p_chosen": 1.0} for n in range(votes)]}
        for place, (sides, votes) in enumerate([("ab", 3), ("bc", 2), ("ca", 1)])
    ]
    version = make(tmp_path, rows, [Consistency(name="circles", how="cycles", voters=["*"])], "pairs")
    told = [event.text for event in why(version, "00000002").events if event.step == "circles"]
    assert len(told) == 1 and "in the cycle c > a (1), a > b (3), b > c (2)" in told[0] and "strength 1" in told[0]
