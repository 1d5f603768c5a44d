"""Processes the agent starts, and all the others it inherits.

The agent is process 1 of the sandbox, so every orphan of the user's code
becomes its child and must be reaped. That is why it waits for children itself
instead of through asyncio: two waiters would steal from each other. A death is
known the moment the signal comes; nothing polls.
"""

import asyncio
import os
import signal
import subprocess


class Child:
    """A process of ours. ended resolves to its exit status, as Popen has it."""

    def __init__(self, process):
        self.process = process
        self.pid = process.pid
        self.ended = asyncio.get_running_loop().create_future()

    def signal_group(self, number):
        """Signals the process and what it started, while it lives."""
        if not self.ended.done():
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass  # it died just now; the reaper will say so


class Children:
    def __init__(self):
        self._ours = {}
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def spawn(self, argv, prepare, **options):
        """Starts a program at the head of a session of its own.

        prepare runs in the child before the program does. Descriptors are
        closed but for those in the options, which are Popen's.
        """
        process = subprocess.Popen(
            argv, preexec_fn=prepare, start_new_session=True, close_fds=True, **options
        )
        child = Child(process)
        self._ours[child.pid] = child
        return child

    def _reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._ours.pop(pid, None)
            if child is not None:
                code = os.waitstatus_to_exitcode(status)
                child.process.returncode = code
                child.ended.set_result(code)


def how_it_ended(code):
    """An exit status in words."""
    if code >= 0:
        return f"exited with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}"
