package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"threadbook/deploy/demo"
	"threadbook/sessions"
	"threadbook/worker/agenttest"
)

const (
	demoThread = sessions.ThreadID("web:demo")
	demoFile   = "seattle-weather.csv"

	scriptedBanner = "No model is set, so three prepared questions are answered by a script; your own code runs for real: send a ``` fence. Set OPENAI_API_KEY or OPENAI_BASE_URL for a model."
	scriptedNote   = "\n\n*This answer is scripted: no model is set. The code above ran for real in the sandbox.*"
)

// The questions of the demo.
const (
	askWettest = "Which month is the wettest in Seattle?"
	askChart   = "Show how the temperature changes over the year."
	askSheet   = "Make a spreadsheet with a summary for each year."
)

// prepareDemo makes the first thread: a data set, and questions to click. A
// thread that is there already is left as it is.
func prepareDemo(ctx context.Context, store sessions.Store, blobs sessions.Blobs) error {
	lease, err := store.Lease(ctx, demoThread, "demo")
	if sessions.CodeOf(err) == sessions.Busy {
		return nil
	}
	if err != nil {
		return err
	}
	err = fillDemo(ctx, store, blobs, lease)
	return errors.Join(err, lease.Drop(ctx))
}

func fillDemo(ctx context.Context, store sessions.Store, blobs sessions.Blobs, lease sessions.Lease) error {
	if events, err := store.Read(ctx, demoThread, 0, 1, 0); err != nil || len(events) > 0 {
		return err
	}
	blob, size, err := blobs.Put(ctx, demoThread, bytes.NewReader(demo.SeattleWeather), int64(len(demo.SeattleWeather)))
	if err != nil {
		return err
	}
	file := &sessions.File{Path: demoFile, Size: size, SHA256: blob, MIME: "text/csv", Blob: blob}
	if _, err := lease.Append(ctx, 0, file); err != nil {
		return err
	}
	_, _, err = store.Submit(ctx, demoThread, &sessions.Question{ID: "demo",
		Text: "Seattle's weather, 2012 to 2015\n\nA thread to begin with: four years of daily weather are in its workspace. " +
			"Ask something, or click one of these.",
		Options: []string{askWettest, askChart, askSheet}})
	return err
}

// scriptedModel is the demo's stand-in for a model, a server on loopback.
type scriptedModel struct {
	server *http.Server
	url    string
}

func startScripted() (*scriptedModel, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the demo's scripted model: %w", err)
	}
	s := &scriptedModel{server: &http.Server{Handler: agenttest.Handler(demoScript), ReadHeaderTimeout: readHeaderTimeout}, url: "http://" + l.Addr().String() + "/v1"}
	go s.server.Serve(l) // ends with close
	return s, nil
}

func (s *scriptedModel) close() error { return s.server.Close() }

// demoScript answers the three questions, a step at a time. The first begins
// with a mistake, as models do, and mends it.
func demoScript(r agenttest.Request) agenttest.Reply {
	question, step := r.LastUser()
	run := func(say, code string) agenttest.Reply {
		return agenttest.Reply{Text: say, Calls: []agenttest.Call{{Name: "run_code", Arguments: map[string]string{"language": "python", "code": code}}}}
	}
	var steps []agenttest.Reply
	switch {
	case strings.Contains(question, askWettest):
		steps = []agenttest.Reply{
			run("I'll add up the rain of each month.", wettestWrong),
			run("There is no column of that name; it is called `precipitation`. Once more:", wettestRight),
			{Text: "November to January are the wet season. By month, over the four years:\n\n" + fence(r.LastResult()) + scriptedNote},
		}
	case strings.Contains(question, askChart):
		steps = []agenttest.Reply{
			run("I'll draw the daily highs and lows, averaged over the four years.", temperatureChart),
			{Text: "The chart shows each day of the year averaged over 2012 to 2015: lows stay above freezing on average, and the highs peak around early August." + scriptedNote},
		}
	case strings.Contains(question, askSheet):
		steps = []agenttest.Reply{
			run("I'll sum up each year and write it to a workbook.", yearSheet),
			{Text: "The workbook is in the thread. It holds:\n\n" + fence(r.LastResult()) + scriptedNote},
		}
	default:
		return agenttest.Reply{Text: "I am a script and know three questions alone: “" + askWettest + "”, “" + askChart + "” and “" + askSheet +
			"”. Your own code runs for real: send a ``` fence. For answers to anything else set `OPENAI_API_KEY` or `OPENAI_BASE_URL`." + scriptedNote}
	}
	return steps[min(step, len(steps)-1)]
}

// fence quotes the output of a cell, without the lines about files.
func fence(result string) string {
	text, _, _ := strings.Cut(result, "\n[")
	return "```text\n" + strings.TrimSpace(text) + "\n```"
}

const wettestWrong = `import pandas as pd

weather = pd.read_csv("seattle-weather.csv", parse_dates=["date"])
weather.groupby(weather["date"].dt.month)["rain"].sum()`

const wettestRight = `monthly = (
    weather.groupby(weather["date"].dt.month_name(), sort=False)["precipitation"]
    .agg(total_mm="sum", wet_days=lambda p: (p > 0).sum())
    .sort_values("total_mm", ascending=False)
    .round(1)
)
monthly.index.name = None
print(monthly.head(6).to_string())`

const temperatureChart = `import matplotlib.pyplot as plt
import pandas as pd

weather = pd.read_csv("seattle-weather.csv", parse_dates=["date"])
daily = weather.groupby(weather["date"].dt.dayofyear)[["temp_min", "temp_max"]].mean()
smooth = daily.rolling(7, center=True, min_periods=1).mean()
days = pd.to_datetime("2013-01-01") + pd.to_timedelta(smooth.index - 1, unit="D")

fig, ax = plt.subplots(figsize=(9, 4.5))
ax.fill_between(days, smooth["temp_min"], smooth["temp_max"], color="#f59e0b", alpha=0.25, label="between low and high")
ax.plot(days, smooth["temp_max"], color="#dc2626", label="daily high")
ax.plot(days, smooth["temp_min"], color="#2563eb", label="daily low")
ax.set_title("Seattle: daily temperature, mean of 2012 to 2015")
ax.set_ylabel("Temperature (°C)")
ax.xaxis.set_major_formatter(plt.matplotlib.dates.DateFormatter("%b"))
ax.grid(alpha=0.3)
ax.legend(frameon=False)
plt.show()`

const yearSheet = `import os
import pandas as pd

weather = pd.read_csv("seattle-weather.csv", parse_dates=["date"])
years = weather.groupby(weather["date"].dt.year).agg(
    days=("date", "count"),
    rain_mm=("precipitation", "sum"),
    wet_days=("precipitation", lambda p: int((p > 0).sum())),
    hottest=("temp_max", "max"),
    coldest=("temp_min", "min"),
).round(1)
years.index.name = "year"
os.makedirs("outputs", exist_ok=True)
years.to_excel("outputs/seattle-by-year.xlsx", sheet_name="by year")
print(years.to_string())`
