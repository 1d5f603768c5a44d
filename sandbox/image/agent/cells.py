"""One cell at a time: when it may start, when it must stop, how it ended.

A cell is run once. The host names it by a number that rises in the thread, and
asking for the same number again means following it, not running it.

Time: at the limit the code is interrupted, which nearly always ends it with
its state kept. Code that catches that gets FIRST_GRACE to tidy up, and a
second interrupt; after SECOND_GRACE its kernel is killed. If even that doesn't
end it, the host ends the container.
"""

import asyncio
import time
import traceback

import processes
import text
from children import how_it_ended
from languages import Died, NotStarted, Outcome
from sink import Sink
from watchdog import Watchdog

FIRST_GRACE = 2.0  # seconds from the first interrupt to the second
SECOND_GRACE = 3.0  # from the second to the end of the kernel

MAX_NAME = 200  # characters of an error's name
MAX_VALUE = 4_000  # and of its message
MAX_TRACEBACK = 8_000  # and of its traceback, half of them from each end

# How a language says that the sandbox's disk, or its memory, is full.
_NO_MEMORY = ("[Errno 12]", "failed to map segment from shared object")
_NO_SPACE = ("[Errno 28]", "[Errno 122]", "[Errno 27]", "No space left on device")


class Refused(Exception):
    """A cell that can't be run; code is a word of the protocol."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Cells:
    def __init__(self, outbox, kernels, limits):
        self._outbox, self._kernels, self._limits = outbox, kernels, limits
        self._used = set()  # kernels that have state of the thread's
        self._cell = None  # the last one
        self.last = 0

    @property
    def running(self):
        return self._cell is not None and not self._cell.done

    def knows(self, number):
        return number == self.last

    def must_have(self, language):
        """Refuses a language that the image is without."""
        if language not in self._kernels:
            raise Refused("no_language", f"it has {', '.join(self._kernels)}")

    async def admit(self, number):
        """Returns once a new cell may start."""
        if number <= self.last:
            raise Refused("stale_cell", f"cell {self.last} has been run since")
        if self.running:
            if not self._cell.stopping:
                raise Refused("busy", f"cell {self.last} is still running")
            await asyncio.wait((self._cell.task,))

    def start(self, number, language, code, seconds):
        self.last = number
        self._outbox.begin()
        self._cell = _Cell(
            number, language, seconds, self._outbox, self._kernels, self._limits, self._used
        )
        self._cell.begin(code)

    async def warm(self):
        """Returns once a first cell of Python would take the least time."""
        try:
            await self._kernels["python"].ready()
            await self._kernels["python"].warm()
        except (Died, NotStarted) as err:
            raise Refused("failed", f"python: {err}") from None

    def reseed(self):
        """Makes the numbers drawn here differ from those of other copies of this sandbox."""
        self._kernels["python"].reseed()

    def interrupt(self):
        if self.running:
            self._cell.stop("interrupted", "the cell was interrupted")

    async def reset(self):
        """Ends every process of the user's, and the running cell with them."""
        if self.running:
            self._cell.stop("interrupted", "the sandbox was reset")
        processes.kill(lambda process: True)
        for kernel in self._kernels.values():
            await kernel.gone()
        if self._cell is not None:
            await asyncio.wait((self._cell.task,))
        self._used.clear()
        self._kernels["python"].begin()


