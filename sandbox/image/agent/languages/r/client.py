"""R: IRkernel, started with the first cell that is in R."""

import json
import re
import resource

from languages import Outcome, zeromq

PROGRAM = "/usr/bin/R"
PROFILE = "/opt/threadbook/agent/languages/r/kernel.R"

TABLE = "application/vnd.threadbook.table+json"  # as text, see tables.R

# What R maps beside what it uses, with the usual libraries loaded.
LIBRARIES = 500 << 20

# From the handler of errors on.
_ITS_FRAMES = re.compile(r"^\d+\. (?:\.handleSimpleError|h\(simpleError)\(?[\s\S]*", re.M)
_SAYS_ERROR = re.compile(r"^Error(?:: | in )")
_NO_MEMORY = re.compile(r"cannot allocate (?:vector|memory|buffer)|memory exhausted")


class R(zeromq.Kernel):
    def command(self, connection_file):
        return [
            *(PROGRAM, "--no-echo", "--no-save", "--no-restore", "--no-init-file"),
            *(f"--file={PROFILE}", "--args", connection_file),
        ]

    def confine(self):
        super().confine()
        # R takes a refusal well: the cell fails and the state is kept. What
        # else is in the sandbox is the watchdog's, like what comes later.
        if self._limits.memory:
            most = self._limits.memory + LIBRARIES
            resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def tidy(self, outcome):
        """Leaves out what IRkernel adds: its own frames, and ERROR for a name."""
        if not outcome.name:
            return outcome
        value = outcome.value.strip()
        name = "MemoryError" if _NO_MEMORY.search(value) else "Error"
        head, _, frames = outcome.traceback.partition("\nTraceback:\n")
        frames = _ITS_FRAMES.sub("", frames).strip("\n")
        traceback = f"{head}\nTraceback:\n{frames}" if frames else head
        return Outcome(name, _SAYS_ERROR.sub("", value), traceback)

    def _output(self, sink, kind, content):
        data = content.get("data", {})
        if TABLE in data:
            data[TABLE] = json.loads(data[TABLE])
        super()._output(sink, kind, content)

    def tighten(self):
        return False  # R has no way to be told from outside
