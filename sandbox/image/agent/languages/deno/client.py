"""JavaScript and TypeScript: Deno's kernel, one for both, started at first use.

It speaks TCP only, so it is on the sandbox's own loopback, under a key that
only it and the agent have. Permissions are no matter here: the sandbox is what
bounds the code.

An interrupt is a message, for SIGINT would end the kernel. It ends code that
is running, and nothing can catch it. Code that waits for a promise that never
comes it doesn't reach: such a cell loses its kernel at the second interrupt.
"""

import asyncio
import re

from languages import zeromq

PROGRAM = "/usr/local/bin/deno"

_ENVIRONMENT = {
    "DENO_DIR": "/tmp/.deno",
    "DENO_NO_UPDATE_CHECK": "1",
    "DENO_NO_PROMPT": "1",
}

# What Deno says where it would have had to download something.
_NO_NETWORK = re.compile(
    r"dns error|fetch failed|error sending request|Import '[^']*' failed|^Execution failed$"
)
_ADVICE = (
    "\nThe sandbox has no network: there are Deno's own modules and Node's (node:fs and so on),"
    " but nothing can be imported or fetched from npm, jsr or an address."
)


class Deno(zeromq.Kernel):
    transport = "tcp"
    # It sends what a cell wrote and its value by other ways than the message that
    # the cell has ended: in one cell of twenty they come later, by 0.1 to 15 ms.
    straggling = 0.03
    _interrupting = None  # the interrupt of the running cell

    @property
    def environment(self):
        # V8 ends the process when its heap is full, without a word. With room
        # for more than there is, the watchdog does it, and says why.
        heap = max(self._limits.memory >> 20, 64) if self._limits.memory else 4096
        return {**_ENVIRONMENT, "DENO_V8_FLAGS": f"--max-old-space-size={heap}"}

    def command(self, connection_file):
        return [PROGRAM, "jupyter", "--kernel", "--conn", connection_file]

    async def execute(self, code, sink):
        self._interrupting = None
        return await super().execute(code, sink)

    def tidy(self, outcome):
        if not _NO_NETWORK.search(outcome.value):
            return outcome
        # "    1: dns error", line after line
        value = re.sub(r"\n +\d+: .*", "", outcome.value)
        return outcome._replace(value=value + _ADVICE)

    def interrupt(self):
        if self._interrupting is not None:
            self.kill()
            return
        session = self._client.session
        request = session.serialize(session.msg("interrupt_request", {}))
        self._interrupting = asyncio.ensure_future(self._tell(request))

    async def _tell(self, request):
        with self._client.connect_control() as control:
            await control.send_multipart(request)
            await control.recv_multipart()  # or the socket would be closed too early

    def tighten(self):
        return False  # V8 takes no such advice
