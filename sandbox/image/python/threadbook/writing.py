"""The writing half of parquet.py: what a data frame's columns are to DuckDB.

Types are inferred as pyarrow does it. Beside the table goes what pandas wants
to find again, its index above all, in the words that all of its engines use.
"""

import decimal
import json
import os
import shutil
import tempfile

import numpy as np
import pandas as pd
from pandas.api import types

from threadbook import wire


def write(df, path, compression, index, partition_cols):
    if len({str(name).lower() for name in df.columns}) < len(df.columns):
        raise ValueError("to_parquet needs columns of different names, whatever their case")
    if hasattr(path, "write"):
        with tempfile.TemporaryDirectory() as folder:
            write(df, f"{folder}/file", compression, index, None)
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
        "COMPRESSION": wire.literal(compression or "uncompressed"),
        "KV_METADATA": "{pandas: " + wire.literal(json.dumps(notes)) + "}",
    }
    if partition_cols:
        options["PARTITION_BY"] = "(" + ", ".join(wire.name(name) for name in partition_cols) + ")"
        options["OVERWRITE_OR_IGNORE"] = "true"
        os.makedirs(path, exist_ok=True)
    target = wire.literal(os.path.expanduser(os.fspath(path)))
    options = ", ".join(f"{key} {value}" for key, value in options.items())
    wire.run(_copy(columns, f"TO {target} ({options})"), wire.blocks(columns, len(df)))


def _copy(columns, target):
    """The SQL that copies stdin to a file."""
    nested = [name for name, column in columns.items() if column.nested]
    chosen = [f"{column.cast or wire.name(name)} AS {wire.name(name)}" for name, column in columns.items()]
    if not nested:
        return f"COPY (SELECT {', '.join(chosen)} FROM threadbook_input()) {target}"
    # What lists and records consist of is known only when all of them are.
    steps = ["CREATE TEMP TABLE input AS FROM threadbook_input()"]
    for number, name in enumerate(nested):
        structure = f"SELECT json_group_structure({wire.name(name)}::JSON) FROM input"
        steps.append(f"SET VARIABLE s{number} = ({structure})")
        chosen[list(columns).index(name)] = (
            f"from_json({wire.name(name)}, getvariable('s{number}')) AS {wire.name(name)}"
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


_KINDS = {"string": "unicode", "boolean": "bool", "integer": "int64", "floating": "float64"}


def _pandas_type(series):
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        return "datetimetz"
    if series.dtype == object:
        kind = types.infer_dtype(series, skipna=True)
        return _KINDS.get(kind, kind)
    if isinstance(series.dtype, pd.CategoricalDtype):
        return "categorical"
    if series.dtype.kind in "Mm":
        return "datetime" if series.dtype.kind == "M" else "timedelta"
    return str(series.dtype).lower()


class _Column(wire.Column):
    """A column of pandas'. cast is what it becomes in SQL, nested that it is JSON to take apart."""

    def __init__(self, series, name):
        self.cast, self.nested = None, False
        self.valid = series.notna().to_numpy()
        try:
            super().__init__(*self._convert(series, name), self.valid)
        except (TypeError, ValueError, AttributeError, OverflowError, decimal.InvalidOperation) as err:
            raise ValueError(f"column {name!r} can't be written to Parquet: {err}") from None

    def _convert(self, series, name):
        dtype = series.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            return self._convert(series.astype(dtype.categories.dtype), name)
        if isinstance(dtype, pd.DatetimeTZDtype):
            times = series.dt.tz_convert("UTC").dt.tz_localize(None)
            return "TIMESTAMP WITH TIME ZONE", times.to_numpy("M8[us]")
        if isinstance(dtype, (pd.PeriodDtype, pd.IntervalDtype)):
            return "VARCHAR", series.astype(str).to_numpy(object)
        if types.is_timedelta64_dtype(dtype):
            return "BIGINT", series.to_numpy("m8[ns]").view("i8")
        if types.is_string_dtype(dtype) and dtype != object:
            return "VARCHAR", series.to_numpy(object, na_value=None)
        if dtype == object:
            return self._convert_objects(series, name)
        if types.is_extension_array_dtype(dtype):
            plain = series.to_numpy(dtype.numpy_dtype, na_value=dtype.type(0))
            return self._convert(pd.Series(plain), name)
        if dtype == np.float16:
            series = series.astype("f4")
        if series.dtype not in wire.NUMPY:
            raise TypeError(f"there is no such type as {dtype}")
        return wire.NUMPY[series.dtype], series.to_numpy()

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
            self.cast = f"{wire.name(str(name))}::DECIMAL(38, {min(max(scale, 0), 38)})"
            return "VARCHAR", _each_there(series, self.valid, str)
        if kind == "time":
            self.cast = f"{wire.name(str(name))}::TIME"
            return "VARCHAR", _each_there(series, self.valid, str)
        if all(isinstance(value, (list, tuple, dict, np.ndarray)) for value in series[self.valid]):
            self.nested = True
            return "VARCHAR", _each_there(series, self.valid, _json)
        raise TypeError(f"its values differ in kind ({kind}); make them one, as with .astype(str)")


def _each_there(series, valid, make):
    return [make(value) if there else None for value, there in zip(series, valid)]


def _json(value):
    return json.dumps(value, default=_plain)


def _plain(item):
    return item.tolist() if hasattr(item, "tolist") else str(item)
