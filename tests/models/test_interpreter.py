"""Python's own settings while models are called, and afterwards."""

import gc
import sys
from collections.abc import Iterator

import pyarrow as pa
import pytest

from curate.models.caller import Caller
from curate.models.interpreter import FULL_COLLECTIONS, MIDDLE_COLLECTIONS, SWITCH_SECONDS, YOUNG_OBJECTS, Tuned, system_memory


@pytest.fixture(autouse=True)
def as_python_starts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    collected, switched, pool = gc.get_threshold(), sys.getswitchinterval(), pa.default_memory_pool()
    gc.set_threshold(700, 10, 10)
    sys.setswitchinterval(0.005)
    pa.set_memory_pool(pa.mimalloc_memory_pool())
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)
    yield
    gc.set_threshold(*collected)
    sys.setswitchinterval(switched)
    pa.set_memory_pool(pool)


def settings() -> tuple[tuple[int, int, int], float]:
    return gc.get_threshold(), round(sys.getswitchinterval(), 6)


def allocator() -> str:
    return str(pa.default_memory_pool().backend_name)


def test_settings_last_until_they_are_restored() -> None:
    before = settings()
    tuned = Tuned()
    assert settings() == ((YOUNG_OBJECTS, MIDDLE_COLLECTIONS, FULL_COLLECTIONS), SWITCH_SECONDS)
    tuned.restore()
    assert settings() == before == ((700, 10, 10), 0.005)


def test_a_caller_that_is_closed_leaves_everything_as_it_was() -> None:
    before = settings()
    caller = Caller()
    assert settings() != before
    caller.close()
    assert settings() == before


def test_columns_come_from_the_system_for_a_while_also_where_that_ends_in_an_error() -> None:
    with pytest.raises(RuntimeError), system_memory():
        assert allocator() == "system"
        raise RuntimeError
    assert allocator() == "mimalloc"


def test_an_allocator_that_the_environment_names_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "mimalloc")
    with system_memory():
        assert allocator() == "mimalloc"


def test_a_garbage_collector_that_is_switched_off_stays_off() -> None:
    gc.set_threshold(0, 10, 0)
    tuned = Tuned()
    assert gc.get_threshold() == (0, 10, 0)
    tuned.restore()
