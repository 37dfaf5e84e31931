"""The connection of a path with all short ways."""

from kwik.quic.fast_send import FastSend


class FastConnection(FastSend):
    """What `PathConnection` is, with less work for ordinary packets."""
