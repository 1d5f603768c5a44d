"""SQL: DuckDB, in a program of its own (sandbox/image/sql), driven over pipes.

A cell goes to its stdin as a line of JSON, and what it shows comes back as such
lines over a descriptor that is neither stdout nor stderr, for SQL can write
to these: COPY … TO '/dev/stdout'. What comes there is output like any other.

The thread's tables are in a file, so they outlive the process, and a kernel
that had to be killed costs only what was temporary. They go with a reset, like
the variables of other languages. The file is not among those of the
workspace, unless that is the only place there is room: on runc the rest of the
sandbox is read-only.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil

import files
import limits
import wire
from languages import Died, NotStarted, Outcome
from languages.program import Program, Streams

PROGRAM = "/usr/local/bin/threadbook-sql"

HOMES = ("/var/lib/threadbook-sql", f"{files.WORKSPACE}/{files.TEMPORARY}sql")

# DuckDB's share of the memory that is left. It counts the large pieces, and
# aggregates have many small ones. What is over it goes to disk.
SHARE = 0.6

class Sql(Program):
    _pipes = None
    _restarted = False

    async def ready(self):
        if not self.running:
            self._restarted = self._child is not None
            self._start()

    async def execute(self, code, sink):
        if self._restarted:
            self._restarted = False
            sink.write("stderr", "[the tables are still there; what was temporary is gone]\n")
        cell = _Cell(self._pipes, sink)
        try:
            self._pipes.send({"code": code, "memory": self._memory(), "word": cell.word})
            await self._either(cell.ended)
        finally:
            cell.close()
        if cell.ended.done():
            return cell.ended.result()
        raise Died(self._child.ended.result())

    async def gone(self):
        await super().gone()
        self._child = None
        for home in HOMES:
            with contextlib.suppress(OSError):
                for name in os.listdir(home):
                    _remove(f"{home}/{name}")

    def _memory(self):
        """How much DuckDB may use in this cell; 0 for as much as it likes."""
        if not self._limits.memory:
            return 0
        with open(f"/proc/{self._child.pid}/statm", "rb") as file:
            resident = int(file.read().split()[1]) * limits.PAGE
        return int((self._limits.room() + resident) * SHARE)

    def _start(self):
        if self._pipes is not None:
            self._pipes.close()
        self._pipes = _Pipes()
        self._spawn(
            [PROGRAM, "kernel", str(self._pipes.events_in), f"{_home()}/tables.duckdb"],
            stdin=self._pipes.requests_out,
            stdout=self._pipes.stdout_in,
            stderr=self._pipes.stderr_in,
            pass_fds=(self._pipes.events_in,),
            cwd=files.WORKSPACE,
        )


def _home():
    """The folder of the tables: the first that can be written to."""
    for home in HOMES:
        try:
            os.makedirs(home, mode=0o700, exist_ok=True)
            os.chown(home, limits.USER, limits.USER)
            return home
        except OSError:
            continue  # a file system that is read-only
    raise NotStarted("there is no place for the tables")


def _remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)


class _Pipes:
    """The pipes between the agent and the program."""

    def __init__(self):
        self.requests_out, self._requests = os.pipe()
        self.stdout, self.stdout_in = os.pipe()
        self.stderr, self.stderr_in = os.pipe()
        self.events, self.events_in = os.pipe()
        # Opened by name, as /dev/stdout, they are opened with the user's rights.
        for fd in (self.stdout_in, self.stderr_in):
            os.fchown(fd, limits.USER, limits.USER)
        self._writer = wire.Writer(self._requests)

    def send(self, request):
        with contextlib.suppress(BrokenPipeError):  # its end is known by the exit
            self._writer.write(json.dumps(request).encode() + b"\n")

    def close(self):
        asyncio.get_running_loop().remove_writer(self._requests)
        for fd in (
            *(self.requests_out, self._requests),
            *(self.stdout, self.stdout_in),
            *(self.stderr, self.stderr_in),
            *(self.events, self.events_in),
        ):
            os.close(fd)


class _Cell:
    """A cell that is running: takes what it shows, and how it ends."""

    def __init__(self, pipes, sink):
        self.word = secrets.token_hex(16)  # nobody else can say that it ended
        self.ended = asyncio.get_running_loop().create_future()
        self._pipes, self._sink = pipes, sink
        self._streams = Streams(pipes.stdout, pipes.stderr, sink)
        wire.Reader(pipes.events, self._event, lambda: None)

    def close(self):
        asyncio.get_running_loop().remove_reader(self._pipes.events)
        self._streams.close()

    def _event(self, line):
        try:
            self._take(json.loads(line))
        except Exception:
            pass  # the code itself wrote it, into a descriptor it had no business with

    def _take(self, event):
        if event.get("text"):
            self._sink.write("stdout", event["text"])
        if event.get("data"):
            self._sink.display(event["data"])
        if event.get("end") == self.word and not self.ended.done():
            fail = event.get("fail") or {}
            self.ended.set_result(
                Outcome(*(str(fail.get(key, "")) for key in ("name", "value", "traceback")))
            )
