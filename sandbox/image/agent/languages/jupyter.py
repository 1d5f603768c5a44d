"""Drives a Jupyter kernel: its process, its sockets, one cell at a time.

The transport is ipc, in a folder of the user's, so that no port is open and
nothing depends on a network; it is tcp for a kernel that knows nothing else.
There is no heartbeat: the death of the process says all that a heartbeat would,
and costs nothing while idle.

A kernel's messages come from the user's code as much as from the kernel, so
they are believed only as far as they concern that code's own output.
"""

import asyncio
import collections
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile

import limits
import processes
from children import how_it_ended
from languages import Died, NotStarted, Outcome

START_TIMEOUT = 20.0  # seconds from the process to its first answer
RESEND_EVERY = 0.03  # seconds between questions to a kernel that isn't heard yet
# A cell has ended when the kernel has both answered and said that it is idle.
# An interrupt at the wrong moment, or a message over MAX_MESSAGE, costs one of
# the two; the other then counts after this long a silence.
SETTLE = 2.0
# A larger message cuts the connection for good, before it is in memory. The
# kernels of sandbox/image send none; code can.
MAX_MESSAGE = 64 << 20
MAX_WAITING = 100  # messages; after that the kernel has to wait
MAX_LATE = 16 << 10  # characters kept of what comes when no cell runs

CONNECTIONS = "/run/threadbook"

_PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")


