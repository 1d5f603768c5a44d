"""Program output as plain text: no escape codes, no half characters, and
progress bars as what they end up showing, and nothing that turns it around.

A terminal lets a program take back what it wrote; a log doesn't. So a line
that is being rewritten with carriage returns is held until it is done, and
then has its last state only. Escape codes are removed, also where they are cut
in two by a buffer's end. Characters that reorder what stands after them, with
which a line can be made to read as another, are shown as ⟨U+202E⟩. Arabic and
Hebrew need none of them.
"""

import re

_UNWANTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CONTROL = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, links
    r"|\x1b[ -/]+[0-~]"  # character sets
    r"|\x1b[0-OQ-WYZ\\`-~]"
    r"%s"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"  # all other but \t \n \r
)
_WHOLE = re.compile(_CONTROL % "")
# The same in a text that may end in the middle of an escape code. One pattern
# and one pass, or what a removal brings together would look like a code.
_PIECE = re.compile(
    _CONTROL
    % r"|(?P<half>(?:(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}"
    r"|\x1b[\]PX^_][^\x07\x1b]{0,4096}\x1b?|\x1b[ -/]{0,8})\Z)"
)

_REORDERING = re.compile("[\u202a-\u202e\u2066-\u2069]")


def visible(text):
    """A text in which what reorders it can be seen."""
    if text.isascii():
        return text
    return _REORDERING.sub(lambda found: f"⟨U+{ord(found.group()):04X}⟩", text)


def plain(text):
    """A whole text without escape codes and control characters."""
    text = visible(text)
    if not _UNWANTED.search(text):
        return text
    return _WHOLE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


class Cleaner:
    """Cleans one stream, piece by piece."""

    def __init__(self):
        self._half = ""  # an escape code whose end is still to come
        # A line being rewritten: "\r", what it shows, and "\r" again where the
        # next text overwrites that. Empty when there is no such line.
        self._held = ""
        self._partial = False  # whether the line's beginning is out already

    @property
    def holding(self):
        return bool(self._held)

    def feed(self, text):
        """Returns what of the text can go out now."""
        text = visible(text)
        if self._half or _UNWANTED.search(text):
            text, self._half = self._half + text, ""
            text = _PIECE.sub(self._remove, text)
        if not text:
            return ""
        if not self._held and "\r" not in text:
            self._partial = not text.endswith("\n")
            return text
        return self._fold(text)

    def peek(self):
        """What the line being rewritten shows now, as a line of its own."""
        shown = _shown(self._held)
        if not shown:
            return ""
        lead, self._partial = ("\n" if self._partial else ""), False
        return f"{lead}{shown}\n"

    def end(self):
        """Returns what is still held."""
        self._half = ""
        shown, self._held = _shown(self._held), ""
        return ("\n" if self._partial else "") + shown if shown else ""

    def _remove(self, found):
        self._half = found["half"] or ""
        return ""

    def _fold(self, text):
        out = []
        text = self._held + text
        self._held = ""
        if self._partial and "\r" in text.partition("\n")[0]:
            # What is out can't be taken back: the rewriting goes on below it.
            before, _, after = text.partition("\r")
            out.append(before)
            if after.startswith("\n"):
                text = after[1:]
                out.append("\n")
                self._partial = False
            elif after.strip("\r"):
                text = "\r" + after
                out.append("\n")
                self._partial = False
            else:
                self._held = "\r"
                return "".join(out)
        *lines, last = text.split("\n")
        out.extend(f"{_shown(line)}\n" for line in lines)
        if lines:
            self._partial = False
        if "\r" in last:
            self._held = f"\r{_shown(last)}" + ("\r" if last.endswith("\r") else "")
        elif last:
            out.append(last)
            self._partial = True
        return "".join(out)


def _shown(line):
    return line.rstrip("\r").rpartition("\r")[2]
