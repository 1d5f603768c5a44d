package sandbox

import (
	"errors"
	"fmt"
)

// The types of an Output whose Data is for programs: the JSON of a Table and
// of a Figure. They come with representations for people, in one Display.
const (
	TableMIME = "application/vnd.threadbook.table+json"
	ChartMIME = "application/vnd.threadbook.chart+json"
)

// What a Table or a Figure may hold; the agent stays well below.
const (
	maxRows    = 100
	maxColumns = 100
	maxCharts  = 32
	maxSeries  = 64
	maxPoints  = 1000 // of a series, and outliers of a box
)

// A Table is the beginning of a data frame.
type Table struct {
	Columns []Column `json:"columns"`
	Rows    [][]any  `json:"rows"`  // numbers, booleans, strings and nil
	Shape   [2]int64 `json:"shape"` // rows and columns in all, without the index
}

// A Column is one of a Table.
type Column struct {
	Name  string `json:"name"`
	Type  string `json:"type"` // integer, number, boolean, string, date, duration or other
	Index bool   `json:"index,omitempty"`
}

// A Figure is the data of a chart, or of several drawn together.
type Figure struct {
	Title   string  `json:"title"`
	Alt     string  `json:"alt"` // what it shows, in a sentence or some
	Charts  []Chart `json:"charts"`
	Partial bool    `json:"partial,omitempty"` // there is more in it than Charts has
}

// A Chart is what stands on one pair of axes. For bars that lie X is still
// what they stand on.
type Chart struct {
	// Type is line, bar, scatter, pie, box, histogram, area, heatmap, mixed or
	// other. Only the first six have points or boxes; a reader must do with
	// none of any.
	Type   string   `json:"type"`
	Title  string   `json:"title"`
	X      Axis     `json:"x"`
	Y      Axis     `json:"y"`
	Series []Series `json:"series"`
}

// An Axis is that of "Price (€)" with the label Price and the unit €.
type Axis struct {
	Label string `json:"label"`
	Unit  string `json:"unit"`
	Scale string `json:"scale"` // linear, log, date, category or another word
}

// Series are points, or a box.
type Series struct {
	Type string `json:"type"` // as of a Chart
	Name string `json:"name"`
	// Points are pairs of x, a number or for dates (ISO 8601) and categories
	// a string, and y, a number; either may be nil.
	Points [][2]any `json:"points"`
	Total  int64    `json:"total"` // points before they were thinned out
	Box    *Box     `json:"box,omitempty"`
}

// A Box is one of a box plot.
type Box struct {
	Min      *float64   `json:"min"` // the ends of the whiskers
	Q1       *float64   `json:"q1"`
	Median   *float64   `json:"median"`
	Q3       *float64   `json:"q3"`
	Max      *float64   `json:"max"`
	Outliers []*float64 `json:"outliers,omitempty"`
}

var errData = errors.New("not the data of a table or a figure")

// Tidy passes all text through clean and fails where the table isn't one.
func (t *Table) Tidy(clean func(string) string) error {
	if len(t.Rows) > maxRows || len(t.Columns) > maxColumns || t.Shape[0] < int64(len(t.Rows)) || t.Shape[1] < 0 {
		return fmt.Errorf("%w: %d rows, %d columns of %v", errData, len(t.Rows), len(t.Columns), t.Shape)
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		c.Name, c.Type = clean(c.Name), clean(c.Type)
	}
	for _, row := range t.Rows {
		if len(row) != len(t.Columns) {
			return fmt.Errorf("%w: a row of %d cells under %d columns", errData, len(row), len(t.Columns))
		}
		if err := tidyAll(row, clean); err != nil {
			return err
		}
	}
	return nil
}

// Tidy passes all text through clean and fails where the figure isn't one.
func (f *Figure) Tidy(clean func(string) string) error {
	if len(f.Charts) > maxCharts {
		return fmt.Errorf("%w: %d charts", errData, len(f.Charts))
	}
	f.Title, f.Alt = clean(f.Title), clean(f.Alt)
	for i := range f.Charts {
		if err := f.Charts[i].tidy(clean); err != nil {
			return err
		}
	}
	return nil
}

func (c *Chart) tidy(clean func(string) string) error {
	if len(c.Series) > maxSeries {
		return fmt.Errorf("%w: %d series", errData, len(c.Series))
	}
	for _, s := range []*string{&c.Type, &c.Title, &c.X.Label, &c.X.Unit, &c.X.Scale, &c.Y.Label, &c.Y.Unit, &c.Y.Scale} {
		*s = clean(*s)
	}
	for i := range c.Series {
		s := &c.Series[i]
		s.Type, s.Name = clean(s.Type), clean(s.Name)
		if len(s.Points) > maxPoints || s.Total < int64(len(s.Points)) || s.Box != nil && len(s.Box.Outliers) > maxPoints {
			return fmt.Errorf("%w: %d points of %d", errData, len(s.Points), s.Total)
		}
		for j := range s.Points {
			if err := tidyAll(s.Points[j][:], clean); err != nil {
				return err
			}
			if _, ok := s.Points[j][1].(string); ok {
				return fmt.Errorf("%w: a point that stands at words", errData)
			}
		}
	}
	return nil
}

// tidyAll cleans values that are to be text, numbers, booleans or nil.
func tidyAll(values []any, clean func(string) string) error {
	for i, v := range values {
		switch v := v.(type) {
		case nil, bool, float64:
		case string:
			values[i] = clean(v)
		default:
			return fmt.Errorf("%w: a %T in it", errData, v)
		}
	}
	return nil
}
