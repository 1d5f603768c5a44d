"""What becomes of a cell's output: cleaned, in order, live, and bounded.

Text goes out as it comes, a few hundredths of a second together. After HEAD
bytes the rest is kept back: at the end comes its TAIL, and the whole is in a
file of the workspace, which is capped in its turn; a program that prints past
that is stopped. Things displayed are counted and weighed. Nothing is left out
in silence.

clear_output can't take back what the log has, so from the first one on output
is held and only the last scene is shown. Likewise of a display that is updated
again and again the last state is shown, at the end, under the number that the
display has had from the first: whoever shows the cell then shows it in its place.
"""

import asyncio
import collections
import os

import displays
import files
import text

HEAD = 200 << 10  # bytes of text that go out live
TAIL = 16 << 10  # bytes of text shown from the end of what didn't
FILE = 50 << 20  # bytes of text kept in the file; more is a flood
EVENT = 64 << 10  # bytes of text in an event
FLUSH_AFTER = 0.03  # seconds that text waits for more
PEEK_EVERY = 5.0  # seconds between two looks at a progress bar
MAX_SCENE = 8 << 20  # bytes held after a clear_output

STREAMS = ("stdout", "stderr")


class Sink:
    """The output of one cell. emit(fields, payload) makes an event of a piece."""

    def __init__(self, cell, emit, on_flood):
        self._cell, self._emit, self._on_flood = cell, emit, on_flood
        self._cleaners = {stream: text.Cleaner() for stream in STREAMS}
        self._peeked = {}
        self._pending = []  # (stream, text) and displays, in order
        self._pending_size = 0
        self._timers = {}
        self._scene = self._clear_next = False
        self._updates = {}  # by name: the last state of what is updated
        self._named = {}  # by name: the number that a display has
        self._budget = displays.Budget()
        self._head = []  # (stream, bytes) that went out live
        self._head_size = 0
        self._rest = _Rest(cell)
        self.no_space = False  # whether a program complained of a full disk

    def write(self, stream, piece):
        """Takes text of a stream."""
        cleaner = self._cleaners[stream]
        self._add(stream, cleaner.feed(piece))
        if cleaner.holding:
            self._later("peek", PEEK_EVERY, self._peek)

    def display(self, bundle, name=None, update=False):
        """Takes something displayed, by MIME type, or what replaces it by its name."""
        shown = displays.representations(bundle)
        if not shown:
            return
        if update:
            self._updates.pop(name, None)
            self._updates[name] = shown
            if sum(_weight(kept) for kept in self._updates.values()) > displays.MAX_CELL_BYTES:
                self._updates.pop(next(iter(self._updates)))
            return
        if self._clear_next:
            self._take_back()
        self._pending.append((None, (shown, name, False)))
        self._pending_size += _weight(shown)
        self._flush_soon()

    def clear(self, wait=False):
        """Takes back what can be taken back; to wait is to do so with the next output."""
        self._scene = True
        self._clear_next = wait
        if timer := self._timers.pop("flush", None):
            timer.cancel()
        if not wait:
            self._take_back()

    def _take_back(self):
        self._clear_next = False
        self._pending.clear()
        self._pending_size = 0
        self._updates.clear()

    def close(self):
        """Puts out all that is left."""
        for timer in self._timers.values():
            timer.cancel()
        for stream, cleaner in self._cleaners.items():
            self._add(stream, cleaner.end())
        self._pending.extend((None, (shown, name, True)) for name, shown in self._updates.items())
        self._flush()
        left_out = self._rest.left_out
        for stream, data in self._rest.close():
            self._put_text(stream, data, left_out)
            left_out = 0
        if self._rest.trouble:
            self._put_text("stderr", self._rest.trouble.encode(), 0)

    def _add(self, stream, piece):
        if not piece:
            return
        if stream == "stderr" and "No space left on device" in piece:
            self.no_space = True
        if self._clear_next:
            self._take_back()
        self._pending.append((stream, piece))
        self._pending_size += len(piece)
        self._flush_soon()

    def _flush_soon(self):
        if self._pending_size > MAX_SCENE:
            self._flush()
        elif not self._scene:
            self._later("flush", FLUSH_AFTER, self._flush)

    def _later(self, name, seconds, run):
        if name not in self._timers:
            self._timers[name] = asyncio.get_running_loop().call_later(seconds, run)

    def _peek(self):
        self._timers.pop("peek", None)
        for stream, cleaner in self._cleaners.items():
            shown = cleaner.peek()
            if shown and shown != self._peeked.get(stream):
                self._peeked[stream] = shown
                self._add(stream, shown)
            if cleaner.holding:
                self._later("peek", PEEK_EVERY, self._peek)

    def _flush(self):
        self._timers.pop("flush", None)
        pending, self._pending, self._pending_size = self._pending, [], 0
        for stream, run in _runs(pending):
            if stream is None:
                self._put_display(*run)
            else:
                self._text(stream, "".join(run).encode("utf-8", "replace"))

    def _text(self, stream, data):
        if room := HEAD - self._head_size:
            first = data[: _boundary(data, room)]
            data = data[len(first) :]
            # What is left of the room may be less than a character.
            self._head_size = HEAD if data else self._head_size + len(first)
            self._head.append((stream, first))
            self._put_text(stream, first, 0)
        if data and not self._rest.add(stream, data, self._head):
            self._on_flood()

    def _put_text(self, stream, data, truncated):
        while data:
            piece = data[: _boundary(data, EVENT)]
            data = data[len(piece) :]
            fields = {"event": "text", "stream": stream, "text": piece.decode()}
            if truncated:
                fields["truncated"], truncated = truncated, 0
            self._emit(fields, None)

    def _put_display(self, shown, name, update):
        shown, left_out = self._budget.admit(shown)
        if left_out:
            self._text("stderr", left_out.encode())
        if not shown:
            return
        number = self._named.get(name) if update else None
        if number is None:
            number = self._budget.number()
        if name is not None:
            self._named[name] = number
        for mime, data in shown:
            for piece, more in displays.parts(data):
                fields = {"event": "data", "mime": mime, "display": number, "more": more}
                self._emit(fields, piece)


