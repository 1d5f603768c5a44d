"""Bash: one interactive shell a thread, driven over pipes.

The shell reads its commands from a pipe of the agent's. Each cell is a file
that it sources, so variables, functions and the working folder stay; the file
has nothing on stdin, and stdout and stderr that are put back afterwards, so a
cell's `exec >file` ends with the cell. Then the shell writes the exit status
to a descriptor that the cell's commands don't have, after a word they don't
know.

It is interactive (-i) for one reason: only an interactive shell survives an
interrupt and goes on with its next command. What a person would see of that,
prompts and warnings, goes to its own stdout and stderr, which nobody reads.

While no cell runs nobody reads the output either, so a job left in the
background waits once the pipe is full and goes on with the next cell.
"""

import asyncio
import codecs
import os
import secrets
import signal
import subprocess

import limits
import processes
from children import how_it_ended
from languages import Died, NotStarted, Outcome

SOURCE = "/run/threadbook/cell"  # root's, so that the code can't change it while it runs
READ = 256 << 10
MAX_PIPE = 1 << 20  # the most that a pipe can be made to hold

# No job control: the jobs are in the shell's own process group, and get its
# interrupts. Options a cell has set to be strict don't outlive it, for with
# `set -e` the shell would end at the next cell's first failure.
_BEGIN = (
    "PS1= PS2= PROMPT_COMMAND=; unset HISTFILE MAILCHECK;"
    " set +o histexpand +o history; history -c\n"
)
_CELL = (
    "set +eu +o pipefail; . {source} </dev/null >&{out} 2>&{err} {done}>&- {out}>&- {err}>&-\n"
    "builtin printf '%s %d\\n' {word} $? >&{done}\n"
)

_ENVIRONMENT = {"TERM": "dumb", "PAGER": "cat", "GIT_PAGER": "cat", "USER": "user"}


class Shell:
    def __init__(self, children, user_limits):
        self._children, self._limits = children, user_limits
        self._child = None
        self._pipes = None

    @property
    def running(self):
        return self._child is not None and not self._child.ended.done()

    @property
    def session(self):
        return self._child.pid if self.running else None

    async def ready(self):
        if not self.running:
            self._start()

    async def execute(self, code, sink):
        with open(SOURCE, "w", encoding="utf-8", errors="replace") as file:
            file.write(code)
        word = secrets.token_hex(16)
        cell = _Cell(word, self._pipes, sink)
        try:
            self._pipes.command(_CELL, source=SOURCE, word=word)
            await asyncio.wait(
                (cell.ended, self._child.ended), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            cell.close()
        if cell.ended.done():
            return _outcome(cell.ended.result(), "")
        code = self._child.ended.result()
        if code < 0:
            raise Died(code)
        return _outcome(code, ", which ended the shell")

    def interrupt(self):
        self._child.signal_group(signal.SIGINT)

    async def gone(self):
        if self._child is not None:
            await asyncio.wait((self._child.ended,))

    def tighten(self):
        return False  # a shell holds next to nothing; what it starts is the watchdog's

    def kill(self):
        if self.running:
            session = self._child.pid
            self._child.signal_group(signal.SIGKILL)
            processes.kill(lambda process: process.session == session)

    def _start(self):
        if self._pipes is not None:
            self._pipes.close()
        self._pipes = _Pipes()
        try:
            self._child = self._children.spawn(
                ["/bin/bash", "--norc", "--noprofile", "--noediting", "-i"],
                self._limits.confine,
                stdin=self._pipes.commands_in,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=self._pipes.theirs,
                cwd="/workspace",
                env={**os.environ, **_ENVIRONMENT},
            )
        except (OSError, subprocess.SubprocessError) as err:
            raise NotStarted(str(err)) from None
        self._pipes.command(_BEGIN)


class _Pipes:
    """The pipes between the agent and a shell."""

    def __init__(self):
        self.commands_in, self._commands = os.pipe()
        self.stdout, self._stdout_in = os.pipe()
        self.stderr, self._stderr_in = os.pipe()
        self.done, self._done_in = os.pipe()
        for fd in (self.stdout, self.stderr, self.done):
            os.set_blocking(fd, False)
        # The shell has them under the same numbers, and its commands may open
        # them by name, as /dev/stderr.
        self.theirs = (self._stdout_in, self._stderr_in, self._done_in)
        for fd in self.theirs:
            os.fchown(fd, limits.USER, limits.USER)

    def command(self, line, **words):
        line = line.format(
            out=self._stdout_in, err=self._stderr_in, done=self._done_in, **words
        )
        try:
            os.write(self._commands, line.encode())
        except BrokenPipeError:
            pass  # the shell has just ended, which the caller is about to see

    def close(self):
        ours = (self.commands_in, self._commands, self.stdout, self.stderr, self.done)
        for fd in (*ours, *self.theirs):
            os.close(fd)


class _Cell:
    """A cell that is running: reads its output, and its exit status at the end."""

    def __init__(self, word, pipes, sink):
        self._word, self._pipes, self._sink = word.encode(), pipes, sink
        self._said = b""
        self.ended = asyncio.get_running_loop().create_future()
        decoder = codecs.getincrementaldecoder("utf-8")
        self._streams = {
            pipes.stdout: ("stdout", decoder("replace")),
            pipes.stderr: ("stderr", decoder("replace")),
        }
        loop = asyncio.get_running_loop()
        for fd in self._streams:
            loop.add_reader(fd, self._read, fd)
        loop.add_reader(pipes.done, self._done)

    def close(self):
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pipes.done)
        for fd, (stream, decoder) in self._streams.items():
            loop.remove_reader(fd)
            # What the cell wrote before it ended is in the pipe by now. One
            # read takes it all, and a job that never stops can't hold us.
            self._read(fd, MAX_PIPE)
            self._sink.write(stream, decoder.decode(b"", final=True))

    def _read(self, fd, most=READ):
        try:
            data = os.read(fd, most)
        except BlockingIOError:
            return
        stream, decoder = self._streams[fd]
        self._sink.write(stream, decoder.decode(data))

    def _done(self):
        # Bounded: commands that find the descriptor may write what they like.
        self._said = (self._said + os.read(self._pipes.done, 4096))[-8192:]
        for line in self._said.split(b"\n")[:-1]:
            word, _, status = line.partition(b" ")
            if word == self._word and status.isdigit() and not self.ended.done():
                self.ended.set_result(int(status))


def _outcome(status, remark):
    if status == 0:
        return Outcome()
    words = how_it_ended(128 - status) if 128 < status < 160 else f"exit status {status}"
    return Outcome("ExitStatus", words + remark)
