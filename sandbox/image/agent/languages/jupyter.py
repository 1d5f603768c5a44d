"""A kernel that speaks Jupyter's protocol: its process, one cell at a time, its messages.

How the messages come and go is the subclasses': zeromq.py has Jupyter's own way,
languages/python a shorter one.

There is no heartbeat: the death of the process says all that a heartbeat would,
and costs nothing while idle.

A kernel's messages come from the user's code as much as from the kernel, so
they are believed only as far as they concern that code's own output.
"""

import asyncio
import collections
import os
import subprocess

from children import how_it_ended
from languages import Died, NotStarted, Outcome
from languages.program import Program

START_TIMEOUT = 20.0  # seconds from the process to its first answer
# A cell has ended when the kernel has both answered and said that it is idle.
# An interrupt at the wrong moment, or a message over MAX_MESSAGE, costs one of
# the two; the other then counts after this long a silence.
SETTLE = 2.0
# The most that is taken in. The kernels of sandbox/image send no larger message;
# code can, and is told that it is lost.
MAX_MESSAGE = 64 << 20
MAX_LATE = 16 << 10  # characters kept of what comes when no cell runs

CONNECTIONS = "/run/threadbook"


class Kernel(Program):
    """A kernel. Subclasses say how to start it, and how to reach it."""

    environment = {}  # beside the agent's
    straggling = 0.0  # seconds that a cell's value may come after the cell's end

    def __init__(self, children, user_limits):
        super().__init__(children, user_limits)
        self._starting = None
        self._cell = None  # what runs now
        self._late = collections.deque(maxlen=64)

    async def _open(self):
        """Starts the process and returns once it can take a cell; raises NotStarted."""
        raise NotImplementedError

    def _close(self):
        """Lets go of a process that has ended, or is to."""
        raise NotImplementedError

    async def _request(self, cell, code, silent):
        """Has the kernel run code; the cell's message is then the request's id."""
        raise NotImplementedError

    def _take(self):
        """Takes what a kernel that has ended had still sent."""

    def _not_heard(self):
        """A cell's end was lost, and maybe other messages."""

    async def prepare(self):
        """Called before each cell, with the kernel up; may run code of its own."""
        return Outcome()

    def tidy(self, outcome):
        """Leaves of an error what is of use to who wrote the cell."""
        return outcome

    def begin(self):
        """Starts the process and lets it get ready in the background."""
        self._starting = asyncio.ensure_future(self._start())
        # ready() tells what went wrong; until then nobody need be told.
        self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def ready(self):
        if self._starting is None or (self._starting.done() and not self.running):
            self.begin()
        await asyncio.shield(self._starting)

    async def execute(self, code, sink):
        outcome = await self.prepare()
        if outcome.name:
            return outcome  # interrupted before it began
        for stream, piece in self._late:
            sink.write(stream, piece)
        self._late.clear()
        return await self._run(code, sink, silent=False)

    async def _run(self, code, sink, *, silent):
        cell = self._cell = _Cell(sink, self.straggling)
        try:
            await self._request(cell, code, silent)
            await self._either(cell.ended)
            if not cell.ended.done():
                self._take()
                raise Died(self._child.ended.result())
            if not cell.heard_end:
                self._not_heard()
            return self.tidy(cell.outcome)
        finally:
            self._cell = None
            cell.cancel()

    # Starting.

    async def _start(self):
        self._close()
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._open()
        except TimeoutError:
            self.kill()
            raise NotStarted(f"it was not up after {START_TIMEOUT:.0f} s") from None
        self._late.clear()  # remarks of its start

    def _spawn(self, argv, **options):
        super()._spawn(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/workspace",
            env={**os.environ, **self.environment},
            **options,
        )

    async def _first(self, sign, timeout=None):
        """Waits for a sign of life, or of death."""
        await self._either(sign, timeout)
        if self._child.ended.done():
            raise NotStarted(f"it {how_it_ended(self._child.ended.result())}")

    # Messages.

    def _too_large(self):
        if self._cell is not None and self._cell.sink is not None:
            self._cell.sink.write("stderr", "[output was too large to be passed on, and is lost]\n")

    def _is_ours(self, of):
        return self._cell is not None and of == self._cell.message

    def _heard(self, kind, of, content):
        """Takes a message that is not the answer to a request."""
        cell = self._cell
        if cell is None:
            # A thread of an earlier cell: shown with the next one.
            if kind == "stream" and sum(len(piece) for _, piece in self._late) < MAX_LATE:
                self._late.append((_stream(content), content["text"][:MAX_LATE]))
            return
        cell.heard(kind)
        ours = self._is_ours(of)
        if kind == "status" and ours and content["execution_state"] == "idle":
            cell.idle()
        elif kind == "error" and ours:
            cell.failed(content)
        elif cell.sink is not None:
            self._output(cell.sink, kind, content)

    @staticmethod
    def _output(sink, kind, content):
        if kind == "stream":
            sink.write(_stream(content), content["text"])
        elif kind in ("display_data", "execute_result", "update_display_data"):
            name = content.get("transient", {}).get("display_id")
            sink.display(content["data"], name, update=kind == "update_display_data")
        elif kind == "clear_output":
            sink.clear(wait=bool(content.get("wait")))


class _Cell:
    """A cell that is running: what the kernel has said of it so far."""

    def __init__(self, sink, straggling):
        self.sink, self._straggling = sink, straggling
        self.message = None
        self.outcome = Outcome()
        self.ended = asyncio.get_running_loop().create_future()
        self.heard_end = self._replied = False
        self._timer = None

    def reply(self, content):
        if content.get("status") == "error":
            self.failed(content)
        for page in content.get("payload", ()):
            if page.get("source") == "page" and self.sink is not None:
                self.sink.write("stdout", page["data"]["text/plain"] + "\n")
        self._replied = True
        self._settle()

    def idle(self):
        self.heard_end = True
        self._settle()

    def heard(self, kind):
        if kind == "execute_result":
            self._straggling = 0.0  # the last there is to come
        if self._timer is not None:
            self._settle()

    def failed(self, content):
        self._straggling = 0.0
        self.outcome = Outcome(
            str(content["ename"]), str(content["evalue"]), "\n".join(content["traceback"])
        )

    def cancel(self):
        if self._timer is not None:
            self._timer.cancel()

    def _settle(self):
        self.cancel()
        wait = self._straggling if self.heard_end and self._replied else SETTLE
        if wait:
            self._timer = asyncio.get_running_loop().call_later(wait, self._end)
        else:
            self._end()

    def _end(self):
        if not self.ended.done():
            self.ended.set_result(None)


def _stream(content):
    return "stderr" if content["name"] == "stderr" else "stdout"
