package main

import "testing"

func TestFold(t *testing.T) {
	for name, want := range map[string]string{
		"seattle-weather":      "seattle_weather",
		"Sales 2024 (final)":   "sales_2024_final",
		"already_fine":         "already_fine",
		"a.b.c":                "a_b_c",
		"Übersicht – Q1":       "übersicht_q1",
		"売上 2024":              "売上_2024",
		"हिन्दी":               "हिन्दी",
		"--":                   "",
		"_2024_sales_":         "2024_sales",
		"Sales 2024 (final)  ": "sales_2024_final",
	} {
		if got := fold(name); got != want {
			t.Errorf("fold(%q) is %q, want %q", name, got, want)
		}
	}
}

func TestFindFile(t *testing.T) {
	files := []dataFile{
		{name: "seattle-weather.csv", stem: "seattle-weather"},
		{name: "a b.csv", stem: "a b"},
		{name: "a-b.csv", stem: "a-b"},
		{name: "A_B.csv", stem: "A_B"},
		{name: "--.csv", stem: "--"},
		{name: "x.csv", stem: "x"},
		{name: "x.parquet", stem: "x"},
	}
	for name, want := range map[string]string{
		"seattle_weather": "seattle-weather.csv",
		"Seattle_Weather": "seattle-weather.csv",
		"seattle-weather": "seattle-weather.csv",
		"A_B":             "A_B.csv", // exactly so called
		"a b":             "a b.csv",
		"nosuch":          "",
		"_":               "",
	} {
		got, err := findFile(name, files)
		if err != nil || (got == nil) != (want == "") || got != nil && got.name != want {
			t.Errorf("%q is %+v, %v, want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"x", "a_b"} {
		if got, err := findFile(name, files); err == nil {
			t.Errorf("%q is %+v, of several", name, got)
		}
	}
}
