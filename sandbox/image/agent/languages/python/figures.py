"""The data of matplotlib's figures, read back from what they are made of.

Only what was drawn is there: artists in the coordinates of their axes. Lines,
bars and markers tell what they show; a pie's values and a box plot's quartiles
would have to be guessed from wedges and strokes, so threadbook.given keeps
what these were drawn from.

Code may have made the artists in any way and changed them since, so whatever
can't be read is left out, and the picture goes out all the same.
"""

import logging

import charts
from charts import number, place, text

MAX_ARTISTS = 2_000  # of one axes that are looked at
MAX_STROKE = 8  # points of an error bar with its caps

_log = logging.getLogger("threadbook")


def data(figure):
    """The data of a figure, or None."""
    try:
        bounds, found = charts.Bounds(), []
        try:
            for axes in bounds.first(figure.axes, charts.MAX_CHARTS):
                if axes.get_visible() and not _is_colorbar(axes):
                    _chart(axes, bounds, found)
        except charts.Enough:
            pass
        title = figure._suptitle.get_text() if figure._suptitle else ""
        return charts.figure(title, found, bounds.partial)
    except Exception:
        _log.debug("a figure's data can't be read", exc_info=True)
        return None


def _is_colorbar(axes):
    return hasattr(axes, "_colorbar") or axes.get_label() == "<colorbar>"


def _chart(axes, bounds, found):
    """Adds the chart of an axes; some of it where Enough is raised."""
    title = next(filter(None, (axes.get_title(loc) for loc in ("center", "left", "right"))), "")
    chart = {"type": "other", "title": text(title), "series": []}
    x, y = _Axis(axes.xaxis), _Axis(axes.yaxis)
    try:
        for series in bounds.first(_series(axes, x, y, bounds), charts.MAX_SERIES):
            chart["series"].append(series)
    finally:
        chart["type"] = charts.named_type(chart["series"])
        if chart["type"] == "other" and _is_heatmap(axes):
            chart["type"] = "heatmap"
        horizontal = any(series.pop("horizontal", False) for series in chart["series"])
        if horizontal:  # x is what the bars stand on, whichever way they lie
            x, y = y, x
        chart["x"], chart["y"] = x.told(), y.told()
        if chart["series"] or chart["title"] or axes.has_data():
            found.append(chart)


def _is_heatmap(axes):
    return bool(axes.images) or any(
        type(each).__name__ in ("QuadMesh", "PolyQuadMesh") for each in axes.collections
    )


class _Axis:
    """An axis, whose numbers may stand for dates or categories."""

    def __init__(self, axis):
        self._axis = axis
        self._dates = self._categories = None
        converter = type(getattr(axis, "_converter", None) or getattr(axis, "converter", None)).__name__
        if "Category" in converter and hasattr(axis.units, "_mapping"):
            self._categories = {value: key for key, value in axis.units._mapping.items()}
        elif "Date" in converter and "TimeSeries" not in converter:
            from matplotlib import dates

            self._dates = dates
        else:
            self._categories = _tick_names(axis)
        steps = sorted(self._categories or ())
        gaps = [after - before for before, after in zip(steps, steps[1:])]
        self._reach = 0.5 * min((gap for gap in gaps if gap > 0), default=1)
        self._used = ""

    def told(self):
        return charts.axis(self._axis.get_label_text(), self._used or self._axis.get_scale())

    def place(self, value, original=None):
        """What stands at a coordinate, given what the code called it."""
        if isinstance(original, str):
            self._used = "category"
            return text(original)
        if hasattr(original, "isoformat"):
            self._used = "date"
            return place(original)
        if hasattr(original, "to_timestamp"):  # a Period of pandas
            self._used = "date"
            return text(original)
        value = number(value)
        if value is None:
            return None
        if self._dates is not None:
            self._used = "date"
            return charts.moment(self._dates.num2date(value).replace(microsecond=0))
        if self._categories:
            nearest = min(self._categories, key=lambda each: abs(each - value))
            # Bars side by side stand left and right of their group's place.
            if abs(nearest - value) < self._reach:
                self._used = "category"
                return text(self._categories[nearest])
        return value


def _tick_names(axis):
    """The texts that code has put at places of an axis, by place."""
    if type(axis.get_major_locator()).__name__ != "FixedLocator":
        return None
    names = {}
    for place, label in zip(axis.get_majorticklocs()[: charts.MAX_POINTS], axis.get_ticklabels()):
        name = label.get_text()
        if name.replace("\N{MINUS SIGN}", "-").replace(",", "").strip() and number(
            name.replace("\N{MINUS SIGN}", "-").replace(",", "")
        ) != number(place):
            names[float(place)] = name
    return names or None


# The series.


def _series(axes, x, y, bounds):
    ours = set()  # artists that are part of something told of
    yield from _given(axes, ours, bounds)
    names = _legend(axes)
    yield from _bars(axes, x, y, ours, bounds)
    for line in axes.lines[:MAX_ARTISTS]:
        if id(line) in ours or not line.get_visible():
            continue
        if not line.get_transform().contains_branch(axes.transData):
            continue  # a rule across the chart, not data
        if not (axes.containers and _is_stroke(line)):
            yield from _line(axes, line, x, names, bounds)
    for each in axes.collections[:MAX_ARTISTS]:
        if id(each) in ours or not each.get_visible():
            continue
        if type(each).__name__ == "PathCollection":
            yield from _scatter(each, x, names, bounds)
        elif _is_area(each):
            yield {"type": "area", "name": text(_name(each)), "points": [], "total": 0}


def _is_area(collection):
    kind = type(collection).__name__
    return kind in ("PolyCollection", "FillBetweenPolyCollection") and bool(_name(collection))


