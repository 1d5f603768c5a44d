"""Keeps what pies and box plots were drawn from, for the data of a figure.

matplotlib keeps of a pie the angles and of a box plot the strokes; the values
are gone. So the axes remember them, beside the artists made of them: these
tell later whether the chart is still there. Read by the Python kernel's
figures.py.
"""

import functools

MAX_KEPT = 200  # wedges or boxes of one call, and calls of one axes


def patch(module):
    axes = module.Axes
    axes.pie = _keeping(axes.pie, _pie)
    axes.bxp = _keeping(axes.bxp, _boxes)


def _keeping(stock, describe):
    @functools.wraps(stock)
    def drawn(self, *args, **kwargs):
        result = stock(self, *args, **kwargs)
        try:
            kept = self.__dict__.setdefault("_threadbook_given", [])
            if len(kept) < MAX_KEPT:
                kept.append(describe(result, *args, **kwargs))
        except Exception:
            pass  # the chart is drawn; only its data is not known
        return result

    return drawn


def _pie(result, x, explode=None, labels=None, *_, **__):
    if labels is not None:
        labels = [str(label) for label in list(labels)[:MAX_KEPT]]
    return "pie", ([float(value) for value in list(x)[:MAX_KEPT]], labels), list(result[0])


def _boxes(result, bxpstats, positions=None, *_, **__):
    stats = list(bxpstats)[:MAX_KEPT]
    if positions is None:
        positions = range(1, len(stats) + 1)
    told = [((each.get("label", ""), float(at)), each) for each, at in zip(stats, positions)]
    return "box", told, [artist for artists in result.values() for artist in artists]
