"""The kernel's end of its line to the agent, in place of Jupyter's sockets.

ZeroMQ hands each message to a thread of its own on either side, and ipykernel
to one more: five switches between threads for each of the five messages of a
cell that says 2. Under gVisor such a switch takes a tenth of a millisecond or
two. Here a cell is a packet to the kernel and mostly one back: what code puts
out waits, in order, until the cell has ended, or INTERVAL has passed, or there
is enough of it, or somebody flushes.

ipykernel sends everything through its Session, so that is what is replaced,
and no ZeroMQ socket is made. Messages that nobody here reads (that the kernel is
busy, what its input was, what widgets tell their page) are dropped.

Whoever flushes sends, in whatever thread. In the kernel's own thread an
interrupt that comes meanwhile waits, or what was sent just then would be sent
again, or never.
"""

import collections
import contextlib
import os
import signal
import socket
import threading
import time

import jupyter_client.session
import packets
from jupyter_client.session import extract_header, json_packer
from traitlets import Any

INTERVAL = 0.03  # seconds that output waits for more
# Characters that may wait. A write of more waits for them to be sent, so that a
# flood is held up in the program that makes it and nowhere else.
WAITING = 256 << 10
MAX_REQUEST = 8 << 20  # bytes; the agent's are below 2 MB

_READ = ("clear_output", "display_data", "error", "execute_result", "stream", "update_display_data")


class Link:
    def __init__(self, descriptor):
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._requests = packets.Joined(MAX_REQUEST)
        self._late = False  # whether an interrupt came that has to wait
        self.forked = False  # whether this process is a fork of the kernel
        self._begin()
        os.register_at_fork(after_in_child=self._fork)

    def _begin(self):
        # What waits: a message as bytes, or pieces of text with their stream.
        self._waiting = collections.deque()
        self._size = 0
        self._lock = threading.RLock()
        self._sending = None  # the thread that sends
        self._due = threading.Event()

    def _fork(self):
        # What waits is the parent's, and so is the thread that would send it.
        self._begin()
        self.forked = True

    def start(self):
        """Has what waits sent after INTERVAL, from now on."""
        threading.Thread(target=self._send_in_time, name="Link", daemon=True).start()

    def _send_in_time(self):
        while True:
            self._due.wait()
            time.sleep(INTERVAL)
            self._due.clear()
            with contextlib.suppress(MemoryError):  # it goes out later then
                self.flush()

    # From the kernel.

    def write(self, stream, text):
        """Puts out text of a stream."""
        with self._lock:
            if self._waiting and self._waiting[-1][0] == stream:
                self._waiting[-1][1].append(text)
            else:
                self._waiting.append((stream, [text]))
            self._size += len(text)
        self._soon()

    def put(self, kind, of, content):
        """Puts out a message: its type, the request it belongs to, and its content."""
        message = pack([kind, of, content])
        with self._lock:
            self._waiting.append((None, message))
            self._size += len(message)
        self._soon()

    def _soon(self):
        if self.forked or self._size > WAITING:
            self.flush()
        elif not self._due.is_set():
            self._due.set()

    def flush(self):
        """Returns once all that waits has been sent."""
        with self._lock:
            if not self._waiting or self._sending == threading.get_ident():
                return  # what is being sent has called this, and goes on after it
            self._sending = threading.get_ident()
            try:
                self._send()
            except OSError:
                self._waiting.clear()  # nobody listens any more
            finally:
                self._sending = None
        if self._late and threading.current_thread() is threading.main_thread():
            self._late = False
            raise KeyboardInterrupt

    def _send(self):
        # Some at a time, so that it takes little memory however much there is.
        # What a packet that was broken off leaves ends at the first line's end.
        self._size, batch, size = 0, [b""], 0
        for line in self._lines():
            batch.append(line)
            size += len(line)
            if size >= WAITING:
                self._send_lines(batch)
                batch, size = [b""], 0
        self._send_lines(batch)

    def _send_lines(self, lines):
        for packet in packets.cut(b"\n".join(lines)):
            self._socket.send(packet)

    def _lines(self):
        while self._waiting:
            stream, item = self._waiting.popleft()
            if stream is None:
                yield item
                continue
            text = "".join(item)
            for start in range(0, len(text), WAITING):
                piece = {"name": stream, "text": text[start : start + WAITING]}
                yield pack(["stream", None, piece])

    def interrupt(self, *_):
        """Handles SIGINT while a cell runs."""
        if self._sending == threading.get_ident():
            self._late = True
        else:
            raise KeyboardInterrupt

    # To the kernel.

    def listen(self, loop, handle):
        """Calls handle with each request, and ends the process with the line."""

        def ready():
            try:
                packet = self._socket.recv(packets.MAX_PACKET, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if not packet:
                os._exit(1)
            with contextlib.suppress(packets.TooLarge):
                if (request := self._requests.add(packet)) is not None:
                    handle(request)

        loop.add_reader(self._socket, ready)

    def take_interrupts(self):
        """Has an interrupt end the running cell; returns what it did before."""
        self._late = False
        return signal.signal(signal.SIGINT, self.interrupt)


class Session(jupyter_client.session.Session):
    """Sends over a Link, whatever the socket, as far as somebody listens."""

    link = Any()

    def send(self, stream, msg_or_type, content=None, parent=None, *_, **__):
        if isinstance(msg_or_type, dict):
            message = msg_or_type
            kind, content, parent = message["msg_type"], message["content"], message["parent_header"]
        else:
            kind, parent = msg_or_type, extract_header(parent or {})
        if kind == "error" and self.link.forked:
            # That of a fork is not the cell's.
            self.link.write("stderr", "\n".join(content["traceback"]) + "\n")
        elif kind in _READ:
            self.link.put(kind, parent.get("msg_id"), content)


def pack(message):
    """Makes JSON of a message; what has no UTF-8 becomes a question mark."""
    try:
        return json_packer(message)
    except UnicodeEncodeError:
        return json_packer(_encodable(message))


def _encodable(value):
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(item) for item in value]
    return value
