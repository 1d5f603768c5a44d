"""The data of a chart, and a sentence that says what it shows.

A picture tells nothing to who can't see it: not to a reader with a screen
reader, not to the model that drew it, and a chat that has charts of its own
can't draw them from it. So beside the picture goes what is in it, as
application/vnd.threadbook.chart+json:

    {"title": …, "alt": …, "partial": true where some was left out,
     "charts": [{"type", "title", "x": axis, "y": axis, "series": […]}]}

An axis is {"label", "unit", "scale"}: "Price (€)" has the label Price and the
unit €, and the scale is linear, log, date, category or what else matplotlib
calls it. A series is {"type", "name", "points": [[x, y], …], "total"}, where
total counts the points before they were thinned out. x is a number, or text
for categories and dates (ISO 8601); y is a number or null. A box plot's series
have a "box" each instead: {"min", "q1", "median", "q3", "max", "outliers"}.
A chart's type is that of its series, or "mixed".

This module is what figures of matplotlib and of plotly have in common.
"""

import datetime
import math
import re
import time

MIME = "application/vnd.threadbook.chart+json"

MAX_CHARTS = 16  # of a figure
MAX_SERIES = 24  # of a chart
MAX_POINTS = 200  # of a series: more than a chat's chart can show
MAX_TOTAL = 4_000  # points of a figure, some 100 KB
MAX_OUTLIERS = 50
MAX_TEXT = 200  # characters of a title, a label, a category
MAX_ALT = 900  # characters; Discord takes 1,024
MAX_SAID = 8  # values that the sentence lists one by one
MAX_SECONDS = 0.25  # that the extraction may take; a usual chart takes 2 ms

_UNIT = re.compile(r"^(.*\S)\s*[\[(]([^\[\]()]{1,24})[\])]$", re.S)

_KINDS = {
    "line": "Line chart",
    "bar": "Bar chart",
    "scatter": "Scatter chart",
    "pie": "Pie chart",
    "box": "Box plot",
    "histogram": "Histogram",
    "area": "Area chart",
    "heatmap": "Heat map",
    "mixed": "Chart",
    "other": "Chart",
}


class Enough(Exception):
    """The time or the room is used up; what was found so far counts."""


class Bounds:
    """What a figure's data may still take."""

    def __init__(self):
        self._until = time.monotonic() + MAX_SECONDS
        self._left = MAX_TOTAL
        self.partial = False

    def check(self):
        if time.monotonic() > self._until or not self._left:
            self.partial = True
            raise Enough

    def thinned(self, total):
        """The indexes to take of so many points, spread evenly, first and last among them."""
        self.check()
        count = min(total, MAX_POINTS, self._left)
        self._left -= count
        if count < total:
            self.partial = True
        if count < 2:
            return range(count)
        return [i * (total - 1) // (count - 1) for i in range(count)]

    def first(self, items, most):
        """The first items, of which there may be too many."""
        for number, item in enumerate(items):
            if number == most:
                self.partial = True
                return
            self.check()
            yield item


def text(value):
    """A title or a label on one line."""
    words = " ".join(str(value or "").split())
    return words if len(words) <= MAX_TEXT else words[: MAX_TEXT - 1] + "…"


def number(value):
    """A number for JSON, or None for what is none."""
    try:
        value = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(value):
        return None
    if value.is_integer() and abs(value) < 1 << 53:
        return int(value)
    return float(f"{value:.10g}")


def moment(value):
    """A date or a time as ISO 8601, without what is midnight or none."""
    if isinstance(value, datetime.datetime):
        value = value.replace(tzinfo=None) if value.tzinfo is datetime.timezone.utc else value
        if not (value.hour or value.minute or value.second or value.microsecond or value.tzinfo):
            return value.date().isoformat()
    return value.isoformat()


def place(value):
    """A value of x: a number, or text."""
    if isinstance(value, (datetime.date, datetime.time)):
        return moment(value) if value == value else None  # NaT is a date that isn't itself
    if isinstance(value, str):
        return text(value)
    return number(value)


def axis(label, scale):
    label = text(label)
    found = _UNIT.match(label)
    return {
        "label": found[1] if found else label,
        "unit": found[2] if found else "",
        "scale": scale,
    }


def named_type(series):
    """The type of a chart with these series."""
    types = {each["type"] for each in series}
    return types.pop() if len(types) == 1 else "mixed" if types else "other"


def figure(title, charts, partial):
    """The whole, or None where there is nothing to tell."""
    if not charts:
        return None
    found = {"title": text(title), "charts": charts, "alt": _said(text(title), charts)}
    if partial:
        found["partial"] = True
    return found


# The sentence.


def _said(title, charts):
    sentences = [_said_chart(chart) for chart in charts]
    if len(charts) > 1:
        named = f" “{title}”" if title else ""
        sentences.insert(0, f"Figure{named} of {len(charts)} charts")
    elif title and not charts[0]["title"]:
        sentences = [_said_chart({**charts[0], "title": title})]
    said = ". ".join(sentences) + "."
    return said if len(said) <= MAX_ALT else said[: MAX_ALT - 1] + "…"


def _said_chart(chart):
    said = _KINDS.get(chart["type"], "Chart")
    if chart["title"]:
        said += f" “{chart['title']}”"
    x, y = _said_axis(chart["x"]), _said_axis(chart["y"])
    if x and y:
        said += f": {y} by {x}"
    elif x or y:
        said += f": {y}" if y else f" by {x}"
    return "; ".join((said, *_said_series(chart["series"])))


def _said_axis(axis):
    return f"{axis['label']} ({axis['unit']})" if axis["unit"] else axis["label"]


def _said_series(series):
    if not series:
        return
    names = [each["name"] for each in series if each["name"]]
    if len(series) > 1:
        more = ", …" if len(names) > MAX_SAID else ""
        yield f"{len(series)} series" + (f" ({', '.join(names[:MAX_SAID])}{more})" if names else "")
    boxes = [each for each in series if each.get("box")]
    if boxes:
        yield "medians " + ", ".join(
            f"{each['name']} {_figure(each['box']['median'])}".strip() for each in boxes[:MAX_SAID]
        )
        return
    points = [point for each in series for point in each["points"]]
    if not points:
        return
    total = sum(each["total"] for each in series)
    listed = len(series) == 1 and series[0]["type"] in ("bar", "pie") and total <= MAX_SAID
    if listed and all(isinstance(x, str) for x, _ in points):
        yield ", ".join(f"{x} {_figure(y)}" for x, y in points)
        return
    yield f"{total:,} points" if total > 1 else "1 point"
    values = [y for _, y in points if y is not None]
    if values:
        low, high = min(values), max(values)
        yield f"values {_figure(low)} to {_figure(high)}" if low < high else f"all {_figure(low)}"
    places = [x for x, _ in points if x is not None]
    if places and series[0]["type"] != "pie":
        if all(isinstance(x, str) for x in places):
            first, last = places[0], places[-1]
        elif any(isinstance(x, str) for x in places):
            return
        else:
            first, last = _figure(min(places)), _figure(max(places))
        if first != last:
            yield f"from {first} to {last}"


def _figure(value):
    """A number as a person would write it."""
    if value is None:
        return "none"
    if isinstance(value, int) or abs(value) >= 1e15:
        return f"{value:,}" if abs(value) < 1e15 else f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
