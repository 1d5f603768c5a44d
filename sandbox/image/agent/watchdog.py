"""Looks at the sandbox's memory and disk while a cell runs, and only then.

Memory is defended in steps, so that as much state as possible is kept: when it
gets short the kernel is told to refuse itself more, and again each time half of
what was left then is gone; at the limit, first what the code has started beside
the kernels is ended, if that is where the memory is (the cell is then
interrupted); then the running kernel; then every process of the user, which is
one system call. The engine's own limit is 256 MB higher and ends the whole
sandbox, so the looks have to come often: in 20 ms gVisor hands out some 30 MB.

On a machine with too little time for everybody the looks come late, and memory
has grown by more than that. So it is short as soon as it would be full at the
rate at which it grows; and a kernel that is over the limit before it was ever
told to stop is told then, and given a moment, for it mostly obeys.
"""

import asyncio
import time

import processes

INTERVAL = 0.02  # seconds between two looks; one takes 0.3 ms under gVisor
FAST_INTERVAL = 0.005  # the same while memory grows
FAST = 4 << 20  # bytes from one look to the next that are growth
DISK_EVERY = 0.5  # seconds between two looks at the disk
DISK_SLACK = 1 << 20  # bytes that a cell may add to a disk that is over its limit
SHORT = 0.65  # share of the memory from which on it is short, whatever its growth
AHEAD = 0.5  # seconds of growth that must still have room, or memory is short
# A kernel that was told to stop only when it was over the limit.
GRACE = 0.2  # seconds until it is ended all the same
GRACE_MEMORY = 96 << 20  # bytes over the limit at which it is ended at once
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
        self._disk_before = limits.disk_used()
        self._last_look = time.monotonic()
        self._last_used = self._before = limits.memory_used()
        self._tighten_at = limits.memory * SHORT
        self._told = False  # whether the kernel was told to stop, and can
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
        look_at_disk = grown = 0  # it has just been looked at both
        while True:
            await asyncio.sleep(FAST_INTERVAL if grown > FAST else INTERVAL)
            grown = self._look_at_memory()
            if time.monotonic() >= look_at_disk:
                self._look_at_disk(self._limits.disk_used())
                look_at_disk = time.monotonic() + DISK_EVERY

    def _is_over(self, used):
        return 0 < self._limits.memory < used

    def _look_at_memory(self):
        """Does what has to be done, and returns by how much memory has grown."""
        used, now = self._limits.memory_used(), time.monotonic()
        grown = used - self._last_used
        rate = grown / max(now - self._last_look, FAST_INTERVAL)
        self._last_used, self._last_look = used, now
        if self._is_over(used):
            if now > self._patient_until or used > self._before + GROWTH:
                self._be_over(used, now)
        elif self._limits.memory and used + max(rate, 0) * AHEAD > self._tighten_at:
            self._tighten(used)
        return grown

    def _tighten(self, used):
        self._tighten_at = used + (self._limits.memory - used) / 2
        self._told = self._running.tighten()

    def _be_over(self, used, now):
        if not self._told and self._steps == 0 and used < self._limits.memory + GRACE_MEMORY:
            self._tighten(used)
            if self._told:
                self._before = self._limits.memory + GRACE_MEMORY - GROWTH
                self._patient_until = now + GRACE
                return
        self._relieve(used)
        self._before = used
        self._patient_until = now + PATIENCE

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
