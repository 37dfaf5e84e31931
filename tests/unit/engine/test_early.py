"""A dial that has not reached its session: what fails, fails in the application's socket."""

import pytest

from kwik.engine.early import EarlyDial
from kwik.engine.local import make_pair
from kwik.errors import KwikError


@pytest.fixture
def pair():
    end, application = make_pair()
    yield end, application
    application.close()
    end.sock.close()


def early(end) -> EarlyDial:
    return EarlyDial(end, local=("127.0.0.1", 1), remote=("10.0.0.1", 80), replicas=1, limit_s=1.0)


def test_a_failure_is_a_reset(pair):
    end, application = pair
    dial, error = early(end), KwikError("no memory")
    dial.fail(error)
    assert dial.handle.reason is error
    assert dial.handle.done.is_set()
    with pytest.raises(ConnectionResetError):
        application.recv(1)


async def test_before_the_session_has_heard_of_it_nothing_is_known(pair):
    control = early(pair[0]).control
    assert await control.paths() == []
    assert await control.stats() is None
    await control.flush(1)
