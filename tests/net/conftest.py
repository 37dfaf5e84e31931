"""Fixtures of the tests with loopback sockets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.services import Service, service


@pytest.fixture
def echo_service(tmp_path: Path) -> Iterator[Service]:
    """A service without servers yet; what is started is closed at the end."""
    with service(tmp_path) as made:
        yield made
