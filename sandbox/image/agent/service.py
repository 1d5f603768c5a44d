"""Requests of the host: what each one does. PROTOCOL.md has their fields.

A client begins with hello, and what an earlier one left half done, a file in
flight or events on their way, is dropped. Requests of a client that another
has replaced are ignored, so that two that both think they hold the sandbox
can't both drive it.
"""

import asyncio
import sys

import cells
import files
import wire

PROTOCOL = 1
CREDIT = 8  # lines of a file that may be on their way before the host asks for more
MAX_TRANSFERS = 16


class Service:
    def __init__(self, writer, outbox, runner, limits):
        self._writer, self._outbox, self._runner = writer, outbox, runner
        self._limits = limits
        self._client = self._owner = None
        self._incoming = {}
        self._outgoing = {}
        self._tasks = set()

    def line(self, line):
        """Takes one line from the host."""
        try:
            request, payload = wire.decode(line)
            number, op = request["id"], request["op"]
        except (wire.Malformed, KeyError) as err:
            # Half a line of a client that died is the usual cause.
            print(f"agent: not a request: {err}", file=sys.stderr, flush=True)
            return
        if op == "hello":
            self._hello(number, request)
        elif request.get("client") == self._client and self._client:
            self._do(op, number, request, payload)

    def _do(self, op, number, request, payload):
        handler = _HANDLERS.get(op)
        try:
            if handler is None:
                raise files.Refused("unknown_op", f"there is no {op}")
            handler(self, number, request, payload)
        except (files.Refused, cells.Refused) as err:
            self._refuse(number, err)
        except (KeyError, TypeError, ValueError) as err:
            self._reply(number, error="bad_request", message=f"{op}: {err!r}")

    def _reply(self, number, payload=None, **fields):
        self._writer.write(wire.encode({"re": number, "client": self._client, **fields}, payload))

    def _refuse(self, number, err):
        self._reply(number, error=err.code, message=str(err))

    def _hello(self, number, request):
        self._outbox.detach()
        self._client = str(request.get("client", ""))
        for incoming in self._incoming.values():
            incoming.abandon()
        self._incoming.clear()
        for task in self._tasks:
            task.cancel()
        self._reply(number, protocol=PROTOCOL, last=self._runner.last)

    def _set_limits(self, number, request, _):
        self._limits.set(*(int(request.get(key, 0)) for key in ("memory", "pids", "disk")))
        self._reply(number)

    # What the host does to sandboxes: make one ready, give it away, put it to disk.

    def _warm(self, number, _, __):
        self._spawn(number, self._finish_warm(number))

    async def _finish_warm(self, number):
        await self._runner.warm()
        self._reply(number)

    def _reseed(self, number, _, __):
        self._runner.reseed()
        self._reply(number)

    def _claim(self, number, request, _):
        if self._owner not in (None, request["owner"]):
            raise files.Refused("busy", "it is somebody else's already")
        self._owner = request["owner"]
        self._reply(number)

    def _rest(self, number, _, __):
        if self._runner.running:
            raise cells.Refused("busy", f"cell {self._runner.last} is still running")
        self._outbox.detach()
        self._reply(number)
        self._client = None  # so that nothing begins that the image would be made in the middle of

    # Cells.

    def _execute(self, number, request, _):
        cell, after = int(request["cell"]), int(request.get("after", 0))
        if self._runner.knows(cell):
            self._reply(number)
            self._outbox.follow(after)
            return
        # Before it is asked whether it was ever here: a cell that was refused for
        # its language is refused for that again.
        self._runner.must_have(request["language"])
        if request.get("resume"):
            raise cells.Refused("unknown_cell", f"the last cell here is {self._runner.last}")
        else:
            self._spawn(number, self._start(number, request))

    async def _start(self, number, request):
        cell, language = int(request["cell"]), request["language"]
        await self._runner.admit(cell)
        self._reply(number)
        self._runner.start(cell, language, request.get("code", ""), float(request["seconds"]))
        self._outbox.follow(0)

    def _interrupt(self, number, _, __):
        self._runner.interrupt()
        self._reply(number)

    def _reset(self, number, _, __):
        self._spawn(number, self._finish_reset(number))

    async def _finish_reset(self, number):
        await self._runner.reset()
        self._reply(number)

    def _acknowledge(self, _, request, __):
        self._outbox.acknowledge(int(request["n"]))

    # Files.

    def _list(self, number, request, _):
        found, more = files.listing(request.get("path", "."))
        self._reply(number, files=found, more=more)

    def _put(self, number, request, _):
        if len(self._incoming) >= MAX_TRANSFERS:
            raise files.Refused("failed", "too many files at once")
        size = int(request.get("size", 0))
        if self._limits.disk and self._limits.disk_used() + size > self._limits.disk:
            raise files.Refused("disk_full", f"{size} bytes are more than is left")
        self._incoming[number] = files.Incoming(request["path"], size)

    def _data(self, number, request, payload):
        incoming = self._incoming.get(number)
        if incoming is None:
            return  # refused already; the host has yet to read that
        try:
            if payload:
                incoming.write(payload)
            if request.get("end"):
                incoming.finish()
                del self._incoming[number]
                self._reply(number)
        except files.Refused:
            del self._incoming[number]
            incoming.abandon()
            raise

    def _get(self, number, request, _):
        if len(self._outgoing) >= MAX_TRANSFERS:
            raise files.Refused("failed", "too many files at once")
        outgoing = files.Outgoing(request["path"], int(request.get("limit", 0)))
        credit = asyncio.Semaphore(CREDIT)
        self._reply(number, size=outgoing.size)
        task = self._spawn(number, self._send(number, outgoing, credit))
        self._outgoing[number] = (credit, task)

    async def _send(self, number, outgoing, credit):
        try:
            while data := outgoing.read(wire.CHUNK):
                await credit.acquire()
                self._reply(number, data)
                await self._writer.drain()
            self._reply(number, end=True)
        finally:
            outgoing.close()
            del self._outgoing[number]

    def _more(self, number, _, __):
        if number in self._outgoing:
            credit, _ = self._outgoing[number]
            credit.release()

    def _cancel(self, number, _, __):
        if (incoming := self._incoming.pop(number, None)) is not None:
            incoming.abandon()
        if number in self._outgoing:
            _, task = self._outgoing[number]
            task.cancel()

    def _spawn(self, number, coroutine):
        task = asyncio.ensure_future(self._told(number, coroutine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _told(self, number, coroutine):
        try:
            await coroutine
        except (files.Refused, cells.Refused) as err:
            self._refuse(number, err)


_HANDLERS = {
    "limits": Service._set_limits,
    "warm": Service._warm,
    "reseed": Service._reseed,
    "claim": Service._claim,
    "rest": Service._rest,
    "execute": Service._execute,
    "interrupt": Service._interrupt,
    "reset": Service._reset,
    "ack": Service._acknowledge,
    "list": Service._list,
    "put": Service._put,
    "data": Service._data,
    "get": Service._get,
    "more": Service._more,
    "cancel": Service._cancel,
}