class _Cell:
    def __init__(self, number, language, seconds, outbox, kernels, limits, used):
        self._number, self._language, self._seconds = number, language, seconds
        self._outbox, self._kernels, self._limits = outbox, kernels, limits
        self._used = used
        self._kernel = kernels[language]
        self._sink = Sink(number, self._emit, self._flooded)
        self._reason = self._words = ""
        self._executing = False
        self._ladder = None
        self._oom_kills = limits.oom_kills()
        self.task = None

    def begin(self, code):
        self.task = asyncio.ensure_future(self._guarded(code))

    @property
    def done(self):
        return self.task.done()

    @property
    def stopping(self):
        return bool(self._reason)

    def stop(self, reason, words):
        """Makes the code end, for a reason that becomes the cell's status."""
        if self._reason:
            return
        self._reason, self._words = reason, words
        if self._executing:
            self._ladder = asyncio.ensure_future(self._climb())

    async def _climb(self):
        self._kernel.interrupt()
        await asyncio.sleep(FIRST_GRACE)
        self._kernel.interrupt()
        await asyncio.sleep(SECOND_GRACE)
        self._kernel.kill()

    def _flooded(self):
        self.stop("flood", "the code wrote more output than is kept, and was stopped")

    async def _guarded(self, code):
        """Sees to it that a cell ends, even where the agent is wrong."""
        try:
            await self._run(code)
        except Exception:
            traceback.print_exc()
            error = _error("AgentError", "the sandbox's agent failed; this is a fault of threadbook")
            self._finish("kernel_died", 0.0, not self._kernel.running, error)

    async def _run(self, code):
        started, ended = time.monotonic(), None
        lost = self._tell_loss()
        try:
            await self._make_ready()
            started = time.monotonic()
            if not self._reason:
                ended = await self._execute(code)
        except (Died, NotStarted) as err:
            ended = err
        lost = lost or not self._kernel.running
        if not self._kernel.running:
            self._used.discard(self._kernel)
        self._sink.close()
        status, error = self._verdict(ended)
        self._finish(status, time.monotonic() - started, lost, error)

    def _finish(self, status, seconds, lost, error):
        self._emit(
            {
                "event": "finished",
                "status": status,
                "seconds": round(seconds, 4),
                "lost": lost,
                "raised": error,
            },
            None,
            last=True,
        )

    async def _make_ready(self):
        try:
            await self._kernel.ready()
        except NotStarted:
            # Processes that earlier cells left behind may hold the last place.
            sessions = {kernel.session for kernel in self._kernels.values()}
            processes.kill(lambda process: process.session not in sessions)
            await self._kernel.ready()

    async def _execute(self, code):
        self._used.add(self._kernel)
        self._executing = True
        watchdog = Watchdog(self._limits, self._kernels.values(), self._kernel, self.stop)
        timer = asyncio.get_running_loop().call_later(self._seconds, self._timed_out)
        try:
            return await self._kernel.execute(code, self._sink)
        finally:
            self._executing = False
            timer.cancel()
            if self._ladder is not None:
                self._ladder.cancel()
            await watchdog.end()

    def _timed_out(self):
        self.stop("timeout", f"the cell ran longer than {self._seconds:g} s")

    def _tell_loss(self):
        """Says that the kernel ended between two cells, if it did."""
        if self._kernel not in self._used or self._kernel.running:
            return False
        self._used.discard(self._kernel)
        self._sink.write(
            "stderr", f"[{self._language} has ended since the last cell; its variables are lost]\n"
        )
        return True

    def _verdict(self, ended):
        """The status of a cell and its error."""
        if isinstance(ended, NotStarted) and not self._reason:
            return "kernel_died", _error("KernelDied", f"{self._language} did not start: {ended}")
        if isinstance(ended, Died):
            return self._verdict_of_death(ended)
        outcome = ended if isinstance(ended, Outcome) else Outcome()
        if self._reason == "flood":
            return "error", _error("OutputTooLarge", self._words, outcome.traceback)
        if self._reason:
            name = "".join(word.title() for word in self._reason.split("_"))
            return self._reason, _error(name, self._words, outcome.traceback)
        if not outcome.name:
            return "ok", None
        error = _error(*outcome)
        if outcome.name.endswith("MemoryError") or any(mark in outcome.value for mark in _NO_MEMORY):
            error["value"] = error["value"] or f"the limit is {self._limits.memory >> 20} MB"
            return "out_of_memory", error
        if self._sink.no_space or any(mark in outcome.value for mark in _NO_SPACE):
            return "disk_full", error
        return "error", error

    def _verdict_of_death(self, death):
        words = f"{self._language} {how_it_ended(death.code)}"
        if self._reason:
            status = "error" if self._reason == "flood" else self._reason
            return status, _error("KernelKilled", f"{self._words}; {words}")
        if self._limits.oom_kills() > self._oom_kills:
            return "out_of_memory", _error("OutOfMemory", f"{words}: no memory was left")
        return "kernel_died", _error("KernelDied", words)

    def _emit(self, fields, payload, *, last=False):
        self._outbox.event({"cell": self._number, **fields}, payload, last=last)


def _error(name, value, trace=""):
    trace = text.plain(trace)
    if len(trace) > MAX_TRACEBACK:
        half = MAX_TRACEBACK // 2
        trace = f"{trace[:half]}\n[...]\n{trace[-half:]}"
    return {
        "name": text.plain(name)[:MAX_NAME],
        "value": text.plain(value)[:MAX_VALUE],
        "traceback": trace,
    }
