"""Loads what most cells use, before there is a cell.

Runs inside the kernel, in a namespace of its own, so that no name of the user's
is set. Importing is not all: the first chart and the first table each load much
more, so both are made here and thrown away.
"""

import io

import matplotlib.figure
import matplotlib.pyplot as plt
import matplotlib_inline.backend_inline  # sets itself up in the shell as it is imported
import pandas

_figure = matplotlib.figure.Figure()
_figure.add_subplot(title="a").plot([1, 3, 2], label="b")
_figure.axes[0].legend()
_figure.savefig(io.BytesIO(), format="png", bbox_inches="tight")

_table = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
_table.groupby("b").sum()
_table.to_html()
repr(_table)
pandas.read_csv(io.StringIO("a,b\n1,x\n"))

assert not plt.get_fignums()
