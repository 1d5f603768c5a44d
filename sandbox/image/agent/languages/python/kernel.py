"""Starts ipykernel, set up for a log instead of a notebook page.

Runs as the user. Nothing here is a limit or a safeguard: the code of the cells
can undo all of it, and harms nothing but its own output. It gives tracebacks
without colours, figures as PNG with their data, tables as rows too, output of
streams in the order written, and words that fit where the stock ones speak of notebooks.

It is ipykernel without its sockets: link.py says what is in their place, and why.
"""

import lean  # isort: skip  (before whatever imports IPython)

import asyncio
import contextlib
import ctypes
import gc
import json
import logging
import os
import re
import resource
import shutil
import signal
import sys
import traceback

import charts
import drawings
import figures
import link
import output
import packets
import plots
import tables
from IPython.core.error import StdinNotImplementedError
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from tornado.ioloop import IOLoop
from traitlets.config import Config

FIGURE_DPI = 144  # sharp on a phone, some 80 KB a chart
# Of a line that are drawn at a time: a line of millions is out of the reach of
# matplotlib's renderer, which then fails as if there were no memory.
POINTS_AT_ONCE = 20_000
MAX_REPRESENTATION = 20 << 20  # as in displays.py, which has the last word

MOST = "/run/threadbook/most"  # bytes that may be mapped, when the agent signals

# As in client.py: what shows a thing is no part of the code's error.
_OUR_FRAMES = re.compile(r"^  File (?:\S*/IPython/|/opt/threadbook/).*\n(?:    .*\n)*", re.M)

_PICTURES = ("image/png", "image/svg+xml", "image/jpeg", "application/pdf")

# Ours, under names that a file of the workspace may have.
_MODULES = (charts, drawings, figures, link, output, packets, plots, tables)

NO_INPUT = "nobody can type into a running cell: put the value into the code instead of input()"


class Kernel(IPythonKernel):
    implementation = "threadbook"

    def raw_input(self, prompt=""):
        raise StdinNotImplementedError(NO_INPUT)

    def getpass(self, prompt="", stream=None):
        raise StdinNotImplementedError(NO_INPUT)

    def start(self):
        self.io_loop = IOLoop.current()
        self._process = os.getpid()
        self._running = None
        self.session.link.start()
        self.session.link.listen(self.io_loop.asyncio_loop, self._begin)
        self._tell("ready", None, {})

    def _begin(self, request):
        self._running = asyncio.ensure_future(self._run(json.loads(request)))

    async def _run(self, request):
        """Runs code, and says how it ended."""
        message = self.session.msg("execute_request", request)
        message["header"]["msg_id"] = message["msg_id"] = request["id"]
        self.set_parent([], message)
        self.pre_handler_hook()
        try:
            silent = request["silent"]
            reply = await self.do_execute(request["code"], silent, not silent, {}, False)
            self.post_handler_hook()
        except BaseException as err:  # an interrupt outside of the code, above all
            self.post_handler_hook()
            reply = _failure(err)
        if os.getpid() != self._process:
            self.session.link.flush()
            os._exit(0)  # a fork that went on to the cell's end
        self._tell("reply", request["id"], reply)

    def _tell(self, kind, of, content):
        try:
            self.session.link.put(kind, of, content)
            self.session.link.flush()
        except Exception as err:  # no memory for it, say; a cell must end all the same
            self.session.link.put(kind, of, _failure(err))
            self.session.link.flush()

    def enter_eventloop(self):
        pass  # of a toolkit for windows, and there is no screen

    def pre_handler_hook(self):
        self.saved_sigint_handler = self.session.link.take_interrupts()


def _failure(err):
    """The reply of a cell that failed where IPython did not expect it."""
    name = type(err).__name__
    words = "".join(traceback.format_exception_only(err)).strip()
    value = words.removeprefix(name).removeprefix(": ")
    return {"status": "error", "ename": name, "evalue": value, "traceback": [words]}


class App(IPKernelApp):
    """ipykernel's own, but for its sockets."""

    kernel_class = Kernel

    def init_kernel(self):
        self.kernel = self.kernel_class.instance(
            parent=self,
            session=self.session,
            log=self.log,
            profile_dir=self.profile_dir,
            user_ns=self.user_ns,
        )

    def init_sockets(self):
        self.configure_tornado_logger()  # or it would configure everybody's

    def _without(self):
        pass

    init_connection_file = write_connection_file = log_connection_info = init_heartbeat = _without


