package web

import (
	"os"
	"strings"
	"testing"
	"time"

	"threadbook/sessions"
)

// scene fills a thread with what a real one holds, so that the page can be
// looked at: a question with a file, a cell that fails and is mended, a
// table, a chart, files, a direct cell, a notice, a question to people.
func scene(t *testing.T, f *fixture, thread sessions.ThreadID) {
	t.Helper()
	at := time.Now().Add(-26 * time.Minute)
	f.store.now = func() time.Time { at = at.Add(400 * time.Millisecond); return at }
	defer func() { f.store.now = time.Now }()
	csv := strings.Repeat("2012-01-01,0.0,12.8,5.0,4.7,drizzle\n", 1461)
	csvBlob := f.blobs.put(t, thread, []byte(csv))
	chart := readTestdata(t, "chart.png")
	chartBlob := f.blobs.put(t, thread, chart)
	out := func(o sessions.CellOutput) *sessions.CellOutput { return &o }

	submit(t, f, thread, &sessions.Message{User: visitor, Key: "1",
		Text:  "How has the weather in Seattle changed over these four years? Compare the kinds of days, and draw the monthly highs.",
		Files: []sessions.Attachment{{Name: "seattle-weather.csv", Size: 48219, MIME: "text/csv", Blob: csvBlob}}})
	f.store.append(thread, 1,
		&sessions.TurnStarted{Messages: []int64{1}},
		&sessions.File{Path: "seattle-weather.csv", Size: 48219, MIME: "text/csv", Blob: csvBlob, Message: 1},
		&sessions.Reply{Text: "I'll load the file and compare the kinds of days first.", Calls: []sessions.Call{{ID: "a", Name: "list_files", Arguments: "{}"}, {ID: "b", Name: "run_code"}}},
		&sessions.CellStarted{Cell: 1, Language: "python", By: sessions.ByModel, Code: "import pandas as pd\n\nweather = pd.read_csv(\"seattle-weather.csv\", parse_dates=[\"date\"])\nweather.groupby(\"weather\").agg(days=(\"tmax\", \"size\"), mean_max=(\"tmax\", \"mean\"))"},
		&sessions.CellFinished{Cell: 1, Status: "error", Seconds: 0.61, State: sessions.StateKept, Error: &sessions.CellError{
			Name: "KeyError", Value: "\"Column(s) ['tmax'] do not exist\"",
			Traceback: "---------------------------------------------------------------------------\nKeyError                                  Traceback (most recent call last)\nCell In[1], line 4\n      1 import pandas as pd\n      3 weather = pd.read_csv(\"seattle-weather.csv\", parse_dates=[\"date\"])\n----> 4 weather.groupby(\"weather\").agg(days=(\"tmax\", \"size\"), mean_max=(\"tmax\", \"mean\"))\n\nKeyError: \"Column(s) ['tmax'] do not exist\""}},
		&sessions.Reply{Text: "The column is called `temp_max`. Again, with the right names:", Calls: []sessions.Call{{ID: "c", Name: "run_code"}}},
		&sessions.CellStarted{Cell: 2, Language: "python", By: sessions.ByModel, Code: "by_kind = weather.groupby(\"weather\").agg(\n    days=(\"temp_max\", \"size\"),\n    mean_max=(\"temp_max\", \"mean\"),\n    mean_min=(\"temp_min\", \"mean\"),\n    rain_mm=(\"precipitation\", \"sum\"),\n    wind=(\"wind\", \"mean\"),\n).round(2)\nprint(f\"{len(weather):,} days, {weather.date.min():%d %b %Y} to {weather.date.max():%d %b %Y}\")\nby_kind  # one row a kind of day"},
		out(sessions.CellOutput{Cell: 2, Stream: "stdout", Text: "1,461 days, 01 Jan 2012 to 31 Dec 2015\n"}),
		out(sessions.CellOutput{Cell: 2, Stream: "stderr", Text: "FutureWarning: the default of observed=False is deprecated\n"}),
		out(sessions.CellOutput{Cell: 2, MIME: "text/plain", Display: 1, Text: "         days  mean_max"}),
		out(sessions.CellOutput{Cell: 2, MIME: "text/html", Display: 1, Text: string(readTestdata(t, "weather.html"))}),
		&sessions.CellFinished{Cell: 2, Status: "ok", Seconds: 0.08, State: sessions.StateKept},
		&sessions.Reply{Text: "Now the chart, and a workbook of the monthly figures.", Calls: []sessions.Call{{ID: "d", Name: "run_code"}}},
		&sessions.CellStarted{Cell: 3, Language: "python", By: sessions.ByModel, Code: chartCode},
		out(sessions.CellOutput{Cell: 3, MIME: "text/plain", Display: 2, Text: "<Figure size 880x418 with 1 Axes>"}),
		out(sessions.CellOutput{Cell: 3, MIME: "image/png", Display: 2, Blob: chartBlob, Size: int64(len(chart))}),
		&sessions.File{Path: "outputs/monthly.xlsx", Size: 9120, MIME: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", Blob: csvBlob, Cell: 3},
		&sessions.File{Path: "outputs/by-kind.csv", Size: 214, MIME: "text/csv", Blob: csvBlob, Cell: 3, Title: "Kinds of days"},
		&sessions.CellFinished{Cell: 3, Status: "ok", Seconds: 1.34, State: sessions.StateKept},
		&sessions.Reply{Text: answerText},
		&sessions.TurnFinished{Status: sessions.TurnOK, Seconds: 14.2, Tokens: sessions.Tokens{In: 8210, Out: 934, Cached: 6144}, CostUSD: 0.014},
	)
	at = at.Add(9 * time.Minute)
	m := submit(t, f, thread, &sessions.Message{User: sessions.User{ID: "U2", Name: "Noor Haddad"}, Key: "2",
		Text: "```python\nfor day in weather.itertuples():\n    print(day.date.date(), day.weather)\n```"})
	lines := "2012-01-01 drizzle\n" + strings.Repeat("2012-01-02 rain\n2012-01-03 rain\n2012-01-04 sun\n", 60)
	f.store.append(thread, 2,
		&sessions.TurnStarted{Messages: []int64{m.Seq}},
		&sessions.CellStarted{Cell: 4, Language: "python", By: sessions.ByUser, Code: "for day in weather.itertuples():\n    print(day.date.date(), day.weather)"},
		out(sessions.CellOutput{Cell: 4, Stream: "stdout", Text: lines}),
		&sessions.CellFinished{Cell: 4, Status: "ok", Seconds: 0.02, State: sessions.StateKept},
		&sessions.TurnFinished{Status: sessions.TurnOK, Seconds: 0.3},
	)
	at = at.Add(12 * time.Minute)
	m = submit(t, f, thread, &sessions.Message{User: visitor, Key: "3", Text: "Can you forecast 2016 from this?"})
	f.store.append(thread, 3,
		&sessions.TurnStarted{Messages: []int64{m.Seq}},
		&sessions.Notice{Code: "resumed", Text: "The sandbox was asleep and is back, with all its variables."},
		&sessions.Reply{Text: "Four years are little for a forecast, so it depends on what you need it for.", Calls: []sessions.Call{{ID: "e", Name: "ask_user"}}},
		&sessions.Question{ID: "q1", Text: "Which would help you most?", Options: []string{"A seasonal baseline with a range", "A model of daily highs", "Only the chance of rain by month"}},
		&sessions.TurnFinished{Status: sessions.TurnOK, Seconds: 3.1, Tokens: sessions.Tokens{In: 9400, Out: 88}},
	)
}

const chartCode = `import matplotlib.pyplot as plt

monthly = weather.groupby([weather.date.dt.month, weather.date.dt.year]).temp_max.mean().unstack()
fig, ax = plt.subplots(figsize=(8, 3.8), dpi=110)
for year in monthly.columns:
    ax.plot(monthly.index, monthly[year], marker="o", ms=3, label=str(year))
ax.set_xticks(range(1, 13), "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())
ax.set_ylabel("°C")
ax.set_title("Seattle: mean daily maximum by month")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
ax.grid(alpha=0.25)
fig.tight_layout()

monthly.to_excel("outputs/monthly.xlsx")
by_kind.to_csv("outputs/by-kind.csv")

if monthly[2015].mean() > monthly[2012].mean():
    warmer = round(float(monthly[2015].mean() - monthly[2012].mean()), 1)
    # A difference of means, no trend: four years are too few for one.
    note = f"{warmer} degrees warmer"
else:
    note = "no warmer"
plt.show()`

const answerText = `**2015 was the warmest of the four years**, by 2.2 °C over 2012 in the mean daily high, and most of that lies in the months from January to July.

| Kind of day | Days | Mean high | Rain |
|:--|--:|--:|--:|
| rain | 641 | 13.5 °C | 4,204 mm |
| sun | 640 | 19.9 °C | – |
| fog | 101 | 16.8 °C | – |

- Rain and sun share the days almost evenly, and all but 5 % of the precipitation falls on days of *rain*.
- The spread between years is widest in **February**, when 2015 was 3.9 °C above 2012.

The monthly figures are in [monthly.xlsx](sandbox:/mnt/data/outputs/monthly.xlsx), the kinds of days in ` + "`by-kind.csv`" + `.`

func submit(t *testing.T, f *fixture, thread sessions.ThreadID, m *sessions.Message) sessions.Event {
	t.Helper()
	ev, _, err := f.store.Submit(t.Context(), thread, m)
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

func readTestdata(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
