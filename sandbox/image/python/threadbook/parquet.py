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
import json
import os
import tempfile

import numpy as np
import pandas as pd

from threadbook import wire, writing

_EXTENDED = ("string", "boolean", "Float32", "Float64")
_EXACT = 1 << 53  # integers over that have no float of their own

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
            writing.write(df, path, compression, index, partition_cols)

    stock = module.get_engine

    def get_engine(engine):
        if engine not in ("auto", "pyarrow", "fastparquet"):
            return stock(engine)  # which refuses it
        try:
            return stock(engine)
        except ImportError:
            return DuckDB()

    module.get_engine = get_engine


def _read(path, columns, filters, dtype_backend):
    with _local(path) as file:
        source = _source(file)
        notes = _notes(file)
        table = wire.query(f"DESCRIBE SELECT * FROM {source}")
        kinds = dict(zip(table["column_name"], table["column_type"]))
        wanted = list(kinds) if columns is None else [*columns, *_index_names(notes, kinds)]
        missing = [name for name in wanted if name not in kinds]
        if missing:
            raise ValueError(f"no column {missing[0]!r} in the file; it has {list(kinds)}")
        wanted = list(dict.fromkeys(wanted))
        chosen = ", ".join(_cast(name, kinds[name]) for name in wanted) or "1 AS nothing"
        raw = wire.query(f"SELECT {chosen} FROM {source}{_where(filters)}")
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
        return f"read_parquet({wire.literal(file + '/**/*.parquet')}, hive_partitioning=true)"
    return f"read_parquet({wire.literal(file)})"


def _notes(file):
    """What pandas has written into the file for itself."""
    if os.path.isdir(file):
        return {}
    found = wire.query(
        f"SELECT decode(value) AS value FROM parquet_kv_metadata({wire.literal(file)})"
        " WHERE decode(key) = 'pandas'"
    )["value"]
    try:
        return json.loads(found[0])
    except (IndexError, ValueError, TypeError):
        return {}


def _cast(name, kind):
    """A column as one of the types that pass."""
    quoted = wire.name(name)
    if kind in wire.FIXED or kind in wire.STRINGS:
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
    dtype = noted.get("numpy_type") or ""
    if noted.get("pandas_type") == "categorical" or kind.startswith("ENUM"):
        return pd.Categorical(values)
    if dtype.startswith("timedelta64"):
        return pd.Series(values).astype("Int64").astype("m8[ns]")
    if isinstance(values, np.ma.MaskedArray):
        return _with_gaps(values, dtype)
    if dtype in _EXTENDED:
        return pd.array(values, dtype=dtype)
    if kind == "TIMESTAMP WITH TIME ZONE":
        zone = (noted.get("metadata") or {}).get("timezone") or "UTC"
        return pd.Series(values).dt.tz_localize("UTC").dt.tz_convert(zone)
    if kind == "DATE":
        return values.astype("M8[s]")
    if kind.startswith("TIME"):
        if not kind.startswith("TIMESTAMP"):
            return _each(values, datetime.time.fromisoformat)
    elif _is_nested(kind):
        return _each(values, json.loads)
    return values


def _with_gaps(values, dtype):
    """Integers of which some are missing: as floats, unless that would change them."""
    if dtype.startswith(("Int", "UInt")) or np.abs(values).max() > _EXACT:
        return pd.arrays.IntegerArray(values.data, values.mask)
    return values.astype("f8").filled(np.nan)


def _each(values, make):
    made = np.empty(len(values), object)
    for row, value in enumerate(values):  # numpy would take lists for rows of its own
        made[row] = None if value is None else make(value)
    return made


def _note_of(notes, name):
    for column in notes.get("columns", ()):
        if column.get("field_name", column.get("name")) == name:
            return column
    return {}


def _index_names(notes, kinds):
    names = notes.get("index_columns", ())
    return [name for name in names if isinstance(name, str) and name in kinds]


def _with_index(frame, notes):
    names = _index_names(notes, frame.columns)
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
        value = "(" + ", ".join(wire.literal(each) for each in value) + ")"
    else:
        value = wire.literal(value)
    return f"{wire.name(column)} {_OPERATORS[operator]} {value}"
