"""Fixtures of the tests with real processes: a spawner and certificates for a whole run, a stage for each test."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proc.harness import Spawner
from tests.proc.harness_stage import Certificates, Stage


@pytest.fixture(scope="session")
def spawner() -> Iterator[Spawner]:
    """Forks all processes; ends with the run, and they with it."""
    made = Spawner()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority and what it issued."""
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def stage(
    spawner: Spawner, certificates: Certificates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[Stage]:
    """An empty scene. No process, the client's engine included, may have met an internal error by the end."""
    made = Stage(spawner, certificates, tmp_path)
    complaints = ""
    try:
        yield made
    finally:
        complaints = made.close()
        print(complaints)
    assert "ERROR" not in complaints, complaints
    assert "Traceback" not in complaints, complaints
    assert not [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
