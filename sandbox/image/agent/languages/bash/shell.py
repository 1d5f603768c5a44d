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
import os
import secrets
import subprocess

import limits
from children import how_it_ended
from languages import Died, Outcome
from languages.program import Program, Streams

SOURCE = "/run/threadbook/cell"  # root's, so that the code can't change it while it runs

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


class Shell(Program):
    _pipes = None

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
            await self._either(cell.ended)
        finally:
            cell.close()
        if cell.ended.done():
            return _outcome(cell.ended.result(), "")
        code = self._child.ended.result()
        if code < 0:
            raise Died(code)
        return _outcome(code, ", which ended the shell")

    def _start(self):
        if self._pipes is not None:
            self._pipes.close()
        self._pipes = _Pipes()
        self._spawn(
            ["/bin/bash", "--norc", "--noprofile", "--noediting", "-i"],
            stdin=self._pipes.commands_in,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=self._pipes.theirs,
            cwd="/workspace",
            env={**os.environ, **_ENVIRONMENT},
        )
        self._pipes.command(_BEGIN)


class _Pipes:
    """The pipes between the agent and a shell."""

    def __init__(self):
        self.commands_in, self._commands = os.pipe()
        self.stdout, self._stdout_in = os.pipe()
        self.stderr, self._stderr_in = os.pipe()
        self.done, self._done_in = os.pipe()
        os.set_blocking(self.done, False)
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
        self._word, self._pipes = word.encode(), pipes
        self._said = b""
        self.ended = asyncio.get_running_loop().create_future()
        self._streams = Streams(pipes.stdout, pipes.stderr, sink)
        asyncio.get_running_loop().add_reader(pipes.done, self._done)

    def close(self):
        asyncio.get_running_loop().remove_reader(self._pipes.done)
        self._streams.close()

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
