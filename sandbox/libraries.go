package sandbox

import (
	_ "embed"
	"strings"
)

//go:embed image/libraries.txt
var libraries string

// Libraries says in a few lines, for a model, what the languages of the
// sandbox's image have. sandbox/image/list.sh makes it from the image.
func Libraries() string { return strings.TrimSpace(libraries) }
