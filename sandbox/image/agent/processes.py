"""The user's processes, as /proc shows them, and how to end them for good."""

import contextlib
import os
import signal
import time
from typing import NamedTuple

import limits

# A process that forks while its siblings are being killed is found in the next
# round. Killing that takes longer than this is a bomb faster than we are; the
# engine's limits are what holds then.
KILL_ROUNDS = 50
KILL_PAUSE = 0.01  # seconds between two rounds


class Process(NamedTuple):
    pid: int
    session: int
    memory: int  # bytes resident


def count():
    """How many processes there are, roughly."""
    return len(os.listdir("/proc"))


def of_user():
    """Every living process that runs as the user."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            # Not the owner of /proc/N: a process that isn't dumpable shows root.
            with open(f"/proc/{name}/status", "rb") as file:
                status = _fields(file.read())
            if int(status[b"Uid"].split()[0]) != limits.USER or status[b"State"][:1] == b"Z":
                continue
            resident = int(status.get(b"VmRSS", b"0").split()[0]) << 10
            found.append(Process(int(name), os.getsid(int(name)), resident))
        except (OSError, KeyError, ValueError):
            continue  # it ended meanwhile
    return found


def kill_all():
    """Kills every process but the agent, in one call."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)


def _fields(text):
    pairs = (line.split(b":", 1) for line in text.splitlines() if b":" in line)
    return {key: value.strip() for key, value in pairs}


def kill(choose):
    """Kills the user's processes that choose picks, until there is none left."""
    for _ in range(KILL_ROUNDS):
        chosen = [process for process in of_user() if choose(process)]
        if not chosen:
            return
        for process in chosen:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        # A blocking pause: nothing else may run before these are gone.
        time.sleep(KILL_PAUSE)
