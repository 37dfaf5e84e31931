"""What the tests with real processes share."""

from tests.proc.harness_fixtures import certificates, spawner, stage

__all__ = ["certificates", "spawner", "stage"]
