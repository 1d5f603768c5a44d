# Sets R up for a log instead of a notebook page, and runs its kernel.
#
# Runs as the user; the code of the cells may change all of it.

options(
  # No colours and no links in what goes to a log.
  crayon.enabled = FALSE, cli.num_colors = 1L, cli.hyperlink = FALSE, cli.unicode = TRUE,
  cli.dynamic = FALSE, readr.show_progress = FALSE, dplyr.show_progress = FALSE,
  # Figures as Python's: 1,152 × 720 points of a screen, sharp on a phone.
  repr.plot.width = 8, repr.plot.height = 5, repr.plot.res = 144,
  jupyter.plot_mimetypes = "image/png",
  # Of a table 50 rows.
  repr.matrix.max.rows = 50, repr.matrix.max.cols = 50,
  jupyter.display_mimetypes = c(
    "text/plain", "text/html", "text/markdown", "text/latex", "application/json",
    "application/vnd.threadbook.table+json", "image/png", "image/svg+xml"
  ),
  # Nothing can be downloaded, and nobody can be asked where from.
  repos = c(CRAN = "http://no-network.invalid"), menu.graphics = FALSE, pkgType = "source",
  width = 120, scipen = 7, digits.secs = 3, warn = 1
)

# Help pages in plain letters: R would strike them over, as for a typewriter.
invisible(tools::Rd2txt_options(underline_titles = FALSE))

local({
  method <- function(generic, class, run) registerS3method(generic, class, run, asNamespace("repr"))

  # Each value comes as text, and tables as HTML too. The other forms that repr makes of
  # values are for pages that set them.
  nothing <- function(obj, ...) NULL
  for (class in c("logical", "integer", "numeric", "complex", "character", "factor", "list",
                  "Date", "POSIXct", "function", "packageIQR", "help_files_with_topic")) {
    for (generic in c("repr_html", "repr_markdown", "repr_latex")) method(generic, class, nothing)
  }
  for (class in c("data.frame", "matrix", "array")) {
    for (generic in c("repr_markdown", "repr_latex")) method(generic, class, nothing)
  }

  # As text a data frame is what R prints, with its size.
  method("repr_text", "data.frame", function(obj, ..., rows = getOption("repr.matrix.max.rows")) {
    shape <- sprintf("%s rows \u00d7 %s columns", format(nrow(obj), big.mark = ","), ncol(obj))
    if (nrow(obj) > rows) shape <- sprintf("%s, the first %d rows shown", shape, rows)
    shown <- utils::capture.output(print(as.data.frame(utils::head(obj, rows))))
    paste(c(shown, sprintf("(%s)", shape)), collapse = "\n")
  })

  # Of one with lists or matrices for columns repr makes no HTML, but an error.
  html <- utils::getS3method("repr_html", "data.frame", envir = asNamespace("repr"))
  method("repr_html", "data.frame", function(obj, ...) {
    if (ncol(obj) > 0) tryCatch(html(obj, ...), error = function(e) NULL)
  })

  ours <- new.env(parent = baseenv())
  sys.source("/opt/threadbook/agent/languages/r/tables.R", ours)
  mimes <- c(repr::mime2repr, list("application/vnd.threadbook.table+json" = ours$threadbook_table))
  utils::assignInNamespace("mime2repr", mimes, "repr")
})

# What IRkernel::main() does, but for one thing: readline() fails, where it would wait for an
# answer that nobody can give, and not even let itself be interrupted.
local({
  kernel <- IRkernel:::Kernel$new(connection_file = commandArgs(TRUE)[[1]])
  kernel$executor$handle_stdin <- function() {
    stop("nobody can type into a running cell: put the value into the code instead", call. = FALSE)
  }
  kernel$run()
})
