"""What the ledger calls the same request, what it serves, and what it never does."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.ids import digest
from curate.models.asking import Reply, Request, Sampling
from curate.models.ledger import Ledger
from curate.models.ledger_record import about, answer, asked, key, pack
from curate.models.replies import reply_of

WRITER = {"name": "writer", "revision": None, "kind": "chat"}


def ask(text: str = "Name a colour.", max_tokens: int | None = None, sample: int = 0, **more: object) -> Request:
    return Request(({"role": "user", "content": text},), Sampling(max_tokens=max_tokens), sample=sample, **more)  # type: ignore[arg-type]


def said(text: str = "Red.", tokens: int | None = 10, finish: str = "stop", **more: object) -> Reply:
    return Reply(text=text, finish_reason=finish, response_tokens=tokens, **more)  # type: ignore[arg-type]


def keep(ledger: Ledger, request: Request, reply: Reply, step: str | None = None) -> str:
    key = ledger.key(WRITER, request)
    ledger.record(key, WRITER, request, reply, step)
    return key


def texts(ledger: Ledger, *requests: Request) -> list[str | None]:
    found = ledger.find([ledger.key(WRITER, r) for r in requests], [r.sampling.max_tokens for r in requests])
    return [None if reply is None else reply.text for reply in found]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


# -- keys. Changing any of these costs users money: every answer they paid for would be asked for again. If the rule must
# change, keys are to be computed again from the requests in the records, and old ledgers must go on being served.

PLAIN = ask()
FULL = Request(
    messages=(
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "¿Qué color? 🎨"}, {"type": "image_url", "image_url": {"url": "a"}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "see", "arguments": "{}"}}]},
    ),
    sampling=Sampling(0.7, 0.9, 40, 0.05, 0.1, 0.2, 1.1, ("\n\n", "END"), 256, 5),
    seed=7,
    sample=3,
    tools=({"type": "function", "function": {"name": "see"}},),
    response_format={"name": "colour", "schema": {"type": "object"}},
)
GOLDEN = [
    (WRITER, PLAIN, "2606f0ba8e65e37464122232639dd127b91ca7198be1414123986c81600161d6"),
    ({**WRITER, "revision": "abc"}, PLAIN, "13424fd273b958745041c9f98dc6e4300530b5a98ba15c42cdba43369a7bc3c5"),
    (WRITER, replace(PLAIN, sample=1), "c3a26ad2cb2b921b2382d550acf4ab6b38d3bd5fdf2531977252e342bb21770c"),
    (WRITER, replace(PLAIN, seed=0), "061a1083adef27629251dc806d0420dcca965de40fd7de126becf610e130bd6f"),
    (
        WRITER,
        replace(PLAIN, sampling=Sampling(temperature=1)),
        "5a874c1a73b568c5e5d6384a6df2d3f73bc78a16fdc804ca7114854495f17d2f",
    ),
    (WRITER, FULL, "d3861634f01550f6ab252cc4ccbaa0ac4d9e32dcedc5f6f4078ab71f7fa25c5b"),
]


@pytest.mark.parametrize(
    ("identity", "request_", "key"), GOLDEN, ids=["plain", "revision", "sample", "seed", "temperature", "full"]
)
def test_keys_stay_what_they_are(identity: dict[str, object], request_: Request, key: str) -> None:
    assert Ledger.key(identity, request_) == key


def test_everything_that_shapes_an_answer_is_in_the_key() -> None:
    changed = [
        replace(FULL, messages=FULL.messages[:2]),
        replace(FULL, seed=8),
        replace(FULL, sample=4),
        replace(FULL, tools=()),
        replace(FULL, response_format=None),
        *(replace(FULL, sampling=replace(FULL.sampling, **{name: None})) for name in vars(FULL.sampling) if name not in UNKEYED),
        replace(FULL, sampling=replace(FULL.sampling, stop=("END",))),
    ]
    keys = [Ledger.key(WRITER, request) for request in (FULL, *changed)]
    keys += [Ledger.key({**WRITER, **other}, FULL) for other in ({"name": "x"}, {"revision": "x"}, {"kind": "x"})]
    assert len(set(keys)) == len(keys) == 18


UNKEYED = ("max_tokens", "stop")


def test_one_request_written_in_two_ways_has_one_key() -> None:
    same = [
        ask(),
        ask(max_tokens=5),
        Request(({"content": "Name a colour.", "role": "user", "name": None},)),
    ]
    assert len({Ledger.key(WRITER, request) for request in same}) == 1
    assert Ledger.key({"kind": "chat", "name": "writer"}, PLAIN) == Ledger.key(WRITER, PLAIN)
    warm = [replace(PLAIN, sampling=Sampling(temperature=value)) for value in (1, 1.0)]
    assert Ledger.key(WRITER, warm[0]) == Ledger.key(WRITER, warm[1])


def nested(depth: int) -> object:
    inner: object = "x"
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "request_",
    [
        ask("half a pair: \ud83c"),
        replace(PLAIN, sampling=Sampling(temperature=math.nan)),
        replace(PLAIN, sampling=Sampling(top_p=math.inf)),
        replace(PLAIN, tools=({"maximum": math.nan},)),
        replace(PLAIN, response_format={"schema": {1, 2}}),
        replace(PLAIN, response_format={"schema": nested(100_000)}),
    ],
    ids=["surrogate", "nan", "infinity", "nan in a tool", "no json", "deep"],
)
def test_a_request_that_cannot_be_asked_is_an_error_at_once(request_: Request) -> None:
    with pytest.raises(ValueError, match="this request cannot be asked"):
        Ledger.key(WRITER, request_)


def test_an_address_or_a_key_is_no_part_of_a_model() -> None:
    with pytest.raises(ValueError, match="must not hold api_key, base_url") as raised:
        Ledger.key({**WRITER, "api_key": "sk-planted", "base_url": "https://planted"}, PLAIN)
    assert "planted" not in str(raised.value)


# -- what is served


def test_an_answer_is_found_by_this_and_by_the_next_process(ledger: Ledger) -> None:
    keep(ledger, ask(), said("Red."))
    assert texts(ledger, ask()) == ["Red."]
    assert texts(Ledger(ledger.root), ask()) == ["Red."]
    ledger.close()
    assert texts(Ledger(ledger.root), ask()) == ["Red."]


def test_eight_samples_after_four_ask_for_four(ledger: Ledger) -> None:
    for sample in range(4):
        keep(ledger, ask(sample=sample), said(f"colour {sample}"))
    wanted = [ask(sample=sample) for sample in range(8)]
    assert texts(ledger, *wanted) == ["colour 0", "colour 1", "colour 2", "colour 3", None, None, None, None]


@pytest.mark.parametrize(
    ("tokens", "finish", "asked_with", "served", "not_served"),
    [
        (10, "stop", 100, [10, 11, 100, 500, None], [1, 9]),
        (10, "stop", None, [10, 500, None], [9]),
        (120, "stop", 100, [100, 500, None], [99]),  # a server that counts otherwise: asking again would change nothing
        (10, "tool_calls", 100, [10, None], [9]),
        (100, "length", 100, [100, 99, 5], [101, 500, None]),
        (60, "length", 100, [100, 60], [101, None]),  # the context ended before the limit did
        (100, "length", None, [100, 1000, None], []),
        (None, "stop", 100, [100, 500, None, 4], [3]),  # "Red." has four bytes: it cannot have been more than four tokens
        (None, "length", 100, [100, 50], [101, None]),
    ],
)
def test_max_tokens(
    ledger: Ledger,
    tokens: int | None,
    finish: str,
    asked_with: int | None,
    served: list[int | None],
    not_served: list[int | None],
) -> None:
    keep(ledger, ask(max_tokens=asked_with), said(tokens=tokens, finish=finish))
    assert [limit for limit in [*served, *not_served] if texts(ledger, ask(max_tokens=limit)) == ["Red."]] == served


def test_raising_the_limit_asks_only_what_was_truncated(ledger: Ledger) -> None:
    keep(ledger, ask("short", 100), said("Red.", 2))
    keep(ledger, ask("long", 100), said("Once upon", 100, "length"))
    assert texts(ledger, ask("short", 200), ask("long", 200)) == ["Red.", None]
    keep(ledger, ask("long", 200), said("Once upon a time.", 150))
    assert texts(ledger, ask("long", 200), ask("long", 100)) == ["Once upon a time.", "Once upon"]


@pytest.mark.parametrize("error", ["rate_limit", "timeout", "connection", "server", "bad_reply", "refused", "request", "engine"])
def test_a_failure_is_recorded_and_never_served(ledger: Ledger, error: str) -> None:
    keep(ledger, ask(), Reply(error=error, detail="no"))  # type: ignore[arg-type]
    assert texts(ledger, ask()) == [None]
    assert [row.errors for row in ledger.spent()] == [{error: 1}]
    keep(ledger, ask(), said("Red."))
    keep(ledger, ask(), Reply(error=error, detail="no"))  # type: ignore[arg-type]
    assert texts(ledger, ask()) == ["Red."]
    assert texts(Ledger(ledger.root), ask()) == ["Red."]


def test_a_failure_serves_nobody_even_where_it_is_found() -> None:
    failed = answer(pack(WRITER, ask(), Reply(error="timeout", finish_reason="stop", response_tokens=1), None, 1.5))
    assert not failed.serves(None) and not failed.serves(10)


def test_the_newest_answer_is_served_wherever_it_lies(tmp_path: Path) -> None:
    first, second = Ledger(tmp_path), Ledger(tmp_path)
    keep(first, ask(), said("Red."))
    keep(second, ask(), said("Green."))
    keep(first, ask(), said("Blue."))
    assert texts(Ledger(tmp_path), ask()) == ["Blue."]


def test_what_another_process_writes_is_seen_while_it_writes(tmp_path: Path) -> None:
    reader, writer = Ledger(tmp_path, refresh_seconds=0), Ledger(tmp_path)
    assert texts(reader, ask("0")) == [None]
    for number in range(3):
        keep(writer, ask(str(number)), said(f"answer {number}"))
        assert texts(reader, ask(str(number))) == [f"answer {number}"]


def test_order_of_keys_is_kept_and_repeats_are_answered(ledger: Ledger) -> None:
    for number in range(2000):
        keep(ledger, ask(str(number)), said(f"answer {number}"))
    wanted = [5, 1999, 5, 0, 2000, 700]
    expected = ["answer 5", "answer 1999", "answer 5", "answer 0", None, "answer 700"]
    assert texts(ledger, *(ask(str(number)) for number in wanted)) == expected
    ledger.close()
    assert texts(Ledger(ledger.root), *(ask(str(number)) for number in wanted)) == expected


def test_looking_up_nothing_makes_nothing(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        assert ledger.find([], []) == []
        assert texts(ledger, ask()) == [None]
    assert not (tmp_path / "ledger").exists()


# -- what is kept

ANY_TEXT = st.text(st.characters(), max_size=60)  # surrogates and control characters included
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
ANY_REPLY = st.builds(
    Reply,
    text=st.none() | ANY_TEXT,
    reasoning=st.none() | ANY_TEXT,
    tool_calls=st.lists(st.dictionaries(ANY_TEXT, ANY_JSON, max_size=2), max_size=2).map(tuple),
    finish_reason=st.none() | st.sampled_from(["stop", "length"]),
    prompt_tokens=st.none() | st.integers(0, 2**40),
    response_tokens=st.none() | st.integers(0, 2**40),
    logprobs=st.none() | st.lists(st.dictionaries(ANY_TEXT, ANY_JSON, max_size=2), max_size=2).map(tuple),
    seconds=st.none() | st.floats(0, 1e6),
    cost_usd=st.none() | st.floats(0, 1e6),
    raw=st.none() | st.dictionaries(ANY_TEXT, ANY_JSON, max_size=3),
)


@settings(max_examples=300, deadline=None)
@given(reply=ANY_REPLY)
def test_any_reply_comes_back_as_it_was(reply: Reply) -> None:
    assert answer(pack(WRITER, ask(), reply, "step", 1.5)).reply() == replace(reply, from_ledger=True)


def test_numbers_that_are_none_come_back(ledger: Ledger) -> None:
    token = {"token": "a", "logprob": -math.inf, "top": {"b": math.nan}}
    key = keep(ledger, ask(), said(logprobs=(token,)))
    (reply,) = ledger.find([key], [None])
    assert reply is not None and reply.logprobs is not None
    assert reply.logprobs[0]["logprob"] == -math.inf and math.isnan(reply.logprobs[0]["top"]["b"])


def test_a_type_of_the_back_ends_own_in_the_raw_choice_loses_no_answer(ledger: Ledger) -> None:
    keep(ledger, ask(), said(raw={"choice": object()}))
    assert texts(ledger, ask()) == ["Red."]


def test_a_reply_of_ten_megabytes(ledger: Ledger) -> None:
    long = "".join(chr(32 + number * number % 9973) for number in range(5_000_000))
    keep(ledger, ask(), said(long))
    assert texts(Ledger(ledger.root), ask()) == [long]


def test_what_was_asked_is_kept_with_the_answer() -> None:
    _, told = about(pack(WRITER, FULL, said(), "generate", 1.5))
    assert told["model"] == {"name": "writer", "kind": "chat"} and told["step"] == "generate"
    assert told["request"]["messages"][1]["content"][0]["text"] == "¿Qué color? 🎨"
    assert told["request"]["sampling"]["stop"] == ["\n\n", "END"] and told["request"]["seed"] == 7


def test_no_secret_of_the_environment_is_written(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-in-the-environment")
    keep(ledger, ask(), said(raw={"message": {"content": "Red."}}), "step")
    keep(ledger, ask(), Reply(error="server", detail="HTTP 500"), "step")
    ledger.close()
    kept = [about(payload) for payload in ledger._reading.payloads([bytes.fromhex(ledger.key(WRITER, ask()))])[0]]
    assert len(kept) == 1 and "planted" not in repr(kept)
    names = {name for found, told in kept for name in (*found.told, *told, *told["request"], *told["model"])}
    assert names == {
        *("text", "finish_reason", "response_tokens"),
        *("model", "step", "request", "messages", "sample", "sampling", "name", "kind"),
    }


def test_the_keys_and_limits_of_a_search_go_together(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="1 keys and 2 limits"):
        ledger.find(["00" * 32], [None, None])


def test_an_answer_of_no_use_is_kept_and_never_served_again(tmp_path: Path) -> None:
    request = Request(({"role": "user", "content": "A or B?"},))
    with Ledger(tmp_path / "ledger") as ledger:
        key = ledger.key({"name": "m"}, request)
        ledger.record(key, {"name": "m"}, request, Reply(text="well...", finish_reason="stop", cost_usd=0.5))
        assert ledger.find([key], [None])[0] is not None
        ledger.disown(key, {"name": "m"}, request)
        assert ledger.find([key], [None]) == [None]
        ledger.record(key, {"name": "m"}, request, Reply(text="Verdict: A", finish_reason="stop", cost_usd=0.5))
    with Ledger(tmp_path / "ledger") as again:
        (found,) = again.find([key], [None])
        assert found is not None and found.text == "Verdict: A"
        (spent,) = [row for row in again.spent() if row.calls]
        assert (spent.calls, spent.answered, spent.errors, spent.cost_usd) == (2, 2, {"unparsable": 1}, 1.0)


# -- what is written and read in a short way is what the long way gives

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN_MESSAGES = st.fixed_dictionaries({"role": st.sampled_from(["user", "system", 'a "role"']), "content": TEXTS})
MESSAGES = PLAIN_MESSAGES | st.fixed_dictionaries({"role": st.just("user"), "content": VALUES}, optional={"name": VALUES})


@given(
    messages=st.lists(MESSAGES, max_size=3),
    identity=st.dictionaries(st.sampled_from(["name", "revision", "options"]), VALUES),
    sample=st.integers() | st.booleans(),
    seed=st.none() | st.integers(),
    response_format=st.none() | st.dictionaries(st.text(max_size=3), VALUES, max_size=2),
    tools=st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=2), max_size=2),
    temperature=st.none() | st.floats(0, 2),
)
@settings(max_examples=200, deadline=None)
def test_a_key_is_the_digest_of_the_whole_request(messages, identity, sample, seed, response_format, tools, temperature) -> None:  # type: ignore[no-untyped-def]
    request = Request(tuple(messages), Sampling(temperature), seed, sample, tuple(tools), response_format)
    model = {name: value for name, value in identity.items() if value is not None}
    sampling = {} if temperature is None else {"temperature": temperature}
    whole = {"model": model, **asked(request), "sampling": sampling}
    try:
        expected = digest(whole)
    except ValueError:  # half a surrogate pair
        with pytest.raises(ValueError, match="cannot be asked"):
            key(identity, request)
        return
    assert key(identity, request) == expected


def test_equal_identities_with_different_json_have_different_keys() -> None:
    settings_of = [{"name": "m", "options": {"body.top_a": value}} for value in (1, 1.0, True)]
    keys = [key(identity, PLAIN) for identity in settings_of]
    assert len(set(keys)) == 3
    settings_of[0]["options"] = {"body.top_a": 2}
    assert key(settings_of[0], PLAIN) not in keys


def test_a_reply_made_quickly_is_the_same() -> None:
    told = {"text": "Red.", "finish_reason": "stop", "response_tokens": 3, "from_ledger": True}
    quick, slow = reply_of(told), Reply(**told)  # type: ignore[arg-type]
    assert quick == slow
    assert replace(quick, text="Blue.") == replace(slow, text="Blue.")
    assert quick.usable and quick.tool_calls == ()


def test_the_raw_choice_of_a_kept_reply_reads_like_the_one_that_came(ledger: Ledger) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Red."}, "usage": None}
    kept = [ask(), ask("Name a fruit.")]
    keep(ledger, kept[0], said(raw=choice))
    keep(ledger, kept[1], said())
    whole, without = ledger.find([ledger.key(WRITER, request) for request in kept], [None, None])
    assert whole is not None and whole.raw is not None
    assert whole.raw == choice and choice == whole.raw and dict(whole.raw) == choice and len(whole.raw) == 3
    assert whole.raw["message"]["content"] == "Red." and whole.raw.get("nothing") is None
    assert without is not None and without.raw is None


def test_answers_far_apart_and_side_by_side_are_all_found(ledger: Ledger) -> None:
    requests = [ask(f"Question {number}?") for number in range(400)]
    for number, request in enumerate(requests):
        keep(ledger, request, said(f"Answer {number}. " + "many words " * (2000 if number % 50 == 0 else 1)))
    wanted = requests[::-7] + requests[:3] + [ask("Never asked?")] + requests[:1]
    found = texts(ledger, *wanted)
    assert [text and text.split(".")[0].removeprefix("Answer ") for text in found] == [
        *(str(number) for number in range(399, -1, -7)),
        *("0", "1", "2"),
        None,
        "0",
    ]
