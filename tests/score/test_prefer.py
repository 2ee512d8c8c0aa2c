"""Win scores of responses, label probabilities and logit targets of pairs."""

import math

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from curate import tables
from curate.score.prefer import Prefer


def responses(*rows: tuple[str, float | None]) -> pa.Table:
    """Responses of (prompt, score by rm)."""
    listed = [{"prompt_id": prompt, "scores": [{"rater": "rm", "aspect": "a", "value": score}]} for prompt, score in rows]
    return tables.from_rows(listed, "responses")


def vote(shown: float | None, swapped: float | None = None, rater: str = "j", aspect: str = "help", round: int = 0) -> dict:  # type: ignore[type-arg]
    return {"rater": rater, "aspect": aspect, "p_chosen": shown, "p_swapped": swapped, "round": round}


def pairs(*votes: list[dict]) -> pa.Table:  # type: ignore[type-arg]
    return tables.from_rows([{"votes": listed} for listed in votes], "pairs")


def wins(made: pa.Table, name: str = "win") -> list[float]:
    found: list[float] = tables.score_of(made, "prefer", name).tolist()
    return found


def logits(made: pa.Table) -> list[float]:
    found: list[float] = tables.value_of(made["evidence"], by="prefer", name="logit").tolist()
    return found


def sigmoid(gap: float) -> float:
    return 1 / (1 + math.exp(-gap))


def test_responses_get_their_mean_win_probability_within_the_prompt() -> None:
    table = responses(("p", 2.0), ("q", 100.0), ("p", 0.0), ("p", None))
    found = wins(Prefer(name="prefer", by="rm:a")(table))
    assert found[:3] == pytest.approx([(0.5 + sigmoid(2)) / 2, 0.5, (0.5 + sigmoid(-2)) / 2])
    assert math.isnan(found[3])


def test_a_response_may_be_left_out_of_its_own_mean() -> None:
    found = wins(Prefer(name="prefer", by="rm", itself=False)(responses(("p", 2.0), ("p", 0.0), ("q", 1.0))))
    assert found[:2] == pytest.approx([sigmoid(2), sigmoid(-2)]) and math.isnan(found[2])


def test_the_scale_is_the_difference_of_one_logit() -> None:
    found = wins(Prefer(name="prefer", by="rm", itself=False, scale=4)(responses(("p", 8.0), ("p", 0.0))))
    assert found == pytest.approx([sigmoid(2), sigmoid(-2)])


def test_earlier_scores_stay() -> None:
    made = Prefer(name="prefer", by="rm")(responses(("p", 2.0), ("p", 0.0)))
    assert tables.score_of(made, "rm").tolist() == [2.0, 0.0]


def test_votes_are_counted_over_orders_rounds_and_panel() -> None:
    table = pairs([vote(1, 1), vote(1, 0, round=1), vote(0.5, None, "k")], [vote(0, 0)])
    made = Prefer(name="prefer", by=("j", "k"), smoothing=0)(table)
    assert made["label_prob"].to_pylist() == pytest.approx([(1 + 0.5 + 0.5) / 3, 0])
    assert Prefer(name="prefer", by=("j", "k"))(table)["label_prob"].to_pylist() == pytest.approx([3 / 5, 1 / 3])


def test_one_round_may_be_asked_for() -> None:
    table = pairs([vote(1, 1), vote(0, 0, round=1), vote(0, 0, round=2)])
    assert Prefer(name="prefer", by="j", smoothing=0)(table)["label_prob"].to_pylist() == pytest.approx([1 / 3])
    assert Prefer(name="prefer", by="j", smoothing=0, round=0)(table)["label_prob"].to_pylist() == [1.0]


