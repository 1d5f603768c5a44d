"""The agent: the program inside a sandbox that runs a thread's cells.

It is process 1 of the container, root inside it, and talks to the host in
lines over its stdin and stdout; PROTOCOL.md says how. Kernels run as uid 1000
without any capability, so the code of the cells can't signal the agent, read
its descriptors or write to its stdout. One event loop, no threads of its own,
no clock that ticks while no cell runs.

    wire        lines                    service    requests
    outbox      numbered events          cells      one cell, start to end
    sink        output, bounded          text, displays
    languages   kernels                  children, processes
    limits      what code may use        watchdog   holds it to that
    files       /workspace, in and out
"""

import asyncio
import ctypes
import os
import signal
import sys

import wire
from cells import Cells
from children import Children
from languages import kernels
from languages.jupyter import CONNECTIONS
from limits import USER, Limits
from outbox import Outbox
from service import Service


async def serve():
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def end():
        if not ended.done():
            ended.set_result(None)

    limits = Limits()
    known = kernels(Children(), limits)
    known["python"].begin()
    writer = wire.Writer(1)
    outbox = Outbox(writer)
    service = Service(writer, outbox, Cells(outbox, known, limits), limits)
    # Process 1 has no default action for signals: without this `docker stop`
    # would wait its full time.
    loop.add_signal_handler(signal.SIGTERM, end)
    wire.Reader(0, service.line, end)
    await ended


# What code writes here is shown in the thread, so it may take it to be there.
OUTPUTS = "/workspace/outputs"

# Of glibc's mallopt. Left to itself it gives a buffer back to the kernel when a
# line is done, and under gVisor taking it again costs more than the line does.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEEP = 32 << 20  # bytes of free memory that the agent keeps


def keep_memory():
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, KEEP)
    libc.mallopt(M_TRIM_THRESHOLD, KEEP)


def main():
    if os.getpid() != 1:
        sys.exit("the agent kills what its user runs: it is for a container of its own")
    keep_memory()
    for name in [name for name in os.environ if name.startswith("THREADBOOK_")]:
        del os.environ[name]  # the runtime's, and no business of the code's
    os.setgroups([])
    os.makedirs(CONNECTIONS, exist_ok=True)
    if not os.path.lexists(OUTPUTS):
        os.mkdir(OUTPUTS)
        os.chown(OUTPUTS, USER, USER)
    asyncio.run(serve())


main()
