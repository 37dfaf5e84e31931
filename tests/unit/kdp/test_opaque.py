"""TLS and SSH streams are one server's alone, however the service is declared (SPEC §6.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.errors import ErrorCode
from kwik.kdp.opaque import Head, classify
from kwik.kdp.upstream_log import UpstreamLog
from kwik.kdp.upstream_sink import Mark
from kwik.wire import frames
from tests.unit.kdp.session_rig import BLOCK, P1, P2, SessionRig

TLS = bytes.fromhex("16030102000100")
SSH = b"SSH-2.0-OpenSSH_9.6\r\n"
OPAQUE = pytest.mark.parametrize("head", [TLS, SSH], ids=["tls", "ssh"])


@pytest.fixture
def rig() -> SessionRig:
    return SessionRig()


class TestHead:
    @pytest.mark.parametrize("head", [TLS, SSH, b"\x16\x03", b"\x16\x03\x04", b"SSH-"])
    def test_tls_records_and_ssh_banners(self, head: bytes):
        assert classify(head) is Head.OPAQUE

    @pytest.mark.parametrize("head", [b"", b"\x16", b"S", b"SS", b"SSH"])
    def test_what_may_still_become_one(self, head: bytes):
        assert classify(head) is Head.UNDECIDED

    @pytest.mark.parametrize("head", [b"GET /", b"\x17\x03", b"\x16\x02", b"SSH ", b"SSL-", b"ssh-", b" SSH-", b"\x00"])
    def test_anything_else_is_open(self, head: bytes):
        assert classify(head) is Head.OPEN

    @given(text=st.sampled_from([TLS, SSH, b"SSHX", b"\x16\x04...", b"GET / HTTP/1.1"]), data=st.data())
    def test_it_does_not_matter_how_the_bytes_come(self, text: bytes, data: st.DataObject):
        log, left = UpstreamLog(1 << 20), text
        while left:
            size = data.draw(st.integers(1, len(left)))
            log.append(left[:size], Mark(0, None))
            left = left[size:]
        assert log.head is classify(text)

    def test_only_the_beginning_counts(self):
        log = UpstreamLog(1 << 20)
        log.append(b"STARTTLS\r\n", Mark(0, None))
        log.append(TLS, Mark(5, None))
        assert log.head is Head.OPEN


class TestStream:
    @OPAQUE
    def test_it_is_never_recruited(self, head: bytes):
        rig = SessionRig(recruit_backlog_bytes=BLOCK)
        rig.path(P1, "a")
        rig.path(P2, "b")
        key, anchor = rig.live(P1)
        rig.write(key, head)
        rig.tell(frames.Produced(anchor, 60 * BLOCK))
        rig.wait(1.0)
        assert rig.hear_only(frames.Open, P2) == []
        assert not rig.stream(key).is_recruitable
        assert rig.session.wants.most() == 1

    @OPAQUE
    def test_a_standby_that_was_opened_before_the_first_bytes_goes_and_sees_none(self, rig: SessionRig, head: bytes):
        key, anchor, helper = rig.pair()
        rig.write(key, head)
        assert rig.hear_only(frames.Close, P2) == [frames.Close(helper, ErrorCode.NO_ERROR)]
        assert [frame.payload for frame in rig.hear_only(frames.Upstream, P1)] == [head]
        assert rig.hear_only(frames.Upstream, P2) == []
        assert not rig.stream(key).views[helper].is_usable
        assert rig.stream(key).views[anchor].is_usable

    @OPAQUE
    def test_a_head_that_comes_byte_by_byte_reaches_the_anchor_alone(self, rig: SessionRig, head: bytes):
        key, _, _ = rig.pair()
        for byte in head:
            rig.write(key, bytes([byte]))
        assert b"".join(frame.payload for frame in rig.hear_only(frames.Upstream, P1)) == head
        assert rig.hear_only(frames.Upstream, P2) == []

    def test_a_head_that_turns_out_open_reaches_everybody(self, rig: SessionRig):
        key, _, _ = rig.pair()
        rig.write(key, b"SSH")
        assert rig.hear_only(frames.Upstream, P2) == []
        rig.write(key, b"X")
        for path in (P1, P2):
            assert b"".join(frame.payload for frame in rig.hear_only(frames.Upstream, path)) == b"SSHX"

    def test_an_end_decides_too(self, rig: SessionRig):
        key, _, _ = rig.pair()
        rig.write(key, b"SS")
        rig.eof(key)
        assert b"".join(frame.payload for frame in rig.hear_only(frames.Upstream, P2)) == b"SS"

    @OPAQUE
    def test_the_death_of_its_server_is_its_reset(self, rig: SessionRig, head: bytes):
        key, _, _ = rig.pair()
        rig.write(key, head)
        rig.hear_all()
        rig.gone(P1, dead="a")
        failed = rig.failed(key)
        assert failed is not None
        assert failed.code == ErrorCode.SERVER_GONE
        assert rig.hear_only(frames.Upstream, P2) == []

    @OPAQUE
    def test_a_standby_may_take_over_before_anybody_saw_a_byte(self, rig: SessionRig, head: bytes):
        key, _, helper = rig.pair()
        rig.session.on_path_gone(P1, rig.now)
        rig.session.on_instance_dead(rig.stream(key).views[1].instance)  # type: ignore[arg-type]
        rig.write(key, head)
        (probe,) = rig.hear_only(frames.Probe, P2)
        assert rig.hear_only(frames.Upstream, P2) == []
        rig.answer(probe, P2)
        assert [frame.payload for frame in rig.hear_only(frames.Upstream, P2)] == [head]
        assert rig.stream(key).anchor is rig.stream(key).views[helper]

    @OPAQUE
    def test_a_path_that_is_lost_is_no_reset(self, rig: SessionRig, head: bytes):
        key, anchor, _ = rig.pair()
        rig.write(key, head)
        rig.hear_all()
        rig.gone(P1)
        rig.path(P1 + 10, "a")  # type: ignore[arg-type]
        assert rig.hear_only(frames.Attach, P1 + 10)[0].replica == anchor  # type: ignore[arg-type]
        assert rig.failed(key) is None

    @OPAQUE
    def test_what_the_anchor_has_received_is_kept_no_longer(self, rig: SessionRig, head: bytes):
        key, anchor = rig.live(P1)
        rig.write(key, head)
        rig.write(key, bytes(5000))
        rig.hear()
        end = rig.stream(key).log.end
        rig.tell(frames.UpstreamState(anchor, end, end, 1 << 20))
        assert rig.stream(key).log.held_bytes == 0