def test_votes_of_others_and_of_other_aspects_do_not_count() -> None:
    table = pairs([vote(1, 1), vote(0, 0, "stranger"), vote(0, 0, aspect="harm")])
    assert Prefer(name="prefer", by="j:help", smoothing=0)(table)["label_prob"].to_pylist() == [1.0]
    assert Prefer(name="prefer", by="j", smoothing=0)(table)["label_prob"].to_pylist() == [0.5]


def test_where_nobody_voted_there_is_no_probability() -> None:
    made = Prefer(name="prefer", by="j")(pairs([], [vote(None, None)], [vote(1, None)]))
    assert made["label_prob"].to_pylist() == [None, None, pytest.approx(2 / 3)]
    assert np.isnan(logits(made)[:2]).all()
    assert made["evidence"].to_pylist()[0] == [{"by": "prefer", "name": "logit", "value": None}]


@pytest.mark.parametrize(("smoothing", "expected"), [(1.0, [math.log(4), 0.0]), (0.0, [math.log(5), 0.0])])
def test_the_logit_target_is_finite(smoothing: float, expected: list[float]) -> None:
    table = pairs([vote(1, 1, round=i) for i in range(3)], [vote(0.5, 0.5)])
    assert logits(Prefer(name="prefer", by="j", smoothing=smoothing)(table)) == pytest.approx(expected, abs=1e-6)


def test_scores_of_both_sides_give_the_entry_of_the_win_matrix() -> None:
    row = {
        side: [{"rater": "rm", "aspect": "a", "value": score}]
        for side, score in (("chosen_scores", 3.0), ("rejected_scores", 1.0))
    }
    made = Prefer(name="prefer", by="rm", how="scores")(tables.from_rows([row, {}], "pairs"))
    assert made["label_prob"].to_pylist() == [pytest.approx(sigmoid(2)), None]
    assert logits(made)[0] == pytest.approx(2)


def test_bradley_terry_joins_the_pairs_of_a_prompt() -> None:
    """a beats b 3:1 and b beats c 3:1, and nobody agrees on a and c: the fit has a ahead of c all the same."""

    def rows(chosen: str, rejected: str, *won: float) -> dict:  # type: ignore[type-arg]
        return {"prompt_id": "p", "chosen_id": chosen, "rejected_id": rejected, "votes": [vote(p, p) for p in won]}

    other = rows("a", "b", 0, 0) | {"prompt_id": "q"}
    table = tables.from_rows([rows("a", "b", 1, 1, 1, 0), other, rows("b", "c", 1, 1, 1, 0), rows("a", "c", 0.5)], "pairs")
    found = Prefer(name="prefer", by="j", how="bradley_terry", smoothing=0)(table)["label_prob"].to_pylist()
    plain = Prefer(name="prefer", by="j", smoothing=0)(table)["label_prob"].to_pylist()
    assert plain == [0.75, 0, 0.75, 0.5]
    assert found[3] > 0.7 and found[0] < 0.75 and found[1] == 0


def test_votes_on_pairs_make_a_win_matrix() -> None:
    """a beats b 3:1 and c always, b and c tie; in q the same names are other responses."""

    def row(prompt: str, chosen: str, rejected: str, *won: float) -> dict:  # type: ignore[type-arg]
        return {"prompt_id": prompt, "chosen_id": chosen, "rejected_id": rejected, "votes": [vote(p, p) for p in won]}

    listed = [
        row("p", "a", "b", 1, 1, 1, 0),
        row("p", "a", "c", 1),
        row("p", "c", "b", 0.5),
        row("q", "b", "a", 1),
        row("q", "c", "d"),
    ]
    table = tables.from_rows(listed, "pairs")
    made = Prefer(name="prefer", by="j", smoothing=0, win=True, itself=False)(table)
    chosen, rejected = (tables.score_of(made, "prefer", "win", f"{side}_scores").tolist() for side in ("chosen", "rejected"))
    assert chosen[:4] == pytest.approx([0.875, 0.875, 0.25, 1]) and rejected[:4] == pytest.approx([0.375, 0.25, 0.375, 0])
    assert math.isnan(chosen[4]) and math.isnan(rejected[4])
    with_itself = Prefer(name="prefer", by="j", smoothing=0, win=True)(table)
    assert tables.score_of(with_itself, "prefer", "win", "chosen_scores").tolist()[0] == pytest.approx((0.75 + 1 + 0.5) / 3)
    step = Prefer(name="p", by="j", win=True)
    assert {"chosen_scores.p.win", "rejected_scores.p.win"} <= step.writes("pairs") and "chosen_id" in step.reads("pairs")
    assert step(tables.empty("pairs").select(step.columns("pairs"))).num_rows == 0


