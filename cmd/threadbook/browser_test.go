package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
)

// The README's picture is made by
// go test ./cmd/threadbook -run TestBrowser -picture ../../deploy/demo/thread.png
var picture = flag.String("picture", "", "write a picture of the demo's thread into this file")

// TestBrowser is a person at the page of the demo: clicks the three questions,
// sees the chart and the workbook appear, drops a CSV, runs a cell on it, downloads the file it wrote,
// and finds all of it again after a reload.
func TestBrowser(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.Demo = true
	r := start(t, c)
	t.Cleanup(func() { removeSandbox(t, c, r.fleet, demoThread) })
	ctx := newBrowser(t)

	// do takes a step, and keeps a picture of the page where that fails.
	do := func(what string, steps ...step) {
		t.Helper()
		err := chromedp.Do(ctx, chromedp.Steps(steps...))
		if err == nil {
			return
		}
		failure := filepath.Join(os.TempDir(), "threadbook-browser-test.png")
		if shot, shotErr := chromedp.Run(ctx, chromedp.CaptureScreenshot()); shotErr == nil {
			os.WriteFile(failure, shot, 0o644) // a help for people; the test fails anyway
		}
		t.Fatalf("%s: %v (a picture of the page: %s)", what, err, failure)
	}
	do("opening the demo", chromedp.Navigate("http://"+r.Addr()+"/t/"+string(demoThread)), says("main", askChart))
	do("the first question", click(askWettest), says("main", "KeyError"), says("main", "This answer is scripted"))
	do("the chart", click(askChart), figure, says("main", "peak around early August"))
	if *picture != "" {
		do("the picture", chromedp.EmulateViewport(1180, 1000, chromedp.EmulateScale(1.5)),
			js(`document.querySelector("main img").closest(".cell, article, section").scrollIntoView({block: "start"})`),
			chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
				data, err := chromedp.CaptureScreenshot()(ctx, target)
				if err != nil {
					return err
				}
				return os.WriteFile(*picture, data, 0o644)
			}))
	}

	do("the file", click(askSheet), says("main a", "seattle-by-year.xlsx"), says("main", "The workbook is in the thread"))

	// A drop of a file on the page, and a direct cell on it.
	do("dropping a file", js(`{
		const data = new DataTransfer();
		data.items.add(new File(["city,people\nParis,2102650\nLyon,520774\n"], "cities.csv", {type: "text/csv"}));
		for (const kind of ["dragenter", "dragover", "drop"])
			document.querySelector("main").dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
	}`), says("body", "cities.csv"))
	code := "```python\nimport pandas as pd, os\nc = pd.read_csv('cities.csv')\nos.makedirs('outputs', exist_ok=True)\n" +
		"c.assign(share=c.people / c.people.sum()).to_csv('outputs/shares.csv', index=False)\nc\n```"
	do("a cell on it",
		js(`{ const box = document.querySelector("textarea"); box.value = `+quoteJS(code)+`; box.dispatchEvent(new Event("input", {bubbles: true})); }`),
		chromedp.SendKeys(chromedp.CSS("textarea"), "\r"), says("main table", "520774"), says("main a", "shares.csv"))
	do("a reload", chromedp.Reload(), says("main table", "520774"), figure, says("main a", "shares.csv"))

	downloads := t.TempDir()
	finished := make(chan string, 1)
	if err := chromedp.ListenBrowser(ctx, func(ev any) {
		if d, ok := ev.(*browser.EventDownloadProgress); ok && d.State == browser.DownloadProgressStateCompleted {
			finished <- d.GUID
		}
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.CallBrowser(ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: "allowAndName", DownloadPath: downloads, EventsEnabled: new(true)}); err != nil {
		t.Fatal(err)
	}
	do("a download", js(`[...document.querySelectorAll("main a")].findLast(a => a.innerText.includes("shares.csv")).click()`))
	select {
	case guid := <-finished:
		data, err := os.ReadFile(filepath.Join(downloads, guid))
		if err != nil || !strings.HasPrefix(string(data), "city,people,share\nParis,2102650,0.8") {
			t.Errorf("the download is %q, %v", data, err)
		}
	case <-ctx.Done():
		t.Error("the download did not end")
	}
}

type step = chromedp.Action[chromedp.Void]

// says waits until an element that matches has the words.
func says(selector, words string) step {
	return until(`[...document.querySelectorAll(` + quoteJS(selector) + `)].some(e => e.innerText.includes(` + quoteJS(words) + `))`)
}

// figure waits until a figure is shown.
var figure = until(`[...document.querySelectorAll("main img")].some(i => i.complete && i.naturalWidth > 300)`)

// click presses the button with the words.
func click(words string) step {
	return js(`[...document.querySelectorAll("button")].find(b => b.innerText.includes(` + quoteJS(words) + `)).click()`)
}

func js(code string) step { return chromedp.Evaluate[chromedp.Void](code) }

// until waits for a JavaScript expression to become true.
func until(expr string) step {
	wait := chromedp.Poll[chromedp.Void](expr, chromedp.WithPollingTimeout(patience))
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := wait(ctx, target)
		if err != nil {
			err = fmt.Errorf("waiting for %s: %w", expr, err)
		}
		return chromedp.Void{}, err
	}
}

// quoteJS writes a text as JavaScript does.
func quoteJS(text string) string {
	data, err := json.Marshal(text)
	if err != nil {
		panic(err) // texts always marshal
	}
	return string(data)
}

// newBrowser starts a headless Chromium that asks nobody anything.
func newBrowser(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1180, 900),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true), chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		chromedp.Cancel(ctx) // waits for the browser, whose folder is removed next
		cancel()
	})
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("starting Chromium (deploy/setup.sh test installs it): %v", err)
	}
	ctx, cancel = context.WithTimeout(ctx, 2*patience)
	t.Cleanup(cancel)
	return ctx
}
