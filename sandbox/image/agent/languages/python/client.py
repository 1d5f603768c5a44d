"""Python: ipykernel, started with the agent, so that it is up before the first cell.

It has no sockets of Jupyter's but one of a pair, see link.py.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys

from languages import Outcome, jupyter
from languages.python import packets

LAUNCHER = "/opt/threadbook/agent/languages/python/kernel.py"


LAST_PACKETS = 16  # that are read of a kernel that has ended; some three wait at most

# A new limit is worth the time of telling the kernel where it differs by this.
WORTH_IT = 32 << 20

# Run in the kernel, in a namespace of their own.
PRELOAD = "/opt/threadbook/agent/languages/python/preload.py"
RESEED = "/opt/threadbook/agent/languages/python/reseed.py"

MOST = f"{jupyter.CONNECTIONS}/most"  # bytes that the kernel may map

_ENVIRONMENT = {
    # glibc would keep 64 MB of address space for a thread, and take memory from
    # there where the limit on address space says that there is no more.
    "MALLOC_ARENA_MAX": "1",
    # plotly's own choice is a page of 9 MB in the cell; see plots.py.
    "PLOTLY_RENDERER": "plotly_mimetype",
}


class Python(jupyter.Kernel):
    def __init__(self, children, user_limits):
        super().__init__(children, user_limits)
        self._address_space = 0
        self._reseed = False
        self._socket = self._packets = None
        self._asked = 0

    environment = _ENVIRONMENT

    async def _open(self):
        self._address_space = 0
        self._reseed = False
        self._packets = packets.Joined(jupyter.MAX_MESSAGE)
        loop = asyncio.get_running_loop()
        self._up = loop.create_future()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            self._spawn([sys.executable, LAUNCHER, str(number)], pass_fds=(number,))
        self._socket.setblocking(False)
        loop.add_reader(self._socket, self._receive)
        await self._first(self._up)

    def _close(self):
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    async def _request(self, cell, code, silent):
        self._asked += 1
        cell.message = str(self._asked)
        request = json.dumps({"id": cell.message, "code": code, "silent": silent}).encode()
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # it has ended; that is told in its own way
            for packet in packets.cut(request):
                await loop.sock_sendall(self._socket, packet)

    def _receive(self):
        """Takes a packet. Not more: the time limits and the host have their turns too."""
        try:
            packet = self._socket.recv(packets.MAX_PACKET)
        except BlockingIOError:
            return False
        except OSError:
            packet = b""
        if not packet:
            # No process holds the other end: the kernel has ended, or has closed it.
            asyncio.get_running_loop().remove_reader(self._socket)
            if self.running:
                os.kill(self._child.pid, signal.SIGKILL)
            return False
        with contextlib.suppress(Exception):  # whatever the user's code may have made of it
            self._put(packet)
        return True

    def _put(self, packet):
        try:
            data = self._packets.add(packet)
        except packets.TooLarge:
            self._too_large()
            return
        for line in (data or b"").split(b"\n"):
            with contextlib.suppress(Exception):
                if line:
                    self._message(*json.loads(line))

    def _message(self, kind, of, content):
        if kind == "ready":
            self._up.set_result(None)
        elif kind != "reply":
            self._heard(kind, of, content)
        elif self._is_ours(of):
            self._cell.heard_end = True
            self._cell.reply(content)

    def _take(self):
        # A fork of it may go on sending.
        for _ in range(LAST_PACKETS):
            if not self._receive():
                return

    async def warm(self):
        """Loads the libraries that most cells use."""
        await self._run(_FILE.format(PRELOAD), None, silent=True)
        await self.prepare()

    def reseed(self):
        """Makes the next cell draw other random numbers than a copy of this kernel."""
        self._reseed = True

    def tighten(self):
        # What is left is measured here and now: the kernel may come to it late,
        # and then has taken some of it.
        try:
            most = self._limits.tight_address_space(self._child.pid)
        except OSError:
            return False  # it has just ended
        with open(MOST, "w") as file:
            file.write(str(most))
        self._address_space = 0
        # A signal that is ignored by default: code may have taken its handler.
        os.kill(self._child.pid, signal.SIGWINCH)
        return True

    def tidy(self, outcome):
        value = _CELL_FILE.sub("(line", outcome.value)
        traceback = re.sub(r"\n\n+", "\n", outcome.traceback)
        return outcome._replace(
            value=value, traceback=_OUR_FRAMES.sub("", traceback).strip("\n")
        )

    async def prepare(self):
        # The kernel starts before the limits are known, and may be restored
        # from an image made under others; nobody but itself may change them.
        code = []
        if self._limits.memory:
            wanted = self._limits.address_space(self._child.pid)
            if abs(wanted - self._address_space) >= WORTH_IT:
                self._address_space = wanted
                code.append(_LIMIT.format(wanted))
        if self._reseed:
            self._reseed = False
            code.append(_FILE.format(RESEED))
        if not code:
            return Outcome()
        return await self._run("\n".join(code), None, silent=True)


# A cell is no file, whatever it is called in a SyntaxError.
_CELL_FILE = re.compile(r"\(\d+\.py, line")

# What runs the cell, and what stands in for input(), is no part of it.
_OUR_FRAMES = re.compile(r"^  File (?:\S*/(?:IPython|ipykernel)/|/opt/threadbook/).*\n(?:    .*\n)*", re.M)

_LIMIT = "(lambda r: r.setrlimit(r.RLIMIT_AS, ({}, r.RLIM_INFINITY)))(__import__('resource'))"

_FILE = "exec(compile(open({0!r}).read(), {0!r}, 'exec'), {{}})"
