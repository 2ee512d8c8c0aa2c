import numpy as np
import pyarrow as pa
import pytest

from curate import ids, tables
from curate.errors import CurateError
from curate.filter.peer_review import PeerReview
from curate.relabel.flip import Flip
from curate.relabel.inject_noise import InjectNoise


def pairs(count: int = 60, prompts: int = 20, **columns: list) -> pa.Table:
    """Chosen answers are long and scored high, rejected ones short and low."""
    rows = []
    for number in range(count):
        prompt = [{"role": "user", "content": f"question {number % prompts}"}]
        row = {"prompt": prompt, "prompt_id": ids.prompt_id(prompt), "pair_id": f"p{number}", "origin": "observed"}
        row |= {"chosen": "long " * (20 + number % 7), "rejected": "short" * (1 + number % 5)}
        row |= {"chosen_id": f"c{number}", "rejected_id": f"r{number}", "margin": float(number), "label_prob": 0.8}
        row |= {name: values[number] for name, values in columns.items()}
        rows.append(row)
    return tables.from_rows(rows, "pairs")


def test_planted_flips_by_length_are_found_flagged_and_turned_back() -> None:
    noisy = InjectNoise(name="plant", rate=0.2, seed=3)(pairs(200))
    planted = tables.value_of(noisy["evidence"], by="plant", name="planted") == 1
    assert 20 <= planted.sum() <= 60 and noisy["origin"].to_pylist() == ["observed"] * 200
    assert noisy["pair_id"].to_pylist() == [f"p{n}" for n in range(200)]
    found = PeerReview(name="peer_review", use=["length"])(noisy)
    flagged = np.array([bool(flags) for flags in found["flags"].to_pylist()])
    assert (flagged == planted).all()
    reviewed = noisy.set_column(noisy.column_names.index("evidence"), "evidence", found["evidence"])
    mended = Flip(name="flip", by="peer_review:flip_prob")(reviewed)
    assert all(text.startswith("long") for text in mended["chosen"].to_pylist())
    assert [o == "flipped" for o in mended["origin"].to_pylist()] == planted.tolist()


def test_pairs_of_one_prompt_and_pairs_alike_are_refused_by_name() -> None:
    with pytest.raises(CurateError, match="one prompt"):
        PeerReview(name="p", use=["length"])(pairs(50, prompts=1))
    with pytest.raises(CurateError, match="same on both sides"):
        PeerReview(name="p", use=["length"])(pairs(50, chosen=["same"] * 50, rejected=["equal"[:4]] * 50))
    with pytest.raises(CurateError, match="score both sides"):
        PeerReview(name="p", use=["rm"])(pairs(50))


def test_a_pair_without_its_number_is_kept_and_has_no_measure() -> None:
    table = pairs(60, chosen=[None if n == 5 else "long " * (20 + n % 7) for n in range(60)])
    found = PeerReview(name="p", use=["length"])(table)
    measure = tables.value_of(found["evidence"], by="p", name="flip_prob")
    assert np.isnan(measure[5]) and not np.isnan(np.delete(measure, 5)).any() and not found["flags"].to_pylist()[5]