@pytest.mark.parametrize("how", ["votes", "bradley_terry"])
def test_pairs_under_other_system_messages_are_of_other_conversations(how: str) -> None:
    """The same two responses, each better under its own message: no tie."""
    rows = [
        {
            "prompt_id": "p",
            "chosen_id": one,
            "rejected_id": other,
            "votes": [vote(1)],
            "prompt": [{"role": "system", "content": one}],
        }
        for one, other in (("a", "b"), ("b", "a"))
    ]
    made = Prefer(name="prefer", by="j", how=how, smoothing=0, win=True, itself=False)(tables.from_rows(rows, "pairs"))
    assert made["label_prob"].to_pylist() == [1.0, 1.0]
    assert tables.score_of(made, "prefer", "win", "chosen_scores").tolist() == [1.0, 1.0]


def test_two_pairs_of_the_same_responses_are_one_entry_of_the_matrix() -> None:
    ids = {"prompt_id": "p", "chosen_id": "a", "rejected_id": "b"}
    turned = {"prompt_id": "p", "chosen_id": "b", "rejected_id": "a"}
    other = {"prompt_id": "p", "chosen_id": "a", "rejected_id": "c"}
    rows = [ids | {"votes": [vote(1)]}, turned | {"votes": [vote(0.6)]}, other | {"votes": [vote(0)]}]
    made = Prefer(name="prefer", by="j", smoothing=0, win=True, itself=False)(tables.from_rows(rows, "pairs"))
    assert tables.score_of(made, "prefer", "win", "chosen_scores").tolist() == pytest.approx([0.35, 0.3, 0.35])


def test_responses_are_not_compared_by_votes() -> None:
    with pytest.raises(ValueError, match="responses have no votes"):
        Prefer(name="prefer", by="rm", how="votes")(responses(("p", 1.0)))


@pytest.mark.parametrize("wrong", [{"by": ()}, {"by": ("a", "a")}, {"by": ("a", "b"), "how": "scores"}, {"by": "a", "scale": 0}])
def test_parameters_that_contradict_are_refused(wrong: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValidationError):
        Prefer(**wrong)


def test_empty_in_empty_out_and_prompts_apart_give_what_they_give_together() -> None:
    step = Prefer(name="prefer", by="rm")
    table = responses(("p", 2.0), ("p", 0.0), ("q", 1.0), ("q", 1.0))
    assert pa.concat_tables([step(table.slice(0, 2)), step(table.slice(2))]).to_pylist() == step(table).to_pylist()
    assert step(tables.empty("responses")).num_rows == Prefer(by="j")(tables.empty("pairs")).num_rows == 0
    assert Prefer(by="j", how="bradley_terry")(tables.empty("pairs")).num_rows == 0


def test_what_is_read_follows_the_grain() -> None:
    assert Prefer(by="rm").reads("responses") == {"prompt_id", "scores.rm.*"}
    assert Prefer(by=("j:help", "k")).reads("pairs") == {"votes.j.help", "votes.k.*"}
    assert Prefer(by="rm", how="scores").reads("pairs") == {"chosen_scores.rm.*", "rejected_scores.rm.*"}
    assert Prefer(by="j", name="p").writes("pairs") == {"label_prob", "evidence.p.logit"}
