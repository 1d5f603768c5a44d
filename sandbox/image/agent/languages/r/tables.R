# Data frames as their first rows for programs, beside the text and the HTML: the same as
# Python's languages/python/tables.py makes, which says what is in it.
#
# It is text of its own in the message, since IRkernel writes numbers with four decimals.

threadbook_table <- local({
  max_rows <- 50
  max_columns <- 50
  max_text <- 200

  clipped <- function(words) {
    long <- !is.na(words) & nchar(words) > max_text
    words[long] <- paste0(substr(words[long], 1, max_text - 1), "\u2026")
    words
  }

  type_of <- function(values) {
    if (!is.null(dim(values))) "other"
    else if (inherits(values, c("Date", "POSIXct"))) "date"
    else if (inherits(values, "difftime")) "duration"
    else if (is.factor(values) || is.character(values)) "string"
    else if (is.logical(values)) "boolean"
    else if (inherits(values, "integer64")) "integer"
    else if (is.integer(values)) "integer"
    else if (is.numeric(values)) "number"
    else "other"
  }

  # A column's values, each as a list's element: NA, which becomes null, or what it is.
  cells_of <- function(values, type) {
    if (inherits(values, "POSIXct")) values <- sub(" 00:00:00$", "", format(values, "%Y-%m-%d %H:%M:%S"))
    found <- switch(type,
      boolean = as.list(as.logical(values)),
      integer = if (is.integer(values)) as.list(values) else as.list(as.character(values)),
      number = lapply(as.numeric(values), function(n) if (is.infinite(n)) as.character(n) else n),
      date = as.list(as.character(values)),
      duration = as.list(format(values)),
      string = as.list(clipped(as.character(values))),
      lapply(seq_len(NROW(values)), function(i) {
        value <- if (!is.null(dim(values))) values[i, ] else values[[i]]
        clipped(toString(unlist(value)))
      })
    )
    lapply(found, function(cell) if (length(cell) != 1 || is.na(cell)) NA else cell)
  }

  function(obj, ...) {
    if (!is.data.frame(obj)) return(NULL)
    shape <- dim(obj)
    shown <- as.data.frame(utils::head(obj, max_rows))
    shown <- shown[seq_len(min(ncol(shown), max_columns))]
    columns <- cells <- list()
    if (.row_names_info(obj) > 0) {
      columns <- list(list(name = "", type = "string", index = TRUE))
      cells <- list(cells_of(row.names(shown), "string"))
    }
    for (i in seq_along(shown)) {
      type <- type_of(shown[[i]])
      columns <- c(columns, list(list(name = clipped(names(shown)[[i]]), type = type)))
      cells <- c(cells, list(cells_of(shown[[i]], type)))
    }
    rows <- lapply(seq_len(nrow(shown)), function(row) lapply(cells, `[[`, row))
    as.character(jsonlite::toJSON(
      list(columns = columns, rows = rows, shape = as.list(shape)),
      auto_unbox = TRUE, digits = NA, na = "null"
    ))
  }
})
