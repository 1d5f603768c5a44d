"""A picture of a plotly figure, drawn by matplotlib from the figure's data.

plotly draws in a browser, and there is none here: one takes more memory than a
sandbox has to give, and seconds for a chart. What people put into charts most,
lines, points, areas, bars, histograms, boxes, pies and heat maps, matplotlib
draws as well, if not alike: the words beside the picture say that it is drawn
from the data. Of a figure with anything else in it (maps, three dimensions,
flows) there is no picture, for half of one would tell something else.
"""

import base64
import io
import logging
import math
import re

WIDTH, HEIGHT = 8, 5  # inches, as other figures; plotly's 700 by 450 points are the same shape
MOST = 16  # inches, either way
DPI = 144
MAX_POINTS = 200_000  # of a figure; matplotlib takes half a second for them
MAX_LEGEND = 20  # names
MAX_TICKS = 30  # categories that are named one by one
MARGIN = (0.11, 0.13, 0.85, 0.75)  # what is around all charts: left, bottom, width, height

# plotly's own, for traces that name none.
COLOURS = (
    *("#636efa", "#ef553b", "#00cc96", "#ab63fa", "#ffa15a"),
    *("#19d3f3", "#ff6692", "#b6e880", "#ff97ff", "#fecb52"),
)

_DATE = re.compile(r"\d{4}-\d\d(-\d\d([T ][\d:.]+)?)?Z?$")
_RGB = re.compile(r"rgba?\(([^)]*)\)$")
_TAGS = re.compile(r"<[^>]*>")
_DASHES = {"dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (8, 3))}

_log = logging.getLogger("threadbook")


class CannotDraw(Exception):
    """There is something in the figure that matplotlib would draw otherwise, or not at all."""


def png(figure):
    """A picture of a figure, which is given as plotly's JSON; None if there can't be one."""
    try:
        return _Drawing(figure).png()
    except CannotDraw:
        return None
    except Exception:
        _log.debug("a figure can't be drawn", exc_info=True)
        return None


class _Drawing:
    def __init__(self, figure):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._layout = figure.get("layout") or {}
        self._traces = [trace for trace in figure.get("data") or () if trace.get("visible", True) is True]
        if not self._traces or sum(map(_size, self._traces)) > MAX_POINTS:
            raise CannotDraw
        self._notes = self._layout.get("annotations") or ()
        if self._layout.get("shapes") or not all(note.get("xref") == "paper" for note in self._notes):
            raise CannotDraw
        size = (_inches(self._layout.get("width"), WIDTH), _inches(self._layout.get("height"), HEIGHT))
        self._figure = Figure(figsize=size, dpi=DPI, facecolor="white")
        FigureCanvasAgg(self._figure)
        self._axes = {}

    def png(self):
        by_axes = {}
        for number, trace in enumerate(self._traces):
            trace = {**trace, "colour": COLOURS[number % len(COLOURS)]}
            where = "pie" if trace.get("type") == "pie" else (trace.get("xaxis") or "x", trace.get("yaxis") or "y")
            by_axes.setdefault(where, []).append(trace)
        if "pie" in by_axes and (len(by_axes) > 1 or len(by_axes["pie"]) > 1):
            raise CannotDraw
        for where, traces in by_axes.items():
            if where == "pie":
                self._pie(self._figure.add_axes(MARGIN), traces[0])
            else:
                self._chart(where, traces)
        left, bottom, width, height = MARGIN
        for note in self._notes:  # what plotly writes over the charts of a figure
            at = left + note["x"] * width, bottom + note["y"] * height
            self._figure.text(*at, _words(note.get("text", "")), ha=note.get("xanchor", "center"), va="bottom")
        if title := _title(self._layout):
            self._figure.suptitle(title, fontsize=13)
        made = io.BytesIO()
        self._figure.savefig(made, format="png", dpi=DPI)
        return base64.b64encode(made.getvalue()).decode()

    def _axis(self, name):
        return self._layout.get(f"{name[0]}axis{name[1:]}") or {}

    def _place(self, where):
        """The axes of matplotlib's that stand where plotly's do."""
        x, y = self._axis(where[0]), self._axis(where[1])
        if x.get("overlaying"):
            raise CannotDraw
        if under := y.get("overlaying"):
            base = self._axes.get((where[0], under))
            if base is None:
                raise CannotDraw
            return base.twinx()
        left, bottom, width, height = MARGIN
        (x0, x1), (y0, y1) = x.get("domain") or (0, 1), y.get("domain") or (0, 1)
        shared = {}
        for which, axis in (("sharex", x), ("sharey", y)):
            like = [axes for names, axes in self._axes.items() if axis.get("matches") in names]
            if like:
                shared[which] = like[0]
        return self._figure.add_axes(
            (left + x0 * width, bottom + y0 * height, (x1 - x0) * width, (y1 - y0) * height), **shared
        )

    def _chart(self, where, traces):
        axes = self._axes[where] = self._place(where)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        places = _Places()
        for trace in traces:
            kind = trace.get("type", "scatter")
            if kind not in _DRAW:
                raise CannotDraw
            beside = [each for each in traces if each.get("type", "scatter") == kind]
            _DRAW[kind](self, axes, trace, beside, places)
        places.name(axes)
        for which in "xy":
            self._dress(axes, which, self._axis(where["xy".index(which)]))
        handles, names = axes.get_legend_handles_labels()
        if self._layout.get("showlegend", len(names) > 1) and 0 < len(names) <= MAX_LEGEND:
            axes.legend(handles, names, fontsize=8)

    def _dress(self, axes, which, axis):
        if title := _title(axis):
            getattr(axes, f"set_{which}label")(title)
        if axis.get("type") == "log":
            getattr(axes, f"set_{which}scale")("log")
        if axis.get("range") and axis.get("type") in (None, "-", "linear"):
            getattr(axes, f"set_{which}lim")(*map(float, axis["range"]))
        elif axis.get("autorange") == "reversed":
            getattr(axes, f"invert_{which}axis")()
        if axis.get("showticklabels") is False:
            axes.tick_params(axis=which, labelleft=False, labelbottom=False)
        if which == "x":
            axes.tick_params(axis="x", labelsize=8, rotation=0 if len(axes.get_xticks()) <= 12 else 45)

    # What is drawn, by the trace's type.

    def _scatter(self, axes, trace, _, places):
        x, y = _values(trace.get("x")), _values(trace.get("y"))
        x = range(len(y)) if not len(x) else x
        y = range(len(x)) if not len(y) else y
        x, y = places.along(x, "x"), places.along(y, "y")
        mode = trace.get("mode") or ("lines+markers" if len(x) < 20 else "lines")
        if "text" in mode or trace.get("stackgroup"):
            raise CannotDraw
        line, marker = trace.get("line") or {}, trace.get("marker") or {}
        colour = _colour(line.get("color")) or _colour(marker.get("color")) or trace["colour"]
        shown = {"alpha": trace.get("opacity", 1), "label": _name(trace)}
        if trace.get("fill", "none") != "none":
            if trace["fill"] not in ("tozeroy", "tonexty"):
                raise CannotDraw
            axes.fill_between(x, y, color=colour, alpha=0.4)
        if "lines" in mode:
            style = {"linestyle": _DASHES.get(line.get("dash"), "-"), "linewidth": line.get("width", 2)}
            axes.plot(x, y, color=colour, **style, **shown)
            shown["label"] = "_"
        if "markers" in mode:
            sizes = marker.get("size", 6)
            if not isinstance(sizes, (int, float)):
                most = marker.get("sizeref", 1) if marker.get("sizemode") == "area" else None
                sizes = [(s / most if most else s * s) * 0.5 for s in sizes]
            else:
                sizes = sizes * sizes * 0.6
            colours = marker.get("color")
            if isinstance(colours, (list, tuple)) and len(colours) == len(x):
                numeric = all(isinstance(c, (int, float)) for c in colours)
                drawn = axes.scatter(x, y, s=sizes, c=colours if numeric else list(map(_colour, colours)), **shown)
                if numeric:
                    self._figure.colorbar(drawn, ax=axes)
            else:
                axes.scatter(x, y, s=sizes, color=_colour(colours) or colour, **shown)

    def _bar(self, axes, trace, bars, places):
        lies = trace.get("orientation") == "h"
        at, high = _values(trace.get("x")), _values(trace.get("y"))
        if lies:
            at, high = high, at
        at = range(len(high)) if not len(at) else at
        at = places.along(at, "y" if lies else "x", slots=True)
        high = list(map(float, high))
        mode, width = self._layout.get("barmode", "group"), 0.8
        base = trace.get("base")
        if base is None:
            base = [0] * len(high)
        elif isinstance(base, (int, float)):
            base = [base] * len(high)
        if mode in ("stack", "relative"):
            base = [places.stack(a, h) for a, h in zip(at, high)]
        elif mode == "group":
            at, width = _beside(trace, bars, at, width)
        colours = (trace.get("marker") or {}).get("color")
        if isinstance(colours, (list, tuple)):
            if not all(isinstance(c, str) for c in colours):
                raise CannotDraw
            colours = [_colour(c) for c in colours]
        shown = {
            "color": (_colour(colours) if isinstance(colours, str) else colours) or trace["colour"],
            "alpha": trace.get("opacity", 1) if mode != "overlay" else 0.6,
            "label": _name(trace),
        }
        if lies:
            axes.barh(at, high, height=width, left=base, **shown)
        else:
            axes.bar(at, high, width=width, bottom=base, **shown)

    def _histogram(self, axes, trace, beside, places):
        import numpy

        lies = not trace.get("x") and bool(trace.get("y"))
        values = _values(trace.get("y" if lies else "x"))
        if trace.get("histfunc", "count") != "count" or trace.get("histnorm") or not len(values) or not isinstance(values[0], (int, float)):
            raise CannotDraw
        mode = self._layout.get("barmode", "group")
        if len(beside) > 1 and mode == "group":
            raise CannotDraw
        bins = trace.get("nbinsx") or trace.get("nbinsy") or "auto"
        given = trace.get("xbins") or {}
        if {"start", "end", "size"} <= given.keys():
            steps = round((given["end"] - given["start"]) / given["size"])
            bins = [given["start"] + i * given["size"] for i in range(steps + 1)]
        # The same for all, or they couldn't be stacked.
        everything = [v for each in beside for v in _values(each.get("y" if lies else "x")) if v == v]
        edges = numpy.histogram_bin_edges(everything, bins)
        counts = numpy.histogram([v for v in values if v == v], edges)[0]
        feet = [places.stack(edge, n) if mode in ("stack", "relative") else 0 for edge, n in zip(edges, counts)]
        shown = {
            "color": _colour((trace.get("marker") or {}).get("color")) or trace["colour"],
            "alpha": 0.6 if mode == "overlay" else trace.get("opacity", 1),
            "label": _name(trace),
            "align": "edge",
        }
        widths = numpy.diff(edges) * 0.98
        if lies:
            axes.barh(edges[:-1], counts, height=widths, left=feet, **shown)
        else:
            axes.bar(edges[:-1], counts, width=widths, bottom=feet, **shown)

    def _box(self, axes, trace, beside, places):
        lies = trace.get("orientation") == "h"
        values, at = _values(trace.get("x" if lies else "y")), _values(trace.get("y" if lies else "x"))
        if not len(values):
            raise CannotDraw  # a box that is given by its quartiles
        if len(at) != len(values):
            at = [_name(trace).strip("_") or "all"] * len(values)
        groups = {}
        for name, value in zip(at, values):
            if value == value:
                groups.setdefault(str(name), []).append(float(value))
        spots = places.along(list(groups), "y" if lies else "x", slots=True)
        width = 0.6
        if self._layout.get("boxmode") == "group":
            spots, width = _beside(trace, beside, spots, 0.8)
        drawn = axes.boxplot(
            list(groups.values()), positions=spots, widths=width * 0.9, patch_artist=True,
            manage_ticks=False, **({"vert": False} if lies else {}),
        )
        colour = _colour((trace.get("marker") or {}).get("color")) or trace["colour"]
        for box in drawn["boxes"]:
            box.set(facecolor=colour, alpha=0.5)
        if _name(trace) != "_" and len(beside) > 1:
            drawn["boxes"][0].set_label(_name(trace))

    def _heatmap(self, axes, trace, _, places):
        import numpy

        rows = numpy.array([[math.nan if v is None else float(v) for v in row] for row in trace["z"]])
        for which, count in (("x", rows.shape[1]), ("y", rows.shape[0])):
            names = _values(trace.get(which))
            if len(names) == count:
                places.along([str(n) for n in names], which, slots=True)
        drawn = axes.imshow(rows, aspect="auto", origin="lower", cmap="plasma")
        axes.grid(False)
        self._figure.colorbar(drawn, ax=axes)

    def _pie(self, axes, trace):
        labels, values = trace.get("labels") or (), trace.get("values") or ()
        if not values or len(labels) != len(values):
            raise CannotDraw
        sums = {}
        for label, value in zip(labels, values):
            sums[_words(label)] = sums.get(_words(label), 0) + float(value or 0)
        colours = (trace.get("marker") or {}).get("colors")
        axes.pie(
            list(sums.values()), labels=list(sums), autopct="%.3g %%", counterclock=False, startangle=90,
            colors=list(map(_colour, colours)) if colours else COLOURS,
            wedgeprops={"width": 1 - trace["hole"]} if trace.get("hole") else None,
        )
        axes.set_aspect("equal")


_DRAW = {
    "scatter": _Drawing._scatter,
    "scattergl": _Drawing._scatter,
    "bar": _Drawing._bar,
    "histogram": _Drawing._histogram,
    "box": _Drawing._box,
    "heatmap": _Drawing._heatmap,
}


class _Places:
    """Where the categories of one chart stand, and how high bars are stacked."""

    def __init__(self):
        self._names = {"x": {}, "y": {}}
        self._stacks = {}

    def along(self, values, which, slots=False):
        """Numbers or dates as they are, and for names the places that they have."""
        named = self._names[which]
        if not named and len(values) and not isinstance(values[0], str) and not (slots and _is_date(values)):
            return values
        return [named.setdefault(_words(value), len(named)) for value in values]

    def stack(self, at, value):
        """The foot of a bar on top of the others that are there."""
        key = at, value < 0
        foot = self._stacks.get(key, 0)
        self._stacks[key] = foot + (0 if math.isnan(value) else value)
        return foot

    def name(self, axes):
        for which, named in self._names.items():
            if named:
                step = max(1, math.ceil(len(named) / MAX_TICKS))
                names = [name if len(name) <= 24 else name[:23] + "…" for name in named]
                spots = range(0, len(names), step)
                getattr(axes, f"set_{which}ticks")(list(spots), [names[i] for i in spots])


def _beside(trace, others, at, width):
    """Where a trace's bars or boxes stand beside those of the others, and how wide."""
    names = list(dict.fromkeys(_name(each) for each in others))
    width /= len(names)
    move = (names.index(_name(trace)) - (len(names) - 1) / 2) * width
    return [a + move for a in at], width


def _values(values):
    """A list of numbers, names, or moments where all of it is dates."""
    import numpy

    if values is None:
        return []
    if isinstance(values, dict):
        raise CannotDraw  # packed, as later versions of plotly do
    values = list(values)
    if values and _is_date(values):
        return numpy.array([value.rstrip("Z") for value in values], dtype="datetime64[ms]")
    if any(isinstance(value, str) for value in values):
        return [str(value) for value in values]
    return [math.nan if value is None else value for value in values]


def _is_date(values):
    if not isinstance(values, list):
        return getattr(values, "dtype", None) is not None and values.dtype.kind == "M"
    return all(isinstance(value, str) and _DATE.match(value) for value in values)


def _size(trace):
    z = trace.get("z")
    cells = sum(len(row) for row in z if hasattr(row, "__len__")) if isinstance(z, (list, tuple)) else 0
    return cells + max(len(trace.get(key) or ()) for key in ("x", "y", "values"))


def _inches(points, usual):
    return min(max(points / 88, 2), MOST) if isinstance(points, (int, float)) else usual


def _words(value):
    """Text without plotly's tags, that matplotlib doesn't take for a formula."""
    return _TAGS.sub(" ", str(value)).strip().replace("$", r"\$")


def _title(thing):
    title = thing.get("title") or ""
    return _words((title.get("text") or "") if isinstance(title, dict) else title)


def _name(trace):
    # matplotlib's legends leave out what begins with an underscore.
    name = _words(trace.get("name") or "") if trace.get("showlegend", True) else ""
    return name or "_"


def _colour(value):
    """A colour of plotly's for matplotlib, or None."""
    from matplotlib.colors import is_color_like

    if not isinstance(value, str):
        return None
    if found := _RGB.match(value):
        parts = [float(part) for part in found[1].split(",")]
        return (*(part / 255 for part in parts[:3]), *parts[3:])
    return value if is_color_like(value) else None
