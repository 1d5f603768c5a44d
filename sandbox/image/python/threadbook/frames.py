"""How much of a data frame pandas writes out.

Frames of up to 50 rows are written whole and of longer ones the beginning and
the end, always with the shape: more of a table than that is read by nobody,
and the model pays for each row. Code that sets options of its own has them.
"""

MAX_ROWS = 50
ROWS_OF_LONGER = 20


def patch(module):
    config = module.cf
    config.set_option("display.max_rows", MAX_ROWS)
    config.set_option("display.min_rows", ROWS_OF_LONGER)
    config.set_option("display.show_dimensions", True)
