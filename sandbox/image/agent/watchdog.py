"""Looks at the sandbox's memory and disk while a cell runs, and only then.

Memory is defended in steps, so that as much state as possible is kept: when it
gets short the kernel is asked to refuse itself more; at the limit, first what
the code has started beside the kernels is ended, if that is where the memory is
(the cell is then interrupted); then the running kernel; then every process of
the user, which is one system call. The engine's own limit is 256 MB higher and
ends the whole sandbox, so the looks have to come often: in 20 ms gVisor hands
out some 30 MB.
"""

import asyncio
import time

import processes

INTERVAL = 0.02  # seconds between two looks; one takes 0.3 ms under gVisor
DISK_EVERY = 25  # looks at memory to one at the disk
DISK_SLACK = 1 << 20  # bytes that a cell may add to a disk that is over its limit
SHORT = 0.65  # share of the memory from which on it is short
BESIDE = 32 << 20  # bytes beside the kernels that are worth ending for themselves
# So far over the limit, or with so many processes, there is no time for steps:
# telling processes apart takes a third of a millisecond each.
HEADLONG = 160 << 20
MANY = 60
# gVisor takes a moment to give back what a process had that was ended. Until
# then only memory that still grows is a reason to end another.
PATIENCE = 1.0  # seconds
GROWTH = 32 << 20  # bytes


class Watchdog:
    """Watches over one cell. stop(reason, words) is called when it has to act."""

    def __init__(self, limits, kernels, running, stop):
        self._limits, self._kernels, self._running = limits, kernels, running
        self._stop = stop
        self._steps = 0
        self._tightened = False
        self._disk_before = limits.disk_used()
        self._before = limits.memory_used()
        self._patient_until = 0.0
        if self._is_over(self._before):
            self._patient_until = time.monotonic() + PATIENCE
        self._task = asyncio.ensure_future(self._watch())

    async def end(self):
        """Ends the watch, once what it has ended has given its memory back."""
        self._task.cancel()
        give_up = time.monotonic() + PATIENCE
        while self._steps and time.monotonic() < give_up:
            if not self._is_over(self._limits.memory_used()):
                return
            await asyncio.sleep(INTERVAL)

    async def _watch(self):
        looks = 0
        while True:
            self._look_at_memory(self._limits.memory_used())
            if looks % DISK_EVERY == 0:
                self._look_at_disk(self._limits.disk_used())
            looks += 1
            await asyncio.sleep(INTERVAL)

    def _is_over(self, used):
        return 0 < self._limits.memory < used

    def _look_at_memory(self, used):
        if self._is_over(used):
            if time.monotonic() > self._patient_until or used > self._before + GROWTH:
                self._relieve(used)
                self._before = used
                self._patient_until = time.monotonic() + PATIENCE
        elif 0 < self._limits.memory * SHORT < used and not self._tightened:
            self._tightened = True
            self._running.tighten()

    def _look_at_disk(self, used):
        # A cell that makes room must be let run, however full the disk is.
        grown = used > self._disk_before + DISK_SLACK
        if self._limits.disk and used > self._limits.disk and grown:
            self._stop(
                "disk_full",
                f"the sandbox's files are {_mb(used)} MB, {_mb(self._limits.disk)} MB is the limit",
            )

    def _relieve(self, used):
        words = (
            f"the sandbox used {_mb(used)} MB of memory,"
            f" {_mb(self._limits.memory)} MB is the limit"
        )
        self._stop("out_of_memory", words)
        self._steps += 1
        headlong = used > self._limits.memory + HEADLONG or processes.count() > MANY
        if self._steps > 2 or headlong:
            processes.kill_all()
            return
        leaders = {kernel.session for kernel in self._kernels if kernel.running}
        if self._steps == 1:
            beside = sum(p.memory for p in processes.of_user() if p.pid not in leaders)
            if beside > BESIDE:
                processes.kill(lambda p: p.pid not in leaders)
                return
            self._steps = 2
        others = leaders - {self._running.session}
        processes.kill(lambda p: p.session not in others)


def _mb(size):
    return round(size / (1 << 20))
