"""Parquet for pandas, read and written by DuckDB.

pandas asks pyarrow or fastparquet for this, and Debian has neither. What it
gets instead is this engine, whichever it asked for: pd.read_parquet and
DataFrame.to_parquet as they are documented, for files of the sandbox. The work
is done by threadbook-sql, which is in the image anyway; tables pass between the
two as columns, as sandbox/image/sql/columns.go describes.

Types are those that pyarrow gives, but for two: a date is a datetime64 and a
decimal number a float, since that is what one can calculate with.
"""

import contextlib
import datetime
import decimal
import io
import json
import os
import shutil
import subprocess
import tempfile

import numpy as np
import pandas as pd
from pandas.api import types

# The kernel's limit of address space, which is there for Python, would be
# inherited, and a program written in Go doesn't start with so little.
PROGRAM = ("/usr/bin/prlimit", "--as=unlimited", "/usr/local/bin/threadbook-sql", "run")
BLOCK = 2048  # rows; DuckDB takes no more at once

# DuckDB's types that pass as they are: how numpy has them in memory.
_FIXED = {
    "BOOLEAN": "?",
    **{"TINYINT": "i1", "SMALLINT": "i2", "INTEGER": "i4", "BIGINT": "i8"},
    **{"UTINYINT": "u1", "USMALLINT": "u2", "UINTEGER": "u4", "UBIGINT": "u8"},
    **{"FLOAT": "f4", "DOUBLE": "f8", "DATE": "M8[D]"},
    **{"TIMESTAMP": "M8[us]", "TIMESTAMP WITH TIME ZONE": "M8[us]"},
    **{f"TIMESTAMP_{unit.upper()}": f"M8[{unit}]" for unit in ("s", "ms", "ns")},
}
_STRINGS = ("VARCHAR", "BLOB")
_NUMPY = {np.dtype(kind): name for name, kind in _FIXED.items() if "ZONE" not in name}

