"""What the sandbox adds to Python's libraries, as Debian has them.

    hooks    applies the others, each when the library it is for is imported
    parquet  pandas reads and writes Parquet, through DuckDB (writing, wire)
    fonts    matplotlib finds a font for every character
    shaping  and sets scripts that need more than a letter after the other
    given    pies and box plots keep the values they were drawn from
    frames   data frames are written out up to 50 rows, with their shape

None of it is for cells to import.
"""
