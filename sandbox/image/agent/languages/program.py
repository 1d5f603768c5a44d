"""What is the same about the program of every kernel: its life and its pipes."""

import asyncio
import codecs
import contextlib
import os
import signal
import subprocess

import processes
from languages import NotStarted

READ = 256 << 10
MAX_PIPE = 1 << 20  # the most that a pipe can be made to hold


class Program:
    """A kernel's process, as languages has it of kernels; subclasses start it."""

    def __init__(self, children, user_limits):
        self._children, self._limits = children, user_limits
        self._child = None

    @property
    def running(self):
        return self._child is not None and not self._child.ended.done()

    @property
    def session(self):
        return self._child.pid if self.running else None

    def confine(self):
        """Makes the calling process the user's. For a child, before its exec."""
        self._limits.confine()

    def interrupt(self):
        self._child.signal_group(signal.SIGINT)

    def tighten(self):
        return False

    async def gone(self):
        if self._child is not None:
            await asyncio.wait((self._child.ended,))

    def kill(self):
        if self.running:
            session = self._child.pid
            self._child.signal_group(signal.SIGKILL)
            processes.kill(lambda process: process.session == session)

    def _spawn(self, argv, **options):
        try:
            self._child = self._children.spawn(argv, self.confine, **options)
        except (OSError, subprocess.SubprocessError) as err:
            raise NotStarted(str(err)) from None

    async def _either(self, future, timeout=None):
        """Waits for a future or the process's end, and no longer than timeout."""
        await asyncio.wait(
            (future, self._child.ended), timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )


class Streams:
    """A program's stdout and stderr, which are a cell's output until close."""

    def __init__(self, stdout, stderr, sink):
        self._sink = sink
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {
            stdout: ("stdout", decoder("replace")),
            stderr: ("stderr", decoder("replace")),
        }
        for fd in self._decoders:
            os.set_blocking(fd, False)
            asyncio.get_running_loop().add_reader(fd, self._read, fd)

    def close(self):
        for fd, (stream, decoder) in self._decoders.items():
            asyncio.get_running_loop().remove_reader(fd)
            # What the cell wrote before it ended is in the pipe by now. One
            # read takes it all, and a job that never stops can't hold us.
            self._read(fd, MAX_PIPE)
            self._sink.write(stream, decoder.decode(b"", final=True))

    def _read(self, fd, most=READ):
        with contextlib.suppress(BlockingIOError):
            stream, decoder = self._decoders[fd]
            self._sink.write(stream, decoder.decode(os.read(fd, most)))
