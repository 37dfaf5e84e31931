"""The connection of a path with all short ways."""

from kwik.quic.fast_receive import FastReceive


class FastConnection(FastReceive):
    """What `PathConnection` is, with less work for ordinary packets."""
