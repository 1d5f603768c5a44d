"""Data frames as rows, beside the text and the HTML that pandas makes.

A chat's table is made of cells, and to take them back out of either would be
guesswork. application/vnd.threadbook.table+json:

    {"columns": [{"name", "type", "index": true for those of the index}],
     "rows": [[…], …], "shape": [rows, columns]}

These are the first rows and columns; shape, which leaves out the index, counts
all. Types are integer, number, boolean, string, date, duration and other;
cells are numbers, booleans, null and text, which is cut at MAX_TEXT characters.
"""

import logging
import math
import sys

MIME = "application/vnd.threadbook.table+json"

MAX_ROWS = 50
MAX_COLUMNS = 50
MAX_TEXT = 200  # characters of a cell
MAX_CHARACTERS = 100_000  # of all cells

_TYPES = {"i": "integer", "u": "integer", "f": "number", "b": "boolean", "M": "date", "m": "duration"}
_SAFE = 1 << 53  # integers over that aren't the same everywhere

_log = logging.getLogger("threadbook")


def data(thing):
    """The data of a data frame or a series, or None for anything else."""
    pandas = sys.modules.get("pandas")
    try:
        if type(thing).__name__ == "Styler":
            thing = thing.data
        if isinstance(thing, pandas.Series):
            return _frame(pandas, thing.head(MAX_ROWS).to_frame(), (len(thing), 1))
        if isinstance(thing, pandas.DataFrame):
            return _frame(pandas, thing.iloc[:MAX_ROWS, :MAX_COLUMNS], thing.shape)
    except Exception:
        _log.debug("a table's data can't be read", exc_info=True)
    return None


def _frame(pandas, frame, shape):
    columns, cells = [], []
    if not isinstance(frame.index, pandas.RangeIndex):
        for level in range(frame.index.nlevels):
            values = frame.index.get_level_values(level)
            columns.append({"name": _name(values.name), "type": _type(values), "index": True})
            cells.append(_cells(pandas, values))
    for number, name in enumerate(frame.columns):
        values = frame.iloc[:, number]
        columns.append({"name": _name(name), "type": _type(values)})
        cells.append(_cells(pandas, values))
    rows, size = [], 0
    for row in map(list, zip(*cells)):
        size += sum(len(cell) if isinstance(cell, str) else 8 for cell in row)
        if size > MAX_CHARACTERS:
            break
        rows.append(row)
    return {"columns": columns, "rows": rows, "shape": list(shape)}


def _name(name):
    if isinstance(name, tuple):
        return " / ".join(filter(None, map(_name, name)))
    return "" if name is None else _cut(str(name))


def _type(values):
    kind = _TYPES.get(getattr(values.dtype, "kind", "O"))
    if kind:
        return kind
    if type(values.dtype).__name__ == "PeriodDtype":
        return "date"
    some = next((value for value in values.dropna().tolist()), "")
    return "string" if isinstance(some, str) else "other"


def _cells(pandas, values):
    return [_cell(pandas, value) for value in values.tolist()]


def _cell(pandas, value):
    if value is None or value is pandas.NA or value is pandas.NaT:
        return None
    if isinstance(value, (bool, str)):
        return _cut(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return value if abs(value) <= _SAFE else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None if value != value else str(value)
    if isinstance(value, pandas.Timestamp):
        words = value.isoformat(sep=" ")
        return words.removesuffix(" 00:00:00")
    return _cut(str(value))


def _cut(words):
    return words if len(words) <= MAX_TEXT else words[: MAX_TEXT - 1] + "…"
