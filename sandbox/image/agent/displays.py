"""Things displayed: which representations go out, and how much of them.

A thing has several representations, each one an event (or several, when it is
large) with the same display number; the host shows one of them. Types that are
not in TYPES are for front ends with code of their own and are dropped.
"""

import base64
import binascii
import json
import re

import text
import wire

# MIME type → how Jupyter carries it. The order is that of the events.
TYPES = {
    "text/plain": "plain",
    "text/html": "markup",
    "text/markdown": "plain",
    "text/latex": "plain",
    "application/json": "json",
    "image/png": "base64",
    "image/jpeg": "base64",
    "image/gif": "base64",
    "image/webp": "base64",
    "image/svg+xml": "markup",
    "application/pdf": "base64",
    "application/vnd.threadbook.table+json": "json",
    "application/vnd.threadbook.chart+json": "json",
}

MAX_BYTES = 20 << 20  # of one representation
MAX_CELL_BYTES = 40 << 20  # of all that a cell displays
MAX_DISPLAYS = 100  # a cell

# "<Figure size 640x480 with 1 Axes>" beside the figure itself tells nothing,
# nor does "<IPython.core.display.HTML object>" beside the HTML.
_OBJECT_NAME = re.compile(r"<[^<>]*>")
_DISPLAY_NAME = re.compile(r"<IPython\.[\w.]+ object>")


def representations(bundle):
    """The (type, bytes) of a Jupyter MIME bundle that are worth sending."""
    found = []
    for mime, kind in TYPES.items():
        if mime not in bundle:
            continue
        data = _bytes(bundle[mime], kind)
        if data is not None:
            found.append((mime, data))
    name = _DISPLAY_NAME
    if any(mime.startswith("image/") or mime == "application/pdf" for mime, _ in found):
        name = _OBJECT_NAME
    if len(found) > 1 and found[0][0] == "text/plain" and name.fullmatch(found[0][1].decode()):
        del found[0]
    return found


def parts(data):
    """Cuts bytes for events: (piece, whether more follow)."""
    for start in range(0, max(len(data), 1), wire.CHUNK):
        yield data[start : start + wire.CHUNK], start + wire.CHUNK < len(data)


class Budget:
    """What a cell may still display."""

    def __init__(self):
        self._left = MAX_CELL_BYTES
        self._displays = 0
        self._numbers = 0
        self._told = set()

    def number(self):
        self._numbers += 1
        return self._numbers

    def admit(self, found):
        """The representations that fit, and a remark on those that don't."""
        if not found:
            return [], ""
        self._displays += 1
        if self._displays > MAX_DISPLAYS:
            return [], self._once(f"a cell shows {MAX_DISPLAYS} things; the others are left out")
        fit, remarks = [], ""
        for mime, data in found:
            if len(data) > MAX_BYTES:
                remarks += f"[{mime} of {len(data)} bytes is left out: {MAX_BYTES} is the most]\n"
            elif len(data) > self._left:
                remarks += self._once(
                    f"a cell shows {MAX_CELL_BYTES} bytes; what is over is left out"
                )
            else:
                self._left -= len(data)
                fit.append((mime, data))
        return fit, remarks

    def _once(self, remark):
        if remark in self._told:
            return ""
        self._told.add(remark)
        return f"[{remark}]\n"


def _bytes(value, kind):
    try:
        if kind == "json":
            return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        if not isinstance(value, str):
            value = "".join(value)
        if kind == "base64":
            return base64.b64decode(value) or None
        value = text.plain(value) if kind == "plain" else text.visible(value)
        return value.encode("utf-8", "replace")
    except (TypeError, ValueError, RecursionError, binascii.Error):
        return None
