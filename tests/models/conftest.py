"""The model server that these tests talk to."""

from collections.abc import Iterator

import pytest

from tests.models.server import ModelServer


@pytest.fixture(scope="package")
def one_server() -> Iterator[ModelServer]:
    """One server for the package's tests."""
    with ModelServer() as server:
        yield server


@pytest.fixture
def server(one_server: ModelServer) -> ModelServer:
    """The server, its plan and log empty."""
    one_server.reset()
    return one_server
