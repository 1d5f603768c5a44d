"""Jupyter kernels over Jupyter's own sockets.

The transport is ipc, in a folder of the user's, so that no port is open and
nothing depends on a network; it is tcp for a kernel that knows nothing else.
"""

import asyncio
import contextlib
import json
import os
import secrets
import socket
import tempfile

import limits
from languages import jupyter
from languages.jupyter import CONNECTIONS, MAX_MESSAGE

RESEND_EVERY = 0.03  # seconds between questions to a kernel that isn't heard yet
MAX_WAITING = 100  # messages; after that the kernel has to wait

_PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")


class Kernel(jupyter.Kernel):
    """A kernel that is given a connection file. Subclasses say how."""

    transport = "ipc"

    def __init__(self, children, user_limits):
        super().__init__(children, user_limits)
        self._client = self._shell = self._answers = self._broadcasts = None

    def command(self, connection_file):
        raise NotImplementedError

    async def _open(self):
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
            self._spawn(self.command(connection_file))
            await self._connect(info)
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

    def _listen(self, heard=None):
        """Hears the kernel's broadcasts, from now on over a new connection."""
        if self._broadcasts is not None:
            self._broadcasts.cancel()
        socket = self._client.connect_iopub()
        self._broadcasts = asyncio.ensure_future(self._receive(socket, self._on_iopub, heard))

    async def _request(self, cell, code, silent):
        content = {
            "code": code,
            "silent": silent,
            "store_history": not silent,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        cell.message = await self._ask("execute_request", content)

    def _not_heard(self):
        # What was lost must have been more than MAX_MESSAGE, which has cut the
        # connection, before it was in memory.
        self._listen()
        self._too_large()

    async def _ask(self, kind, content):
        """Sends a request and returns its id."""
        session = self._client.session
        message = session.msg(kind, content)
        await self._shell.send_multipart(session.serialize(message))
        return message["header"]["msg_id"]

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
        if self._is_ours(message["parent_header"].get("msg_id")):
            self._cell.reply(message["content"])

    def _on_iopub(self, message):
        self._heard(
            message["msg_type"], message["parent_header"].get("msg_id"), message["content"]
        )


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


def _private(path, flags):
    return os.open(path, flags | os.O_EXCL, 0o640)