class Kernel:
    """A Jupyter kernel. Subclasses say how to start it."""

    environment = {}  # beside the agent's
    transport = "ipc"
    straggling = 0.0  # seconds that a cell's value may come after the cell's end

    def __init__(self, children, user_limits):
        self._children, self._limits = children, user_limits
        self._child = self._client = None
        self._shell = self._answers = self._broadcasts = None
        self._starting = None
        self._cell = None  # what runs now
        self._late = collections.deque(maxlen=64)

    def command(self, connection_file):
        raise NotImplementedError

    def confine(self):
        """Makes the calling process the user's. For a child, before its exec."""
        self._limits.confine()

    async def prepare(self):
        """Called before each cell, with the kernel up; may run code of its own."""
        return Outcome()

    def tidy(self, outcome):
        """Leaves of an error what is of use to who wrote the cell."""
        return outcome

    @property
    def running(self):
        return self._child is not None and not self._child.ended.done()

    @property
    def session(self):
        return self._child.pid if self.running else None

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

    def interrupt(self):
        self._child.signal_group(signal.SIGINT)

    async def gone(self):
        if self._child is not None:
            await asyncio.wait((self._child.ended,))

    def kill(self):
        if self.running:
            session = self._child.pid
            self._child.signal_group(signal.SIGKILL)
            processes.kill(lambda process: process.session == session)

    async def _run(self, code, sink, *, silent):
        cell = self._cell = _Cell(sink, self.straggling)
        try:
            cell.message = await self._ask(
                "execute_request",
                {
                    "code": code,
                    "silent": silent,
                    "store_history": not silent,
                    "user_expressions": {},
                    "allow_stdin": False,
                    "stop_on_error": False,
                },
            )
            await asyncio.wait(
                (cell.ended, self._child.ended), return_when=asyncio.FIRST_COMPLETED
            )
            if not cell.ended.done():
                raise Died(self._child.ended.result())
            if not cell.heard_end:
                # What was lost must have been more than MAX_MESSAGE, which has
                # cut the connection.
                self._listen()
                if sink is not None:
                    sink.write("stderr", "[output was too large to be passed on, and is lost]\n")
            return self.tidy(cell.outcome)
        finally:
            self._cell = None
            cell.cancel()

    # Starting.

    async def _start(self):
        self._close()
        folder = tempfile.mkdtemp(prefix=".kernel-", dir="/tmp")
        os.chown(folder, limits.USER, limits.USER)
        info = {
            **_ADDRESSES[self.transport](folder),
            "key": secrets.token_hex(32),
            "signature_scheme": "hmac-sha256",
            "kernel_name": "",
        }
        connection_file = f"{CONNECTIONS}/{os.path.basename(folder)}.json"
        with open(connection_file, "w", opener=_private) as file:
            os.chown(file.fileno(), 0, limits.USER)
            json.dump(info, file)
        try:
            self._child = self._children.spawn(
                self.command(connection_file),
                self.confine,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/workspace",
                env={**os.environ, **self.environment},
            )
        except (OSError, subprocess.SubprocessError) as err:
            raise NotStarted(str(err)) from None
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._connect(info)
        except TimeoutError:
            self.kill()
            raise NotStarted(f"it was not up after {START_TIMEOUT:.0f} s") from None
        finally:
            os.unlink(connection_file)

    async def _connect(self, info):
        # Late, so that the kernel's own imports go on at the same time.
        import zmq
        import zmq.asyncio
        from jupyter_client.asynchronous import AsyncKernelClient

        context = zmq.asyncio.Context()
        context.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        context.setsockopt(zmq.RECONNECT_IVL, 10)
        context.setsockopt(zmq.RCVHWM, MAX_WAITING)
        self._client = client = AsyncKernelClient(context=context)
        client.load_connection_info(info)
        self._shell = client.connect_shell()
        loop = asyncio.get_running_loop()
        heard, answered = loop.create_future(), loop.create_future()
        self._listen(heard)
        self._answers = asyncio.ensure_future(self._receive(self._shell, self._on_shell, answered))
        # One question until the kernel is up, or it would find a queue of them.
        # Its broadcasts are heard some time after its first answer: ask until
        # they are.
        await self._ask("kernel_info_request", {})
        await self._first(answered)
        while not heard.done():
            await self._ask("kernel_info_request", {})
            await self._first(heard, timeout=RESEND_EVERY)
        self._late.clear()  # remarks of its start

    def _listen(self, heard=None):
        """Hears the kernel's broadcasts, from now on over a new connection."""
        if self._broadcasts is not None:
            self._broadcasts.cancel()
        socket = self._client.connect_iopub()
        self._broadcasts = asyncio.ensure_future(self._receive(socket, self._on_iopub, heard))

    async def _ask(self, kind, content):
        """Sends a request and returns its id."""
        session = self._client.session
        message = session.msg(kind, content)
        await self._shell.send_multipart(session.serialize(message))
        return message["header"]["msg_id"]

    async def _first(self, sign, timeout=None):
        """Waits for a sign of life, or of death."""
        ended = self._child.ended
        await asyncio.wait(
            (sign, ended), timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )
        if ended.done():
            raise NotStarted(f"it {how_it_ended(ended.result())}")

    def _close(self):
        for task in (self._answers, self._broadcasts):
            if task is not None:
                task.cancel()
        self._answers = self._broadcasts = None
        if self._client is not None:
            self._client.context.destroy(linger=0)
            self._client = None

    # Messages.

    async def _receive(self, socket, handle, first=None):
        session = self._client.session
        with socket:
            while True:
                frames = await socket.recv_multipart()
                if first is not None and not first.done():
                    first.set_result(None)
                try:
                    _, parts = session.feed_identities(frames)
                    handle(session.deserialize(parts))
                except Exception:  # whatever the user's code may have made of it
                    pass
                # A socket that always has more would keep the loop from the
                # time limits and the host.
                await asyncio.sleep(0)

    def _on_shell(self, message):
        if self._cell is not None and message["parent_header"].get("msg_id") == self._cell.message:
            self._cell.reply(message["content"])

    def _on_iopub(self, message):
        kind, content = message["msg_type"], message["content"]
        cell = self._cell
        if cell is None:
            # A thread of an earlier cell: shown with the next one.
            if kind == "stream" and sum(len(piece) for _, piece in self._late) < MAX_LATE:
                self._late.append((_stream(content), content["text"][:MAX_LATE]))
            return
        cell.heard(kind)
        ours = message["parent_header"].get("msg_id") == cell.message
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


def _ipc(folder):
    return {
        "transport": "ipc",
        "ip": f"{folder}/socket",
        **{port: number for number, port in enumerate(_PORTS, 1)},
    }


def _tcp(_):
    # Held together, so that all differ; let go, so that the kernel can have
    # them. Should something else of the user's be faster, it doesn't start.
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in _PORTS]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        numbers = [each.getsockname()[1] for each in sockets]
    return {"transport": "tcp", "ip": "127.0.0.1", **dict(zip(_PORTS, numbers))}


_ADDRESSES = {"ipc": _ipc, "tcp": _tcp}


def _stream(content):
    return "stderr" if content["name"] == "stderr" else "stdout"


def _private(path, flags):
    return os.open(path, flags | os.O_EXCL, 0o640)
