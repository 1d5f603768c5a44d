"""stdout and stderr of the Python kernel, in the order written.

The stock streams are flushed each on its own clock, every 0.2 s, so lines of
the two trade places; a write takes 10 µs of looking up which request it
belongs to, of which there is only one here; what a subprocess or a library
writes straight to the descriptor may come in after the cell has ended, with
characters cut in two; and one lone surrogate loses all that waits with it.
"""

import codecs
import fcntl
import io
import os
import select
import struct
import termios
import threading
import time

READ = 64 << 10
SETTLE = 0.25  # seconds that a cell's end waits for output that is in the pipe


class Stream(io.TextIOBase):
    """Called by ipykernel as its own OutStream would be."""

    encoding = "UTF-8"
    errors = "replace"

    # Held from a read of the pipe until what came is among what waits.
    _reading = threading.Lock()

    def __init__(self, session, _, name, echo=None):
        super().__init__()
        self.name = name
        self._link = session.link
        self._descriptor = {"stdout": 1, "stderr": 2}[name]
        self._pipe, end = os.pipe()
        os.dup2(end, self._descriptor)
        os.close(end)
        threading.Thread(target=self._watch_pipe, name=name, daemon=True).start()

    def fileno(self):
        return self._descriptor

    def writable(self):
        return True

    def write(self, string):
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string)}")
        self._link.write(self.name, string)
        return len(string)

    def flush(self):
        # What is on its way is ahead of all that is sent from now on.
        self._link.flush()

    def settle(self):
        """Returns once what is in the pipe has been read, or soon after."""
        if self._link.forked:
            return  # it is the kernel that reads it
        give_up = time.monotonic() + SETTLE
        while self._in_pipe() and time.monotonic() < give_up:
            time.sleep(0.001)
        with self._reading:
            pass

    def _in_pipe(self):
        return struct.unpack("i", fcntl.ioctl(self._pipe, termios.FIONREAD, b"\0" * 4))[0]

    def _watch_pipe(self):
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        try:
            while True:
                select.select([self._pipe], [], [])
                with self._reading:
                    data = os.read(self._pipe, READ)
                    if not data:
                        return
                    self.write(decoder.decode(data))
        except (OSError, ValueError):
            pass  # the kernel is ending
