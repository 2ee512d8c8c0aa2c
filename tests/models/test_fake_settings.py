"""Options of fake models: what they may be, and when that is said."""

import pytest

from curate.errors import UsageError
from curate.models.fake import FakeBackend
from curate.models.fake_settings import DEFAULTS, LIMITS, answer_options
from tests.models.test_fake import spec


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"wrods": 3}, "no option 'wrods'"),
        ({"words": "many"}, "words is a number"),
        ({"words": True}, "words is a number"),
        ({"words": -5}, "words is at least 0"),
        ({"truncate_share": 7}, "truncate_share is from 0 to 1"),
        ({"position_bias": -2}, "position_bias is from -1 to 1"),
        ({"delay_s": float("nan")}, "delay_s is a number"),
        ({"fail_kind": "sick"}, "fail_kind is one"),
        ({"reasoning": "tag"}, "reasoning is true, false or tags"),
        ({"template": 5}, "template is a text"),
        ({"heads": 0}, "heads is at least 1"),
        ({"heads": 1.5}, "heads is a whole number"),
        ({"heads": "help,"}, "heads is a number, or names"),
        ({"dimensions": 0}, "dimensions is at least 1"),
    ],
)
def test_options_are_checked(options: dict[str, str | bool | int | float | None], words: str) -> None:
    """By the model, and before that by whoever only wants to know which model it is: a plan."""
    with pytest.raises(UsageError, match=words):
        FakeBackend(spec(**options))
    with pytest.raises(UsageError, match=words):
        answer_options(spec(**options))


def test_defaults_and_null_are_what_options_may_be() -> None:
    FakeBackend(spec(**DEFAULTS))
    FakeBackend(spec(**dict.fromkeys(DEFAULTS)))
    FakeBackend(spec(concurrency=3, position_bias=-1, heads="helpfulness, verbosity", reasoning="tags"))
    assert set(LIMITS) < set(DEFAULTS)
