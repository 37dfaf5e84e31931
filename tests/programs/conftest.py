"""What the tests with real programs share."""

from tests.proc.harness_fixtures import certificates, spawner, stage

__all__ = ["certificates", "spawner", "stage"]
