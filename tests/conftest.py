"""What the tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data beside the project, named by CURATE_TEST_DATA; without it, skipped, or failed where CI=true."""
    told = os.environ.get("CURATE_TEST_DATA")
    if told and Path(told).is_dir():
        return Path(told).resolve()
    reason = f"CURATE_TEST_DATA names no folder ({told!r})" if told else "CURATE_TEST_DATA is not set"
    if os.environ.get("CI") == "true":
        pytest.fail(f"real data missing: {reason}")
    pytest.skip(f"real data missing: {reason}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files without slow tests first; a file stays together, since its fixtures are costly."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path in slow)
