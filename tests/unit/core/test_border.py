"""Where bytes become frames and where a broken rule becomes the other side's fault (SPEC §3.2)."""

from __future__ import annotations

import pytest

from kwik.core.border import PipeReader
from kwik.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from kwik.wire.codec import DataPiece, Frame, Received, encode, encode_data
from kwik.wire.frames import Ack, AskDigests, Produced, Upstream


def take_nothing(received: Received) -> None:
    """Every frame is fine."""


class TestPipeReader:
    def test_frames_of_each_pipe_are_put_together_apart(self):
        reader = PipeReader("server")
        taken: list[Received] = []
        frame, data = encode(Produced(1, 70000)), encode_data(1, 2, 3, b"hello")
        reader.feed(0, frame[:3], taken.append)
        reader.feed(1, data[:3], taken.append)
        assert taken == []
        assert reader.held_bytes == 6
        reader.feed(0, frame[3:], taken.append)
        reader.feed(1, data[3:], taken.append)
        assert taken == [Produced(1, 70000), DataPiece(1, 2, 3, b"hello")]
        assert reader.held_bytes == 0

    def test_a_frame_on_the_wrong_pipe_is_a_fault(self):
        with pytest.raises(RemoteProtocolError) as caught:
            PipeReader("server").feed(1, encode(Produced(1, 2)), take_nothing)
        assert caught.value.code == ErrorCode.FRAME_FORMAT

    def test_a_frame_of_the_wrong_side_is_a_fault(self):
        with pytest.raises(RemoteProtocolError):
            PipeReader("server").feed(0, encode(Ack(1, 2, 3)), take_nothing)

    def test_a_broken_rule_names_the_frame_and_keeps_its_code(self):
        def refuse(received: Received) -> None:
            raise LocalProtocolError("not now", code=ErrorCode.LIMIT)

        with pytest.raises(RemoteProtocolError, match=r"^PRODUCED\.type: not now$") as caught:
            PipeReader("server").feed(0, encode(Produced(1, 2)), refuse)
        assert caught.value.code == ErrorCode.LIMIT

    @pytest.mark.parametrize(
        ("frame", "name"), [(AskDigests(1, 2, 3), "ASK_DIGESTS"), (Upstream(1, 0, 0, 0, b"", b"", b"x"), "UPSTREAM")]
    )
    def test_a_broken_rule_names_the_field_if_there_is_one(self, frame: Frame, name: str):
        def refuse(received: Received) -> None:
            raise LocalProtocolError("too far", field="offset")

        with pytest.raises(RemoteProtocolError) as caught:
            PipeReader("client").feed(0, encode(frame), refuse)
        assert (caught.value.frame, caught.value.field) == (name, "offset")

    def test_a_fault_that_is_remote_already_stays_as_it_is(self):
        fault = RemoteProtocolError(ErrorCode.ADMISSION, "JOIN", message="wrong")

        def refuse(received: Received) -> None:
            raise fault

        with pytest.raises(RemoteProtocolError) as caught:
            PipeReader("server").feed(0, encode(Produced(1, 2)), refuse)
        assert caught.value is fault
