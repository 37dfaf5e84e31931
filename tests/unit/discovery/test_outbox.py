"""The outbox keeps the newest of each key; the board tells its listeners of changes only."""

import asyncio

import pytest

from kwik.discovery.outbox import Outbox, WarningBoard
from tests.unit.discovery.scripted import gone, sighting


async def test_the_newest_of_each_key_in_order_of_change():
    outbox = Outbox()
    for said in (sighting("a"), sighting("b"), sighting("a", state="drain"), gone("c"), sighting("c")):
        outbox.put(said)
    told = [await outbox.get() for _ in range(3)]
    assert [(said.key, said.kind.value, said.state) for said in told] == [
        ("b", "found", "up"),
        ("a", "found", "drain"),
        ("c", "found", "up"),
    ]


async def test_a_failure_comes_after_what_was_said_before_and_the_first_counts():
    outbox = Outbox()
    outbox.put(sighting("a"))
    outbox.fail(KeyError("first"))
    outbox.fail(ValueError("second"))
    assert (await outbox.get()).key == "a"
    for _ in range(2):
        with pytest.raises(KeyError):
            await outbox.get()


async def test_a_cancelled_reader_loses_nothing():
    outbox = Outbox()
    reader = asyncio.create_task(outbox.get())
    await asyncio.sleep(0)
    reader.cancel()
    outbox.put(sighting("a"))
    await asyncio.wait([reader])
    assert reader.cancelled()
    assert (await outbox.get()).key == "a"


async def test_the_end_of_a_task_is_a_failure_only_if_it_failed():
    async def fail() -> None:
        raise OSError("broken")

    outbox = Outbox()
    quiet = asyncio.create_task(asyncio.Event().wait())
    outbox.watch_task(asyncio.create_task(asyncio.sleep(0)))
    outbox.watch_task(quiet)  # type: ignore[arg-type]
    quiet.cancel()
    await asyncio.wait([quiet])
    outbox.watch_task(asyncio.create_task(fail()))
    with pytest.raises(OSError, match="broken"):
        await outbox.get()


def test_a_standing_warning_is_repeated_to_a_newcomer():
    board = WarningBoard()
    first: list[str | None] = []
    second: list[str | None] = []
    leave = board.subscribe(first.append)
    board.set("silence")
    board.set("silence")
    board.subscribe(second.append)
    leave()
    leave()
    board.set(None)
    assert first == ["silence"]
    assert second == ["silence", None]
