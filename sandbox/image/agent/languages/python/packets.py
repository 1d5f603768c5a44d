"""What goes between the agent and the Python kernel: JSON, over a pair of sockets.

The sockets keep packets whole and in order, whoever sends, so a fork of the
kernel can send over the one that it inherits. What is longer than a packet is
cut; each piece says whose it is and whether more follow.

Both ends use this, the agent as languages.python.packets.
"""

import os
import struct

PACKET = 60 << 10  # bytes; some three fit into the buffer of the socket

_HEAD = struct.Struct("<I?")  # the sender's process, and whether more follows
MAX_PACKET = PACKET + _HEAD.size


class TooLarge(Exception):
    """More than can be put together; it is dropped."""


def cut(data):
    """The packets for some bytes."""
    pid = os.getpid()
    for start in range(0, max(len(data), 1), PACKET):
        more = start + PACKET < len(data)
        yield _HEAD.pack(pid, more) + data[start : start + PACKET]


class Joined:
    """Puts packets together again, holding at most so many bytes that wait for more."""

    def __init__(self, most):
        self._most = most
        self._parts = {}  # by sender
        self._size = 0

    def add(self, packet):
        """Takes a packet. Returns the bytes that it completes, or None."""
        sender, more = _HEAD.unpack_from(packet)
        piece = packet[_HEAD.size :]
        if not more and sender not in self._parts:
            return piece
        self._size += len(piece)
        parts = self._parts.setdefault(sender, [])
        parts.append(piece)
        if self._size > self._most:
            self._parts.clear()
            self._size = 0
            raise TooLarge
        if more:
            return None
        del self._parts[sender]
        self._size -= sum(map(len, parts))
        return b"".join(parts)
