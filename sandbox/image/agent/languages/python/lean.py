"""Imported first: keeps out what the kernel would import and never use.

Half of the time that ipykernel takes to import goes into completion (jedi), the
terminal (prompt_toolkit) and the debugger, and none of them can be reached here.
Code that wants them still gets them: restore() lifts the ban once the kernel
is up.
"""

import sys
import types

_TERMINAL = "IPython.terminal.embed"
_BANNED = ("debugpy.server", "jedi")


def _embed(*_, **__):
    raise RuntimeError("there is no terminal to embed IPython in")


def restore():
    for name in (*_BANNED, _TERMINAL):
        del sys.modules[name]


for _name in _BANNED:
    sys.modules[_name] = None
sys.modules[_TERMINAL] = types.ModuleType(_TERMINAL)
sys.modules[_TERMINAL].embed = _embed