def _given(axes, ours, bounds):
    """What threadbook.given has kept: pies and boxes, while they are there."""
    present = {id(artist) for artist in axes.get_children()}
    for kind, what, artists in axes.__dict__.get("_threadbook_given", ()):
        if artists and not present.issuperset(map(id, artists)):
            continue  # cleared since
        ours.update(map(id, artists))
        if kind == "pie":
            values, labels = what
            points = [
                [text(labels[i]) if labels and i < len(labels) else str(i + 1), number(values[i])]
                for i in bounds.thinned(len(values))
            ]
            yield {"type": "pie", "name": "", "points": points, "total": len(values)}
        elif kind == "box":
            for name, stats in bounds.first(what, charts.MAX_SERIES):
                yield _box(name, stats, axes)


def _box(name, stats, axes):
    name, at = name
    if not name:
        name = next((x for x in (_Axis(axes.xaxis).place(at), _Axis(axes.yaxis).place(at)) if isinstance(x, str)), "")
    box = {key: number(stats.get(of)) for key, of in _QUARTILES}
    box["outliers"] = [number(value) for value in list(stats.get("fliers", ()))[: charts.MAX_OUTLIERS]]
    return {"type": "box", "name": text(name), "box": box, "points": [], "total": 0}


_QUARTILES = (("min", "whislo"), ("q1", "q1"), ("median", "med"), ("q3", "q3"), ("max", "whishi"))


def _bars(axes, x, y, ours, bounds):
    """Bars, and the strokes of error bars, which aren't lines of the chart."""
    for container in axes.containers[:MAX_ARTISTS]:
        kind = type(container).__name__
        if kind == "ErrorbarContainer":
            line, caps, strokes = container.lines
            ours.update(map(id, (*caps, *strokes)))
            if line is not None and _name(line) == "" and _name(container):
                line.set_label(container.get_label())
        elif kind == "BarContainer":
            bars = [bar for bar in container.patches if id(bar) not in ours]
            if not bars:
                continue
            ours.update(map(id, bars))
            horizontal = container.orientation == "horizontal"
            points, at = [], y if horizontal else x
            for i in bounds.thinned(len(bars)):
                bar = bars[i]
                start, width = (bar.get_y(), bar.get_height()) if horizontal else (bar.get_x(), bar.get_width())
                points.append([at.place(start + width / 2), number(bar.get_width() if horizontal else bar.get_height())])
            yield {
                "type": "histogram" if _touch(bars, horizontal, points) else "bar",
                "name": text(_name(container)) or _color_name(axes, bars[0].get_facecolor()),
                "points": points,
                "total": len(bars),
                "horizontal": horizontal,
            }


def _is_stroke(line):
    """Whether a line among bars is an error bar, as seaborn draws them."""
    return not _name(line) and len(line.get_xdata(orig=False)) <= MAX_STROKE


def _touch(bars, horizontal, points):
    """Whether bars stand edge to edge over numbers, as a histogram's do."""
    if len(bars) < 3 or any(isinstance(x, str) for x, _ in points):
        return False
    edges = [
        (bar.get_y(), bar.get_height()) if horizontal else (bar.get_x(), bar.get_width())
        for bar in bars[: charts.MAX_POINTS]
    ]
    return all(
        abs(start + width - after) <= 1e-6 * max(abs(width), 1e-300)
        for (start, width), (after, _) in zip(edges, edges[1:])
    )


def _line(axes, line, x, names, bounds):
    places, values = line.get_xdata(orig=False), line.get_ydata(orig=False)
    total = min(len(places), len(values))
    if not total:
        return
    originals = line.get_xdata(orig=True)
    if len(originals) != len(places):
        originals = None
    elif hasattr(originals, "iloc"):
        originals = originals.iloc
    points = []
    for i in bounds.thinned(total):
        original = originals[i] if originals is not None else None
        if hasattr(original, "dtype"):  # datetime64 and the like
            original = original.astype("datetime64[s]").item() if original.dtype.kind == "M" else original.item()
        points.append([x.place(places[i], original), number(values[i])])
    markers_only = line.get_linestyle() in ("None", "none", " ", "")
    name = text(_name(line)) or names.get(_key(line.get_color()), "")
    yield {"type": "scatter" if markers_only else "line", "name": name, "points": points, "total": total}


def _scatter(collection, x, names, bounds):
    offsets = collection.get_offsets()
    if not len(offsets):
        return
    points = []
    for i in bounds.thinned(len(offsets)):
        points.append([x.place(offsets[i][0]), number(offsets[i][1])])
    name = text(_name(collection))
    colors = collection.get_facecolor()
    if not name and len(colors) == 1:
        name = names.get(_key(colors[0]), "")
    yield {"type": "scatter", "name": name, "points": points, "total": len(offsets)}


# Names.


def _name(artist):
    """What the code has called it; names of matplotlib's own begin with a stroke."""
    label = str(artist.get_label() or "")
    return "" if label.startswith("_") else label


def _legend(axes):
    """The texts of the legend by colour: seaborn names series nowhere else."""
    legend = axes.get_legend()
    if legend is None:
        return {}
    names = {}
    for handle, label in zip(legend.legend_handles, legend.get_texts()):
        color = getattr(handle, "get_color", None) or handle.get_facecolor
        names.setdefault(_key(color()), text(label.get_text()))
    return names


def _color_name(axes, color):
    try:
        return _legend(axes).get(_key(color), "")
    except Exception:  # a legend of the code's own making
        return ""


def _key(color):
    from matplotlib import colors

    if getattr(color, "ndim", 1) == 2:
        color = color[0] if len(color) else "none"
    return colors.to_hex(color)
