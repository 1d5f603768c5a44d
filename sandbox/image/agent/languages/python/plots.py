"""plotly's figures: an interactive page for people, the data for the rest.

A figure of plotly is a program for a browser. It goes to outputs/ as a page that
needs nothing but itself, and what is shown in the thread is a sentence and the
data, with a picture that matplotlib draws of it, where it can; see drawings.py.

The page carries plotly.js compressed, 2.6 MB instead of the 8.6 MB that Debian
has of it, and unpacks it with what browsers have had since 2023.
"""

import base64
import functools
import gzip
import json
import logging
import os

import charts
import drawings
from charts import number, place, text

MIME = "application/vnd.plotly.v1+json"

FOLDER = "/workspace/outputs"
MAX_NAMES = 10_000
LEVEL = 6  # half the time of 9, and 1 % more
MAX_PAGE = 20 << 20  # bytes of a page's figure

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>html, body, #figure {{ height: 100%; margin: 0; }}</style>
</head>
<body>
<div id="figure">Drawing the figure…</div>
<script type="application/json" id="data">{figure}</script>
<script type="text/plain" id="library">{library}</script>
<script>
const at = (id) => document.getElementById(id);
(async () => {{
  const packed = Uint8Array.from(atob(at("library").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  const {{ data, layout, config, frames }} = JSON.parse(at("data").textContent);
  at("figure").textContent = "";
  await Plotly.newPlot("figure", data, layout, {{ responsive: true, ...config }});
  if (frames) Plotly.addFrames("figure", frames);
}})().catch((error) => {{ at("figure").textContent = `The figure can't be drawn: ${{error}}`; }});
</script>
</body>
</html>
"""

_log = logging.getLogger("threadbook")


def shown(figure):
    """What to show of a figure, given as the JSON that plotly makes of it."""
    found = data(figure)
    said = found["alt"] if found else "An interactive chart."
    picture = drawings.png(figure)
    if picture:
        said += " [drawn from the plotly figure's data]"
    try:
        path = _save(figure, (found or {}).get("title") or "Figure")
        said += f" [interactive, in {path}]"
    except Exception as err:
        _log.debug("a figure can't be saved", exc_info=True)
        said += f" [the interactive page can't be saved: {err}]"
    shown = {"text/plain": said}
    if picture:
        shown["image/png"] = picture
    if found:
        shown[charts.MIME] = found
    return shown


def _save(figure, title):
    # In a script nothing ends it but its end tag, so none may be in there.
    told = json.dumps(figure, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    if len(told) > MAX_PAGE:
        raise ValueError(f"its data is over {MAX_PAGE >> 20} MB")
    escaped = title.replace("&", "&amp;").replace("<", "&lt;")
    page = _PAGE.format(title=escaped, figure=told, library=_library())
    os.makedirs(FOLDER, exist_ok=True)
    for i in range(1, MAX_NAMES):
        path = f"{FOLDER}/plotly-{i}.html"
        try:
            file = open(path, "x", encoding="utf-8", errors="replace")
        except FileExistsError:
            continue
        try:
            with file:
                file.write(page)
        except BaseException:
            os.unlink(path)
            raise
        return path.removeprefix("/workspace/")
    raise ValueError("there are too many already")


@functools.cache
def _library():
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), LEVEL)).decode()


# The data.


def data(figure):
    """The data of a figure, or None."""
    try:
        bounds, layout = charts.Bounds(), figure.get("layout", {})
        by_axes = {}
        try:
            for trace in bounds.first(figure.get("data", ()), charts.MAX_SERIES):
                axes = trace.get("xaxis", "x"), trace.get("yaxis", "y")
                by_axes.setdefault(axes, []).extend(_series(trace, bounds))
        except charts.Enough:
            pass
        title = _title(layout)
        found = [
            {
                "type": charts.named_type(series),
                "title": text(title) if len(by_axes) == 1 else "",
                "series": series,
                "x": _axis(layout, "x", axes, series),
                "y": _axis(layout, "y", axes, series),
            }
            for axes, series in list(by_axes.items())[: charts.MAX_CHARTS]
        ]
        return charts.figure(title, found, bounds.partial)
    except Exception:
        _log.debug("a figure's data can't be read", exc_info=True)
        return None


def _title(thing):
    title = thing.get("title") or ""
    return title.get("text", "") if isinstance(title, dict) else title


def _axis(layout, which, axes, series):
    name = axes["xy".index(which)]
    if all(each.pop(f"lies_{which}", False) for each in series):
        name = axes["yx".index(which)]  # of bars that lie, x is what they stand on
    axis = layout.get(f"{name[0]}axis{name[1:]}", {})
    scale = axis.get("type", "linear")
    if scale in ("-", "linear") and which == "x":
        places = [point[0] for each in series for point in each["points"]]
        if places and all(isinstance(x, str) for x in places):
            scale = "category"
    return charts.axis(_title(axis), scale)


_TYPES = {
    "bar": "bar",
    "pie": "pie",
    "box": "box",
    "violin": "box",
    "histogram": "histogram",
    "heatmap": "heatmap",
    "histogram2d": "heatmap",
    "contour": "heatmap",
    "imshow": "heatmap",
}


def _series(trace, bounds):
    kind = trace.get("type", "scatter")
    if kind in ("scatter", "scattergl"):
        drawn = trace.get("mode", "lines")
        kind = "area" if trace.get("fill", "none") != "none" else "line" if "lines" in drawn else "scatter"
    else:
        kind = _TYPES.get(kind, "other")
    series = {"type": kind, "name": text(trace.get("name")), "points": [], "total": 0}
    lies = trace.get("orientation") == "h" and kind in ("bar", "box")
    if kind == "pie":
        x, y = trace.get("labels", ()), trace.get("values", ())
    else:
        x, y = trace.get("x", ()), trace.get("y", ())
    if lies:
        x, y = y, x
        series["lies_x"] = series["lies_y"] = True
    if kind == "box":
        for name, values in bounds.first(_groups(series["name"], x, y).items(), charts.MAX_SERIES):
            box = _box(values)
            if box:
                yield {**series, "name": name, "box": box}
        return
    if kind in ("line", "scatter", "area", "bar", "pie"):
        if not x:
            x = range(len(y))
        series["total"] = total = min(len(x), len(y))
        series["points"] = [[place(x[i]), number(y[i])] for i in bounds.thinned(total)]
    yield series


def _groups(name, x, y):
    """The values of a trace by the box that they belong to."""
    if len(x) != len(y):
        return {name: y or x}
    groups = {}
    for at, value in zip(x, y):
        groups.setdefault(text(" ".join(filter(None, (name, text(at))))), []).append(value)
    return groups


def _box(values):
    """The quartiles, which plotly leaves to the browser."""
    import numpy

    values = numpy.asarray([value for value in map(number, values) if value is not None])
    if not len(values):
        return None
    q1, median, q3 = numpy.quantile(values, (0.25, 0.5, 0.75))
    reach = 1.5 * (q3 - q1)
    inside = values[(values >= q1 - reach) & (values <= q3 + reach)]
    outside = sorted(set(values.tolist()) - set(inside.tolist()))
    return {
        "min": number(inside.min()),
        "q1": number(q1),
        "median": number(median),
        "q3": number(q3),
        "max": number(inside.max()),
        "outliers": [number(value) for value in outside[: charts.MAX_OUTLIERS]],
    }
