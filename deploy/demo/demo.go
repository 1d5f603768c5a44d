// Package demo holds the data set of the demo's first thread; README.md beside
// it names its source.
package demo

import _ "embed"

// SeattleWeather is a CSV of daily weather, 1,461 rows.
//
//go:embed seattle-weather.csv
var SeattleWeather []byte