def _config():
    config = Config()
    config.IPKernelApp.outstream_class = "output.Stream"
    config.IPKernelApp.log_level = logging.CRITICAL  # nobody reads it
    config.HistoryManager.enabled = False  # a database and a thread for nobody
    config.InteractiveShell.colors = "NoColor"
    config.InteractiveShell.xmode = "Plain"
    config.InlineBackend.figure_formats = {"png"}
    config.InlineBackend.rc = {"figure.dpi": FIGURE_DPI, "agg.path.chunksize": POINTS_AT_ONCE}
    config.BaseIPythonApplication.auto_create = False
    return config


def _enrich_displays(shell):
    """Adds what a log's readers need, and leaves out what is too large to send."""

    def bounded(data):
        for mime, value in list(data.items()):
            if isinstance(value, (str, bytes)) and len(value) > MAX_REPRESENTATION:
                print(f"[{mime} of {len(value)} bytes is too large to show]", file=sys.stderr)
                del data[mime]
        return data

    format, publish = shell.display_formatter.format, shell.display_pub.publish

    def bounded_format(thing, *args, **kwargs):
        with _repr_may_fail(shell):
            data, metadata = format(thing, *args, **kwargs)
        return bounded(_enriched(thing, data)), metadata

    def bounded_publish(data, *args, **kwargs):
        data = dict(data)
        if plots.MIME in data:
            data = plots.shown(data[plots.MIME])
        publish(bounded(data), *args, **kwargs)

    shell.display_formatter.format = bounded_format
    shell.display_pub.publish = bounded_publish


def _enriched(thing, data):
    """The representations of a thing, and with them the data that is in it."""
    if "text/plain" in data and "pandas" in sys.modules and (table := tables.data(thing)):
        data[tables.MIME] = table
    elif "matplotlib.figure" in sys.modules and any(mime in data for mime in _PICTURES):
        if isinstance(thing, sys.modules["matplotlib.figure"].Figure):
            chart = figures.data(thing)
            if chart:
                data[charts.MIME] = chart
                data["text/plain"] = chart["alt"]
    return data


@contextlib.contextmanager
def _repr_may_fail(shell):
    """Has an error in a thing's own __repr__ told, and not end the cell.

    IPython goes on after it, but says so in a way that is read as the cell's end.
    """

    def tell(kind, error, trace):
        if issubclass(kind, MemoryError):
            return stock(kind, error, trace)  # it decides the cell's status
        told = _OUR_FRAMES.sub("", re.sub(r"\n\n+", "\n", "\n".join(trace)))
        sys.stderr.write(told.strip("\n") + "\n")

    stock, shell._showtraceback = shell._showtraceback, tell
    try:
        yield
    finally:
        shell._showtraceback = stock


def _after_cell(result):
    sys.stdout.settle()
    sys.stderr.settle()
    if isinstance(result.error_in_exec, MemoryError):
        # The traceback keeps alive what there was no room for.
        traceback.clear_frames(result.error_in_exec.__traceback__)
        sys.last_value = sys.last_exc = sys.last_traceback = None
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)


def _tighten(*_):
    """Maps no more from now on than there is memory, see limits.py."""
    with contextlib.suppress(OSError, ValueError):
        with open(MOST) as file:
            most = int(file.read())
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        if soft == resource.RLIM_INFINITY or soft > most:
            resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def main():
    cache = os.environ.get("MPLCONFIGDIR")
    if cache and not os.path.exists(cache) and os.path.isdir("/opt/mpl"):
        shutil.copytree("/opt/mpl", cache)
    session = link.Session(link=link.Link(int(sys.argv[1])))
    app = App.instance(config=_config(), session=session)
    app.initialize([])
    lean.restore()
    # Names of ours must not be what a cell's import finds.
    sys.path.remove(os.path.dirname(os.path.abspath(__file__)))
    for module in _MODULES:
        del sys.modules[module.__name__]
    _enrich_displays(app.shell)
    app.shell.events.register("post_run_cell", _after_cell)
    signal.signal(signal.SIGWINCH, _tighten)
    app.start()


main()
