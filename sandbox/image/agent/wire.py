"""Lines on the attached stdio: how bytes become requests, and answers bytes.

A line is a JSON object, optionally a TAB and the base64 of a payload, then LF.
A raw TAB can't occur inside JSON, so both sides find the payload with one
search, and bulk bytes never pass through a JSON parser.

Nothing here blocks. Reading is driven by the event loop; writing keeps what
the pipe doesn't take, so a host that has stopped reading stalls neither the
time limits nor the watchdog. Lines that come of one thing, such as the value of
a cell and its end, go out in one write: each costs the engine and the host more
than it costs here.
"""

import asyncio
import base64
import binascii
import collections
import itertools
import json
import os

MAX_LINE = 2 << 20  # bytes, both ways; the longest line is a payload of CHUNK
CHUNK = 512 << 10  # bytes of payload in a line
READ = 1 << 20
TOGETHER = 64  # lines in a write
AHEAD = 2  # lines that may wait to be written before a sender of many pauses


class Malformed(Exception):
    """A line that is not one of ours."""


def encode(fields, payload=None):
    """Makes one line."""
    line = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    # Lone surrogates (file names, broken strings) have no UTF-8.
    line = line.encode("utf-8", "replace")
    if payload is None:
        return line + b"\n"
    return b"".join((line, b"\t", base64.b64encode(payload), b"\n"))


def decode(line):
    """Takes a line apart: its fields and its payload, or None for none."""
    head, tab, body = line.partition(b"\t")
    try:
        fields = json.loads(head)
        payload = binascii.a2b_base64(body, strict_mode=True) if tab else None
    except (ValueError, RecursionError) as err:
        raise Malformed(str(err)) from None
    if not isinstance(fields, dict):
        raise Malformed("not an object")
    return fields, payload


class Reader:
    """Calls on_line for each line of a descriptor, and on_end at its end.

    A line over MAX_LINE is dropped whole. An empty line is nothing: a new
    client sends one first, which ends whatever half line a predecessor left.
    """

    def __init__(self, fd, on_line, on_end):
        self._fd, self._on_line, self._on_end = fd, on_line, on_end
        self._buffer = bytearray()
        self._searched = 0
        self._dropping = False
        os.set_blocking(fd, False)
        asyncio.get_running_loop().add_reader(fd, self._ready)

    def _ready(self):
        try:
            data = os.read(self._fd, READ)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._on_end()
            return
        self._buffer += data
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            line = bytes(memoryview(self._buffer)[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            if self._dropping:
                self._dropping = False
            elif line:
                self._on_line(line)
        self._searched = len(self._buffer)
        if self._searched > MAX_LINE:
            self._buffer.clear()
            self._searched = 0
            self._dropping = True


class Writer:
    """Writes whole lines, in order, keeping what the descriptor can't take."""

    def __init__(self, fd):
        self._fd = fd
        self._lines = collections.deque()
        self._written = 0  # bytes of the first line that are out already
        self._soon = False  # whether what waits is written in a moment
        self._waiting = False  # or once the descriptor takes more
        self._drained = asyncio.Event()
        self._drained.set()
        os.set_blocking(fd, False)

    def write(self, line):
        self._lines.append(line)
        if len(self._lines) > AHEAD:
            self._drained.clear()
        if not self._waiting and not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._ready)

    def forget(self):
        """Drops what hasn't begun to go out: it was for a client that is gone."""
        keep = 1 if self._written else 0
        while len(self._lines) > keep:
            self._lines.pop()
        self._drained.set()

    async def drain(self):
        """Returns once little enough is waiting to be written."""
        await self._drained.wait()

    def _ready(self):
        self._soon = False
        while self._lines:
            views = list(map(memoryview, itertools.islice(self._lines, TOGETHER)))
            views[0] = views[0][self._written :]
            try:
                self._written += os.writev(self._fd, views)
            except BlockingIOError:
                break
            while self._lines and self._written >= len(self._lines[0]):
                self._written -= len(self._lines.popleft())
        if len(self._lines) <= AHEAD:
            self._drained.set()
        self._wait(bool(self._lines))

    def _wait(self, waiting):
        if waiting == self._waiting:
            return
        self._waiting = waiting
        loop = asyncio.get_running_loop()
        if waiting:
            loop.add_writer(self._fd, self._ready)
        else:
            loop.remove_writer(self._fd)