class _Rest:
    """Text past the head: its tail in memory, the whole output in a file."""

    def __init__(self, cell):
        self._name = f"cell-{cell}-output.txt"
        self._tail = collections.deque()
        self._tail_size = 0
        self._size = 0
        self._file = None
        self._file_size = 0
        self.trouble = ""

    @property
    def left_out(self):
        return self._size - self._tail_size

    def add(self, stream, data, head):
        """Takes text. False means that there is more of it than is taken."""
        self._size += len(data)
        if self._size > TAIL and self._file is None and not self.trouble:
            self._open()
            for _, earlier in (*head, *self._tail):
                self._write(earlier)
        self._write(data)
        self._keep_tail(stream, data)
        return self._file_size <= FILE

    def close(self):
        if self._file is not None:
            os.close(self._file)
        return self._tail

    def _keep_tail(self, stream, data):
        data = data[_boundary_after(data, len(data) - TAIL) :]
        self._tail.append((stream, data))
        self._tail_size += len(data)
        while self._tail_size > TAIL:
            stream, first = self._tail.popleft()
            rest = first[_boundary_after(first, self._tail_size - TAIL) :]
            self._tail_size -= len(first) - len(rest)
            if rest:
                self._tail.appendleft((stream, rest))

    def _open(self):
        try:
            self._file = files.create("outputs", self._name)
        except files.Refused as err:
            self._fail(err)

    def _write(self, data):
        if self._file is None and not self.trouble:
            return  # still short enough to be shown whole
        room = max(FILE - self._file_size, 0)
        self._file_size += len(data)
        if self._file is None:
            return
        if len(data) > room:
            data = data[:room]
            self.trouble = f"\n[outputs/{self._name} has the first {FILE} bytes]\n"
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as err:
            self._fail(err.strerror)

    def _fail(self, why):
        self.trouble = f"\n[outputs/{self._name} does not have all of the output: {why}]\n"
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _weight(shown):
    return sum(len(data) for _, data in shown)


def _runs(pending):
    """Joins neighbours of one stream."""
    runs = []
    for stream, item in pending:
        if stream is None:
            runs.append((None, item))
        elif runs and runs[-1][0] == stream:
            runs[-1][1].append(item)
        else:
            runs.append((stream, [item]))
    return runs


def _boundary(data, size):
    """The largest cut of UTF-8 bytes at or before size that splits no character."""
    if len(data) <= size:
        return len(data)
    while size and data[size] & 0xC0 == 0x80:
        size -= 1
    return size


def _boundary_after(data, size):
    """The smallest cut at or after size that splits no character."""
    size = max(size, 0)
    while size < len(data) and data[size] & 0xC0 == 0x80:
        size += 1
    return size
