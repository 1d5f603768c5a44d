"""Events: what a cell put out, numbered and kept until the host has it.

What is written while nobody is attached is lost in the engine, and what is in
flight when the host dies is lost there. So an event stays here until it is
acknowledged, and a client that takes up a cell gets again what follows the
last event it knows. The end of a cell is kept until the next cell begins,
acknowledged or not, for the host may die with the result in its hands.

What is kept is bounded: one cell at a time, and the sink caps what a cell
puts out.
"""

import collections

import wire


class Outbox:
    def __init__(self, writer):
        self._writer = writer
        self._kept = collections.deque()  # (number, line)
        self._end = None  # (number, line) of the cell's end
        self._number = 0
        self._attached = False

    def begin(self):
        """Makes room for a new cell: the one before it is given up."""
        self._kept.clear()
        self._end = None

    def event(self, fields, payload=None, *, last=False):
        """Numbers an event, keeps it, and sends it if somebody follows."""
        self._number += 1
        numbered = (self._number, wire.encode({"n": self._number, **fields}, payload))
        if last:
            self._end = numbered
        else:
            self._kept.append(numbered)
        if self._attached:
            self._writer.write(numbered[1])

    def follow(self, after):
        """Sends again what comes after that number, and from now on all."""
        self.acknowledge(after)
        for _, line in self._kept:
            self._writer.write(line)
        if self._end is not None:
            self._writer.write(self._end[1])
        self._attached = True

    def acknowledge(self, number):
        while self._kept and self._kept[0][0] <= number:
            self._kept.popleft()

    def detach(self):
        """Sends no events until somebody follows again."""
        self._attached = False
        self._writer.forget()
