"""Outside evidence attached by id, from each kind of file."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from curate import tables
from curate.errors import DataError
from curate.score.attach import Attach

RECORDS = [
    {"response_id": "b", "mark": 3, "why": ""},
    {"response_id": "a", "mark": 1.5, "why": "off topic"},
    {"response_id": "nobody", "mark": 9, "why": "x"},
    {"response_id": "b", "mark": 4, "why": None},
]


@pytest.fixture(params=["jsonl", "csv", "parquet"])
def file(request, tmp_path):
    path = tmp_path / f"review.{request.param}"
    if request.param == "jsonl":
        path.write_text("\n".join(json.dumps(record) for record in RECORDS) + "\n")
    elif request.param == "csv":
        cells = [
            ["response_id", "mark", "why"],
            *([record["response_id"], str(record["mark"]), record["why"] or ""] for record in RECORDS),
        ]
        path.write_text("\n".join(",".join(row) for row in cells) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist(RECORDS), path)
    return path


def responses(*names):
    return tables.from_rows([{"prompt_id": f"p{name}", "response_id": name} for name in names], "responses")


def written(tmp_path, *lines, name="file.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(lines))
    return path


def values(scores):
    return [[entry["value"] for entry in entries or []] for entries in scores.to_pylist()]


def test_scores_attach_by_id_in_file_order(file):
    made = Attach(file=file, scores={"mark": "alice:overall"})(responses("a", "b", "c"))
    assert values(made["scores"]) == [[1.5], [3, 4], []]
    entry = made["scores"].to_pylist()[0][0]
    assert (entry["rater"], entry["aspect"]) == ("alice", "overall")


def test_a_bare_rater_takes_the_field_as_aspect(file):
    step = Attach(file=file, scores={"mark": "alice"})
    assert step(responses("a"))["scores"].to_pylist()[0][0]["aspect"] == "mark"
    assert step.writes("responses") == {"scores.alice.mark"}


def test_a_reason_becomes_a_flag_and_an_empty_one_does_not(file):
    made = Attach(file=file, flags="why", name="review")(responses("a", "b", "c"))
    flag = {"by": "review", "reason": "off topic", "value": None, "other": None}
    assert [flags or [] for flags in made["flags"].to_pylist()] == [[flag], [], []]


def test_only_asked_columns_come_back(file):
    assert Attach(file=file, scores={"mark": "alice"}, flags="why")(responses("a")).column_names == ["scores", "flags"]
    assert Attach(file=file, flags="why")(responses("a")).column_names == ["flags"]


def test_earlier_scores_stay_in_front(file):
    table = tables.from_rows([{"response_id": "a", "scores": [{"rater": "rm", "aspect": "score", "value": 7}]}], "responses")
    assert values(Attach(file=file, scores={"mark": "alice"})(table)["scores"]) == [[7, 1.5]]


def test_another_column_and_key_may_name_the_row(tmp_path):
    path = written(tmp_path, '{"id": "pa", "x": 1}')
    assert values(Attach(file=path, on="prompt_id", key="id", scores={"x": "r"})(responses("a", "b"))["scores"]) == [[1], []]


def test_a_field_of_meta_may_name_the_row(tmp_path):
    """The key of a file that knows nothing of our ids, as text or as a number."""
    file = written(tmp_path, '{"item": "k1", "mark": 2}', '{"item": 7, "mark": 3}')
    metas = ['{"key":"k1"}', '{"key":7}', '{"key":null}', '{"key":["k1"]}', None]
    rows = [{"prompt_id": str(place), "response_id": str(place), "meta": meta} for place, meta in enumerate(metas)]
    step = Attach(file=file, on="meta.key", key="item", scores={"mark": "alice"})
    assert values(step(tables.from_rows(rows, "responses"))["scores"]) == [[2], [3], [], [], []]
    assert step.reads("responses") == {"meta"}
    with pytest.raises(ValidationError, match="needs `key`"):
        Attach(file=file, on="meta.key", scores={"mark": "alice"})


def test_every_row_of_a_repeated_id_gets_it(tmp_path):
    path = written(tmp_path, '{"prompt_id": "p", "x": 1}')
    table = tables.from_rows([{"prompt_id": "p"}, {"prompt_id": "q"}, {"prompt_id": "p"}], "prompts")
    assert values(Attach(file=path, scores={"x": "r"})(table)["scores"]) == [[1], [], [1]]


def test_votes_attach_to_pairs(tmp_path):
    path = written(tmp_path, '{"pair_id": "x", "p": 0.25}', '{"pair_id": "y"}')
    made = Attach(file=path, votes={"p": "bob:help"})(tables.from_rows([{"pair_id": "x"}, {"pair_id": "y"}], "pairs"))
    assert [[(v["rater"], v["aspect"], v["p_chosen"]) for v in votes or []] for votes in made["votes"].to_pylist()] == [
        [("bob", "help", 0.25)],
        [],
    ]


def recorded(tmp_path, *rows):
    """The votes of pairs whose verdicts were recorded with chosen first and with rejected first."""
    path = tmp_path / "verdicts.jsonl"
    listed = [{"pair_id": f"p{n}", "ab": shown, "ba": swapped} for n, (shown, swapped) in enumerate(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in listed))
    worth = {"first": 1.0, "second": 0.0, "tie": 0.5}
    step = Attach(file=path, votes={"ab": "judge:better"}, swapped={"ab": "ba"}, verdicts=worth)
    votes = step(tables.from_rows([{"pair_id": row["pair_id"]} for row in listed], "pairs"))["votes"].to_pylist()
    return [[(vote["p_chosen"], vote["p_swapped"], (vote["error"] or "")[:10]) for vote in each] for each in votes]


def test_recorded_verdicts_become_votes_in_both_orders(tmp_path):
    made = recorded(tmp_path, ("first", "second"), ("first", "first"), (" tie\n", "tie"), ("second", None), (None, ""))
    assert made == [[(1, 1, "")], [(1, 0, "")], [(0.5, 0.5, "")], [(0, None, "")], []]


def test_a_verdict_nobody_listed_is_null_with_an_error(tmp_path):
    assert recorded(tmp_path, ("first", "I prefer the second"), ("First", "-")) == [
        [(1, None, "unparsable")],
        [(None, None, "unparsable")],
    ]


def test_a_verdict_that_cannot_be_read_keeps_its_text(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    lines = [
        {"pair_id": "q"},
        {"pair_id": "p", "ab": "A. It is short.", "ba": "Both."},
        {"pair_id": "p", "ab": "?", "ba": "A\nB"},
    ]
    path.write_text("".join(json.dumps({"ab": None, "ba": None} | line) + "\n" for line in lines))
    step = Attach(file=path, votes={"ab": "j"}, swapped={"ab": "ba"}, verdicts={"A": 1.0, "B": 0.0}, layout="choice")
    (first, second), none = step(tables.from_rows([{"pair_id": "p"}, {"pair_id": "q"}], "pairs"))["votes"].to_pylist()
    assert (first["p_chosen"], first["p_swapped"], first["error"]) == (1, None, "unparsable: no verdict")
    assert first["rationale"] == "(sides exchanged)\nBoth."
    assert (second["p_chosen"], second["p_swapped"], second["error"]) == (None, None, "unparsable: no verdict")
    assert second["rationale"] == "?\n\n(sides exchanged)\nA\nB"
    assert none == []


def test_the_higher_mark_wins(tmp_path):
    path = tmp_path / "marks.jsonl"
    path.write_text('{"pair_id": "p", "ab": [7, "9"], "ba": "9 9"}\n')
    step = Attach(file=path, votes={"ab": "j"}, swapped={"ab": "ba"}, layout="ratings")
    ((vote,),) = step(tables.from_rows([{"pair_id": "p"}], "pairs"))["votes"].to_pylist()
    assert (vote["p_chosen"], vote["p_swapped"], vote["error"]) == (0, 0.5, None)


@pytest.mark.parametrize("wrong", [{"layout": "choice"}, {"layout": "ratings", "verdicts": {"A": 1}}])
def test_a_layout_has_the_names_it_needs(wrong):
    with pytest.raises(ValidationError, match=f"layout: {wrong['layout']}"):
        Attach(file="v.jsonl", votes={"ab": "j"}, **wrong)


def test_numbers_for_both_orders_are_about_the_chosen_side(tmp_path):
    path = tmp_path / "votes.jsonl"
    path.write_text('{"pair_id": "x", "shown": 0.9, "exchanged": 0.7}\n')
    made = Attach(file=path, votes={"shown": "j"}, swapped={"shown": "exchanged"})(tables.from_rows([{"pair_id": "x"}], "pairs"))
    assert [(v["p_chosen"], v["p_swapped"]) for v in made["votes"].to_pylist()[0]] == [(pytest.approx(0.9), pytest.approx(0.7))]


@pytest.mark.parametrize("more", [{"swapped": {"other": "ba"}}, {"votes": {}, "scores": {"s": "j"}, "verdicts": {"A": 1}}])
def test_orders_and_verdicts_belong_to_votes(more):
    with pytest.raises(ValidationError, match="are about fields of `votes`"):
        Attach(**({"file": "v.jsonl", "votes": {"ab": "j"}} | more))


def test_two_fields_of_one_file_both_attach(tmp_path):
    path = written(tmp_path, '{"response_id": "a", "x": 1, "y": 2}')
    made = Attach(file=path, scores={"x": "r", "y": "r"})(responses("a"))
    assert [(s["aspect"], s["value"]) for s in made["scores"].to_pylist()[0]] == [("x", 1), ("y", 2)]


def test_whole_numbers_as_ids_match_their_digits(tmp_path):
    path = written(tmp_path, '{"response_id": 12, "x": 1}')
    assert values(Attach(file=path, scores={"x": "r"})(responses("12"))["scores"]) == [[1]]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", ":2: not JSON"),
        ("[1]", ":2: expected a JSON object"),
        ('{"x": 1}', ":2, response_id: expected a text"),
        ('{"response_id": "b", "x": "much"}', ":2, x: expected a number, got 'much'"),
        ('{"response_id": "b", "x": NaN}', ":2, x: expected a finite number"),
        ('{"response_id": "b", "x": 1e300}', ":2, x: expected a finite number"),
        ('{"response_id": "b", "why": "\\u0000"}', ":2, why: NUL character"),
        ('{"response_id": "\\ud800"}', ":2, response_id: lone surrogate"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, told):
    path = written(tmp_path, '{"response_id": "a", "x": 1}', line)
    with pytest.raises(DataError, match="file.jsonl") as error:
        Attach(file=path, scores={"x": "r"}, flags="why")(responses("a"))
    assert told in str(error.value)


def test_a_vote_is_a_probability(tmp_path):
    path = written(tmp_path, '{"pair_id": "x", "p": 1.5}')
    with pytest.raises(DataError, match=r":1, p: expected a probability in \[0, 1\], got 1.5"):
        Attach(file=path, votes={"p": "bob"})(tables.from_rows([{"pair_id": "x"}], "pairs"))


def test_a_missing_field_is_named(tmp_path):
    path = written(tmp_path, "response_id,mark", "a,1", name="file.csv")
    with pytest.raises(DataError, match="no field marks; it has response_id, mark"):
        Attach(file=path, scores={"marks": "r"})(responses("a"))


def test_a_field_that_no_line_has_is_named(tmp_path):
    path = written(tmp_path, '{"response_id": "a", "mark": 1}')
    with pytest.raises(DataError, match="no field marks; it has response_id, mark"):
        Attach(file=path, scores={"marks": "r"})(responses("a"))


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="none.csv: No such file"):
        Attach(file=tmp_path / "none.csv", scores={"x": "r"})(responses("a"))


def test_a_changed_file_is_read_again(tmp_path):
    path = written(tmp_path, '{"response_id": "a", "x": 1}')
    step = Attach(file=path, scores={"x": "r"})
    step(responses("a"))
    path.write_text('{"response_id": "a", "x": 2}')
    os.utime(path, ns=(1, 1))
    assert values(step(responses("a"))["scores"]) == [[2]]


def test_parameters_leave_out_where_the_file_lies(tmp_path):
    step = Attach(file=tmp_path / "x.csv", scores={"x": "r"})
    assert step.parameters()["file"] == "x.csv" and step.files() == {str(tmp_path / "x.csv")}


@pytest.mark.parametrize("wrong", [{"file": "x.csv"}, {"file": "x.pickle", "flags": "why"}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValidationError):
        Attach(**wrong)


def test_shards_give_what_the_whole_gives_and_the_input_stays(file):
    table = responses("c", "b", "a", "b")
    before, step = table.to_pylist(), Attach(file=file, scores={"mark": "alice"}, flags="why")
    parts = pa.concat_tables([step(table.slice(0, 1)), step(table.slice(1))])
    assert parts.to_pylist() == step(table).to_pylist() and table.to_pylist() == before


def test_empty_in_empty_out(file, tmp_path):
    assert Attach(file=file, scores={"mark": "alice"}, flags="why")(tables.empty("responses")).num_rows == 0
    empty = written(tmp_path, name="empty.jsonl")
    assert values(Attach(file=empty, scores={"mark": "alice"})(responses("a"))["scores"]) == [[]]