_OPERATORS = {
    **{"=": "=", "==": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="},
    **{"in": "IN", "not in": "NOT IN"},
}


def patch(module):
    class DuckDB(module.BaseImpl):
        def read(self, path, columns=None, filters=None, dtype_backend=None, **kwargs):
            return _read(path, columns, filters, dtype_backend)

        def write(self, df, path, compression="snappy", index=None, partition_cols=None, **kwargs):
            self.validate_dataframe(df)
            _write(df, path, compression, index, partition_cols)

    stock = module.get_engine

    def get_engine(engine):
        if engine not in ("auto", "pyarrow", "fastparquet"):
            return stock(engine)  # which refuses it
        try:
            return stock(engine)
        except ImportError:
            return DuckDB()

    module.get_engine = get_engine


# Reading.


def _read(path, columns, filters, dtype_backend):
    with _local(path) as file:
        source = _source(file)
        notes = _notes(file)
        table = _query(f"DESCRIBE SELECT * FROM {source}")
        kinds = dict(zip(table["column_name"], table["column_type"]))
        wanted = list(kinds) if columns is None else [*columns, *_index_names(notes, kinds)]
        missing = [name for name in wanted if name not in kinds]
        if missing:
            raise ValueError(f"no column {missing[0]!r} in the file; it has {list(kinds)}")
        wanted = list(dict.fromkeys(wanted))
        chosen = ", ".join(_cast(name, kinds[name]) for name in wanted) or "1 AS nothing"
        raw = _query(f"SELECT {chosen} FROM {source}{_where(filters)}")
    rows = len(next(iter(raw.values())))
    frame = pd.DataFrame(
        {name: _restored(raw[name], kinds[name], notes, name) for name in wanted},
        index=pd.RangeIndex(rows),
        columns=wanted,
    )
    frame = _with_index(frame, notes)
    if dtype_backend == "numpy_nullable":
        return frame.convert_dtypes(dtype_backend="numpy_nullable")
    return frame


@contextlib.contextmanager
def _local(path):
    """The path of a file, for one that may be open already or only in memory."""
    if not hasattr(path, "read"):
        yield os.path.expanduser(os.fspath(path))
        return
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        file.write(path.read())
        file.flush()
        yield file.name


def _source(file):
    if "://" not in file and not os.path.exists(file) and not any(sign in file for sign in "*?["):
        raise FileNotFoundError(2, os.strerror(2), file)
    if os.path.isdir(file):
        return f"read_parquet({_literal(file + '/**/*.parquet')}, hive_partitioning=true)"
    return f"read_parquet({_literal(file)})"


def _notes(file):
    """What pandas has written into the file for itself."""
    if os.path.isdir(file):
        return {}
    found = _query(
        f"SELECT decode(value) AS value FROM parquet_kv_metadata({_literal(file)})"
        " WHERE decode(key) = 'pandas'"
    )["value"]
    try:
        return json.loads(found[0])
    except (IndexError, ValueError, TypeError):
        return {}


def _cast(name, kind):
    """A column as one of the types that pass."""
    quoted = _name(name)
    if kind in _FIXED or kind in _STRINGS:
        return quoted
    if kind.startswith("DECIMAL") or kind in ("HUGEINT", "UHUGEINT"):
        return f"{quoted}::DOUBLE AS {quoted}"
    if _is_nested(kind):
        return f"to_json({quoted})::VARCHAR AS {quoted}"
    return f"{quoted}::VARCHAR AS {quoted}"


def _is_nested(kind):
    return kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION"))


def _restored(values, kind, notes, name):
    """A column as pandas has it."""
    noted = _note_of(notes, name)
    if kind == "TIMESTAMP WITH TIME ZONE":
        zone = (noted.get("metadata") or {}).get("timezone") or "UTC"
        return pd.Series(values).dt.tz_localize("UTC").dt.tz_convert(zone)
    if kind == "DATE":
        return values.astype("M8[s]")
    if noted.get("numpy_type", "").startswith("timedelta64"):
        return pd.Series(values).astype("Int64").astype("m8[ns]")
    if kind.startswith("TIME"):
        if not kind.startswith("TIMESTAMP"):
            return _each(values, datetime.time.fromisoformat)
    elif _is_nested(kind):
        return _each(values, json.loads)
    elif kind.startswith("ENUM"):
        return pd.Categorical(values)
    return values


def _each(values, make):
    made = np.empty(len(values), object)
    made[:] = [None if value is None else make(value) for value in values]
    return made


def _note_of(notes, name):
    for column in notes.get("columns", ()):
        if column.get("field_name", column.get("name")) == name:
            return column
    return {}


def _index_names(notes, kinds):
    return [name for name in notes.get("index_columns", ()) if isinstance(name, str) and name in kinds]


def _with_index(frame, notes):
    names = [name for name in _index_names(notes, frame.columns)]
    if names:
        frame = frame.set_index(names)
        frame.index.names = [_note_of(notes, name).get("name") for name in names]
        return frame
    for note in notes.get("index_columns", ()):
        if isinstance(note, dict) and note.get("kind") == "range":
            index = pd.RangeIndex(note["start"], note["stop"], note["step"], name=note["name"])
            if len(index) == len(frame):
                frame.index = index
    return frame


def _where(filters):
    """The filters of pandas: terms that all hold, or a list of such lists."""
    if not filters:
        return ""
    groups = filters if isinstance(filters[0], list) else [filters]
    return " WHERE " + " OR ".join(
        "(" + " AND ".join(_term(*term) for term in group) + ")" for group in groups
    )


def _term(column, operator, value):
    if operator not in _OPERATORS:
        raise ValueError(f"filters know no {operator!r}")
    if operator in ("in", "not in"):
        value = "(" + ", ".join(_literal(each) for each in value) + ")"
    else:
        value = _literal(value)
    return f"{_name(column)} {_OPERATORS[operator]} {value}"


# Writing.


def _write(df, path, compression, index, partition_cols):
    if len({str(name).lower() for name in df.columns}) < len(df.columns):
        raise ValueError("to_parquet needs columns of different names, whatever their case")
    if hasattr(path, "write"):
        with tempfile.TemporaryDirectory() as folder:
            _write(df, f"{folder}/file", compression, index, None)
            with open(f"{folder}/file", "rb") as file:
                shutil.copyfileobj(file, path)
        return
    table, notes, labels = _with_index_columns(df, index)
    columns = {str(name): _Column(table[name], name) for name in table.columns}
    if not columns:
        columns = {"__index_level_0__": _Column(pd.Series(df.index), "__index_level_0__")}
    notes["columns"] = [_note(table[name], name, labels.get(name, str(name))) for name in table.columns]
    options = {
        "FORMAT": "parquet",
        "COMPRESSION": _literal(compression or "uncompressed"),
        "KV_METADATA": "{pandas: " + _literal(json.dumps(notes)) + "}",
    }
    if partition_cols:
        options["PARTITION_BY"] = "(" + ", ".join(_name(name) for name in partition_cols) + ")"
        options["OVERWRITE_OR_IGNORE"] = "true"
        os.makedirs(path, exist_ok=True)
    target = _literal(os.path.expanduser(os.fspath(path)))
    options = ", ".join(f"{key} {value}" for key, value in options.items())
    _run(_copy(columns, f"TO {target} ({options})"), _blocks(columns, len(df)))


def _copy(columns, target):
    """The SQL that copies stdin to a file."""
    nested = [name for name, column in columns.items() if column.nested]
    chosen = [_name(name) if not column.cast else f"{column.cast} AS {_name(name)}" for name, column in columns.items()]
    if not nested:
        return f"COPY (SELECT {', '.join(chosen)} FROM threadbook_input()) {target}"
    # What lists and records consist of is known only when all of them are.
    steps = ["CREATE TEMP TABLE input AS FROM threadbook_input()"]
    for number, name in enumerate(nested):
        steps.append(f"SET VARIABLE s{number} = (SELECT json_group_structure({_name(name)}::JSON) FROM input)")
        chosen[list(columns).index(name)] = (
            f"from_json({_name(name)}, getvariable('s{number}')) AS {_name(name)}"
        )
    return "; ".join([*steps, f"COPY (SELECT {', '.join(chosen)} FROM input) {target}"])


def _with_index_columns(df, index):
    """The table with its index as columns, what to note of it, and what these are called."""
    notes = {
        "index_columns": [],
        "column_indexes": [],
        "creator": {"library": "threadbook", "version": "1"},
        "pandas_version": pd.__version__,
    }
    if index is False:
        return df, notes, {}
    if index is None and isinstance(df.index, pd.RangeIndex):
        span = {key: getattr(df.index, key) for key in ("name", "start", "stop", "step")}
        notes["index_columns"] = [{"kind": "range", **span}]
        return df, notes, {}
    names = [
        f"__index_level_{level}__" if name is None or name in df.columns else str(name)
        for level, name in enumerate(df.index.names)
    ]
    levels = {name: df.index.get_level_values(level) for level, name in enumerate(names)}
    notes["index_columns"] = names
    return df.assign(**levels), notes, dict(zip(names, df.index.names))


def _note(series, name, label):
    zoned = isinstance(series.dtype, pd.DatetimeTZDtype)
    note = {
        "name": None if label is None else str(label),
        "field_name": str(name),
        "pandas_type": _pandas_type(series),
        "numpy_type": "datetime64[ns]" if zoned else str(series.dtype),
        "metadata": None,
    }
    if zoned:
        note["metadata"] = {"timezone": str(series.dtype.tz)}
    return note


def _pandas_type(series):
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        return "datetimetz"
    if series.dtype == object:
        kind = types.infer_dtype(series, skipna=True)
        return {"string": "unicode", "boolean": "bool", "integer": "int64", "floating": "float64"}.get(kind, kind)
    if isinstance(series.dtype, pd.CategoricalDtype):
        return "categorical"
    if series.dtype.kind in "Mm":
        return "datetime" if series.dtype.kind == "M" else "timedelta"
    return str(series.dtype).lower()


class _Column:
    """A column on its way to DuckDB: its type, its values, which of them are there."""

    def __init__(self, series, name):
        self.cast, self.nested = None, False
        self.valid = series.notna().to_numpy()
        try:
            self.kind, self.values = self._convert(series, name)
        except (TypeError, ValueError, OverflowError, decimal.InvalidOperation) as err:
            raise ValueError(f"column {name!r} can't be written to Parquet: {err}") from None

    def _convert(self, series, name):
        dtype = series.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            return self._convert(series.astype(dtype.categories.dtype), name)
        if isinstance(dtype, pd.DatetimeTZDtype):
            return "TIMESTAMP WITH TIME ZONE", series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("M8[us]")
        if isinstance(dtype, (pd.PeriodDtype, pd.IntervalDtype)):
            return "VARCHAR", series.astype(str).to_numpy(object)
        if types.is_timedelta64_dtype(dtype):
            return "BIGINT", series.to_numpy("m8[ns]").view("i8")
        if types.is_string_dtype(dtype) and dtype != object:
            return "VARCHAR", series.to_numpy(object, na_value=None)
        if dtype == object:
            return self._convert_objects(series, name)
        if types.is_extension_array_dtype(dtype):
            return self._convert(pd.Series(series.to_numpy(dtype.numpy_dtype, na_value=dtype.type(0))), name)
        if dtype == np.float16:
            series = series.astype("f4")
        if series.dtype not in _NUMPY:
            raise TypeError(f"there is no such type as {dtype}")
        return _NUMPY[series.dtype], series.to_numpy()

    def _convert_objects(self, series, name):
        kind = types.infer_dtype(series, skipna=True)
        if kind in ("string", "empty"):
            return "VARCHAR", series.to_numpy(object)
        if kind == "bytes":
            return "BLOB", series.to_numpy(object)
        if kind == "boolean":
            return "BOOLEAN", series.where(self.valid, False).to_numpy("?")
        if kind == "integer":
            return "BIGINT", series.where(self.valid, 0).to_numpy("i8")
        if kind in ("floating", "mixed-integer-float"):
            return "DOUBLE", series.to_numpy("f8", na_value=np.nan)
        if kind in ("date", "datetime", "datetime64"):
            times = pd.to_datetime(series)
            if kind == "date":
                return "DATE", times.to_numpy("M8[D]").view("i8").astype("i4")
            return self._convert(times, name)
        if kind == "decimal":
            there = [value for value in series[self.valid] if value.is_finite()]
            scale = max((-value.as_tuple().exponent for value in there), default=0)
            self.cast = f"{_name(str(name))}::DECIMAL(38, {min(max(scale, 0), 38)})"
            return "VARCHAR", _each_there(series, self.valid, str)
        if kind == "time":
            self.cast = f"{_name(str(name))}::TIME"
            return "VARCHAR", _each_there(series, self.valid, str)
        if all(isinstance(value, (list, tuple, dict, np.ndarray)) for value in series[self.valid]):
            self.nested = True
            return "VARCHAR", _each_there(series, self.valid, _json)
        raise TypeError(f"its values are of different kinds ({kind}); make them one, as with .astype(str)")

    def block(self, start, stop):
        """A block of its values, as columns.go has it."""
        valid, values = self.valid[start:stop], self.values[start:stop]
        head = b"\0" if valid.all() else b"\1" + valid.tobytes()
        if self.kind in _FIXED:
            return head + np.ascontiguousarray(values).tobytes()
        encode = bytes if self.kind == "BLOB" else lambda text: text.encode("utf-8", "replace")
        pieces = [encode(value) if there else b"" for value, there in zip(values, valid)]
        return head + np.array([len(piece) for piece in pieces], "<u4").tobytes() + b"".join(pieces)


def _each_there(series, valid, make):
    made = np.empty(len(series), object)
    made[:] = [make(value) if there else None for value, there in zip(series, valid)]
    return made


def _json(value):
    return json.dumps(value, default=lambda item: item.tolist() if hasattr(item, "tolist") else str(item))


def _blocks(columns, rows):
    """The table as columns.go has it, piece by piece."""
    head = [{"name": name, "type": column.kind} for name, column in columns.items()]
    yield json.dumps({"columns": head}).encode() + b"\n"
    for start in range(0, rows, BLOCK):
        stop = min(start + BLOCK, rows)
        yield np.uint32(stop - start).tobytes()
        for column in columns.values():
            yield column.block(start, stop)
    yield np.uint32(0).tobytes()


# The program.


def _query(code):
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


def _run(code, stdin):
    with subprocess.Popen([*PROGRAM, code], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
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
    if kind in _FIXED:
        # numpy has days in 64 bits, DuckDB in 32.
        dtype = np.dtype("i4" if kind == "DATE" else _FIXED[kind])
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
    """All blocks of a column as one array; what isn't there as pandas says that."""
    if kind not in _FIXED:
        joined = np.empty(sum(len(values) for values, _ in pieces), object)
        joined[:] = [value for values, _ in pieces for value in values]
        return joined
    if not pieces:
        return np.empty(0, _FIXED[kind])
    joined = np.concatenate([values for values, _ in pieces])
    if kind == "DATE":
        joined = joined.astype("M8[D]")
    gone = np.concatenate(
        [np.zeros(len(values), "?") if valid is None else ~valid for values, valid in pieces]
    )
    if not gone.any():
        return joined
    if joined.dtype.kind in "iu":
        joined = joined.astype("f8")
    elif joined.dtype.kind == "b":
        joined = joined.astype(object)
    joined = joined.copy()
    joined[gone] = {"f": np.nan, "O": None, "M": np.datetime64("NaT")}[joined.dtype.kind]
    return joined


def _name(name):
    return '"' + str(name).replace('"', '""') + '"'


def _literal(value):
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, float, np.number)):
        return repr(value.item() if isinstance(value, np.number) else value)
    return "'" + str(value).replace("'", "''") + "'"
