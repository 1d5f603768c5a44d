"""stdout and stderr of the Python kernel, in the order written.

The stock streams are flushed each on its own clock, every 0.2 s, so lines of
the two trade places; a write takes 10 µs of looking up which request it
belongs to, of which there is only one here; what a subprocess or a library
writes straight to the descriptor may come in after the cell has ended, with
characters cut in two; and one lone surrogate loses all that waits with it.
"""

import codecs
import fcntl
import os
import select
import struct
import termios
import threading
import time

from ipykernel.iostream import OutStream
from jupyter_client.session import json_packer

READ = 64 << 10
# Characters that may wait to be sent. A write of more waits for them, so that
# a flood is held up in the program that makes it and nowhere else.
WAITING = 256 << 10
SETTLE = 0.25  # seconds that a cell's end waits for output that is in the pipe


class Stream(OutStream):
    flush_interval = 0.03

    # What waits to be sent, of both streams: (stream, pieces of text).
    _waiting = []
    _waiting_size = 0
    _lock = threading.RLock()
    # Held from a read of the pipe until what came is among what waits.
    _reading = threading.Lock()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._forked = False
        os.register_at_fork(after_in_child=self._note_fork)

    def write(self, string):
        if self._forked or not isinstance(string, str):
            return super().write(string)
        with self._lock:
            waiting = self._waiting
            if waiting and waiting[-1][0] is self:
                waiting[-1][1].append(string)
            else:
                waiting.append((self, [string]))
            Stream._waiting_size += len(string)
        if Stream._waiting_size > WAITING:
            self.flush()
        else:
            self._schedule_flush()
        return len(string)

    def flush(self):
        # What is on its way is ahead of all that is sent from now on.
        if self._forked or self._waiting:
            super().flush()

    def settle(self):
        """Returns once what is in the pipe has been read, or soon after."""
        give_up = time.monotonic() + SETTLE
        while self._in_pipe() and time.monotonic() < give_up:
            time.sleep(0.001)
        with self._reading:
            pass
        self.flush()

    def _flush(self):
        if self._forked:
            return super()._flush()
        self._flush_pending = False
        with self._lock:
            waiting = self._waiting[:]
            self._waiting.clear()
            Stream._waiting_size = 0
        for stream, pieces in waiting:
            text = "".join(pieces)
            for start in range(0, len(text), WAITING):
                content = {"name": stream.name, "text": text[start : start + WAITING]}
                message = self.session.msg("stream", content, parent={})
                self.session.send(self.pub_thread, message, ident=stream.topic)

    def _note_fork(self):
        self._forked = True

    def _in_pipe(self):
        return struct.unpack("i", fcntl.ioctl(self._fid, termios.FIONREAD, b"\0" * 4))[0]

    def _watch_pipe_fd(self):
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        try:
            while True:
                select.select([self._fid], [], [])
                with self._reading:
                    data = os.read(self._fid, READ)
                    if not data:
                        return
                    self.write(decoder.decode(data))
        except (OSError, ValueError):
            pass  # the kernel is ending


def pack(message):
    """Makes JSON of a message; what has no UTF-8 becomes a question mark."""
    try:
        return json_packer(message)
    except UnicodeEncodeError:
        return json_packer(_encodable(message))


def _encodable(value):
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(item) for item in value]
    return value
