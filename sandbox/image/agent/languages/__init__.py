"""The languages a cell can be in: a folder each, and a line in kernels().

A kernel is what keeps a language's state between cells. To cells.py it is an
object with

    ready()             starts it, if it isn't running, and returns once it can
                        take a cell; raises NotStarted
    execute(code, sink) runs code, writing to the sink; returns an Outcome, or
                        raises Died if the kernel ended meanwhile
    interrupt()         the language's Ctrl-C, aimed at the running cell
    tighten()           memory is short: the kernel is to refuse itself more than
                        is left; returns whether it can
    kill()              ends it and what it started
    gone()              returns once its process has ended, which was killed for a
                        reset, and nothing of the language's state is left
    running             whether there is a live process with state in it
    session             the session id of its processes, or None
"""

import os
from typing import NamedTuple


class Outcome(NamedTuple):
    """How code ended that the kernel survived; no name means that it succeeded."""

    name: str = ""
    value: str = ""
    traceback: str = ""


class Died(Exception):
    """The kernel ended while it ran a cell; code is its exit status."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


class NotStarted(Exception):
    """The kernel could not be started; the message says why."""


def kernels(children, limits):
    """Makes the kernels that the image has programs for, none of them started.

    Names that share a kernel share its state.
    """
    from languages.bash.shell import Shell
    from languages.deno import client as deno
    from languages.python.client import Python
    from languages.r import client as r
    from languages.sql import client as sql

    known = {"python": Python(children, limits), "bash": Shell(children, limits)}
    if os.path.exists(sql.PROGRAM):
        known["sql"] = sql.Sql(children, limits)
    if os.path.exists(r.PROGRAM):
        known["r"] = r.R(children, limits)
    if os.path.exists(deno.PROGRAM):
        known["javascript"] = known["typescript"] = deno.Deno(children, limits)
    return known
