"""Whole tables, to and from DuckDB, as sandbox/image/sql/columns.go describes them."""

import contextlib
import json
import subprocess

import numpy as np

# The kernel's limit of address space, which is there for Python, would be
# inherited, and a program written in Go doesn't start with so little.
PROGRAM = ("/usr/bin/prlimit", "--as=unlimited", "/usr/local/bin/threadbook-sql", "run")
BLOCK = 2048  # rows; DuckDB takes no more at once

# DuckDB's types that pass as they are: how numpy has them in memory.
FIXED = {
    "BOOLEAN": "?",
    **{"TINYINT": "i1", "SMALLINT": "i2", "INTEGER": "i4", "BIGINT": "i8"},
    **{"UTINYINT": "u1", "USMALLINT": "u2", "UINTEGER": "u4", "UBIGINT": "u8"},
    **{"FLOAT": "f4", "DOUBLE": "f8", "DATE": "M8[D]"},
    **{"TIMESTAMP": "M8[us]", "TIMESTAMP WITH TIME ZONE": "M8[us]"},
    **{f"TIMESTAMP_{unit.upper()}": f"M8[{unit}]" for unit in ("s", "ms", "ns")},
}
STRINGS = ("VARCHAR", "BLOB")
NUMPY = {np.dtype(kind): name for name, kind in FIXED.items() if "ZONE" not in name}


class Column:
    """A column on its way to DuckDB: its type, its values, and which of them are there."""

    def __init__(self, kind, values, valid):
        self.kind, self.values, self.valid = kind, values, valid

    def block(self, start, stop):
        """A block of its values, as columns.go has it."""
        valid, values = self.valid[start:stop], self.values[start:stop]
        head = b"\0" if valid.all() else b"\1" + valid.tobytes()
        if self.kind in FIXED:
            return head + np.ascontiguousarray(values).tobytes()
        encode = bytes if self.kind == "BLOB" else lambda text: text.encode("utf-8", "replace")
        pieces = [encode(value) if there else b"" for value, there in zip(values, valid)]
        return head + np.array([len(piece) for piece in pieces], "<u4").tobytes() + b"".join(pieces)


def blocks(columns, rows):
    """The table as columns.go has it, piece by piece."""
    head = [{"name": name, "type": column.kind} for name, column in columns.items()]
    yield json.dumps({"columns": head}).encode() + b"\n"
    for start in range(0, rows, BLOCK):
        stop = min(start + BLOCK, rows)
        yield np.uint32(stop - start).tobytes()
        for column in columns.values():
            yield column.block(start, stop)
    yield np.uint32(0).tobytes()


def query(code):
    """What a query gives: arrays by the names of its columns."""
    with subprocess.Popen(
        [*PROGRAM, code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        pieces = {}
        line = process.stdout.readline()
        if line:
            columns = json.loads(line)["columns"]
            pieces = {column["name"]: [] for column in columns}
            while rows := _length(process.stdout):
                for column in columns:
                    pieces[column["name"]].append(_piece(process.stdout, rows, column["type"]))
        failure = process.stderr.read().decode("utf-8", "replace")
    if process.returncode:
        raise OSError(failure.strip())
    kinds = {column["name"]: column["type"] for column in columns}
    return {name: _joined(found, kinds[name]) for name, found in pieces.items()}


def run(code, stdin):
    """Runs SQL that gives nothing, on a table in the form of blocks()."""
    with subprocess.Popen(
        [*PROGRAM, code],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        with contextlib.suppress(BrokenPipeError):  # it says on stderr why
            for piece in stdin:
                process.stdin.write(piece)
            process.stdin.close()
        failure = process.stderr.read().decode("utf-8", "replace")
    if process.returncode:
        raise OSError(failure.strip())


def _length(file):
    return int.from_bytes(file.read(4), "little")


def _piece(file, rows, kind):
    """One column of a block: its values, and which of them are there or None for all."""
    valid = np.frombuffer(file.read(rows), "?") if file.read(1) == b"\1" else None
    if kind in FIXED:
        # numpy has days in 64 bits, DuckDB in 32.
        dtype = np.dtype("i4" if kind == "DATE" else FIXED[kind])
        return np.frombuffer(file.read(rows * dtype.itemsize), dtype), valid
    ends = np.cumsum(np.frombuffer(file.read(4 * rows), "<u4"), dtype="i8")
    data = file.read(int(ends[-1]))
    values, start = [], 0
    for end in ends.tolist():
        values.append(data[start:end])
        start = end
    if kind == "VARCHAR":
        values = [value.decode("utf-8", "replace") for value in values]
    if valid is not None:
        values = [value if there else None for value, there in zip(values, valid)]
    return values, None


def _joined(pieces, kind):
    """All blocks of a column as one array; what isn't there as numpy has it, or masked."""
    if kind not in FIXED:
        joined = np.empty(sum(len(values) for values, _ in pieces), object)
        joined[:] = [value for values, _ in pieces for value in values]
        return joined
    if not pieces:
        return np.empty(0, FIXED[kind])
    joined = np.concatenate([values for values, _ in pieces])
    if kind == "DATE":
        joined = joined.astype("M8[D]")
    gone = np.concatenate(
        [np.zeros(len(values), "?") if valid is None else ~valid for values, valid in pieces]
    )
    if not gone.any():
        return joined
    if joined.dtype.kind in "iu":
        return np.ma.masked_array(joined, gone)
    joined = joined.astype(object) if joined.dtype.kind == "b" else joined.copy()
    joined[gone] = {"f": np.nan, "O": None, "M": np.datetime64("NaT")}[joined.dtype.kind]
    return joined


def name(text):
    """A column's name, as SQL has it."""
    return '"' + str(text).replace('"', '""') + '"'


def literal(value):
    """A value, as SQL has it."""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, float, np.number)):
        return repr(value.item() if isinstance(value, np.number) else value)
    return "'" + str(value).replace("'", "''") + "'"
