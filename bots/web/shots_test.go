package web

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"threadbook/sessions"
)

// TestShots takes the page through its shapes: light and dark, wide and narrow.
// With a folder it keeps the pictures by which the page is judged:
//
//	go test ./bots/web -run TestShots -shots /tmp/shots
func TestShots(t *testing.T) {
	if *shots == "" {
		*shots = t.TempDir()
	}
	f := serve(t, func(c *Config) {
		c.Version = "0.1.0"
		c.Banner = "No model is set: cells run, questions are not answered. Set OPENAI_API_KEY or OPENAI_BASE_URL and restart."
	})
	const thread = sessions.ThreadID("web:seattle")
	for id, title := range map[sessions.ThreadID]string{"web:a1": "Which suppliers ship late?", "web:a2": "Clean up the customer export", "web:a3": "Bird strikes by airport and season"} {
		f.store.now = func() time.Time { return time.Now().Add(-time.Duration(id[5]-'0') * 30 * time.Hour) }
		submit(t, f, id, &sessions.Message{User: visitor, Text: title, Key: "1"})
	}
	scene(t, f, thread)
	ctx := browser(t)
	loaded := until(`document.querySelector("#log").getAttribute("aria-busy") === "false" && [...document.images].every(i => i.complete)`)
	// top scrolls an element to the top of the thread.
	top := func(expr string) step {
		return chromedp.Steps(js(`document.querySelector("#scroll").scrollTop += (`+expr+`).getBoundingClientRect().top - 70`),
			js(`new Promise(requestAnimationFrame)`))
	}
	cell := func(n int) string { return fmt.Sprintf(`document.querySelectorAll(".cell")[%d]`, n-1) }
	for _, v := range []struct {
		name string
		w, h int64
		dark bool
	}{{"desktop-light", 1280, 860, false}, {"desktop-dark", 1280, 860, true}, {"phone-light", 390, 844, false}, {"phone-dark", 390, 844, true}} {
		do(t, ctx, screen(v.w, v.h, v.dark), chromedp.Navigate(f.http.URL+"/t/"+string(thread)), loaded)
		do(t, ctx, top(`document.querySelector(".message")`), shot(v.name+"-1"), top(cell(2)), shot(v.name+"-2"),
			top(cell(3)), shot(v.name+"-3"), top(cell(3)+".nextElementSibling"), shot(v.name+"-4"),
			js(`document.querySelector("#scroll").scrollTop = 1e6`), shot(v.name+"-5"))
	}
	do(t, ctx, screen(1280, 860, false), chromedp.Navigate(f.http.URL+"/t/web:fresh"), loaded, shot("start-light"))
	still := until(`document.getAnimations().length === 0`)
	do(t, ctx, screen(390, 844, true), still, shot("start-phone-dark"))
	do(t, ctx, chromedp.Click(chromedp.CSS("#open-drawer")), still, shot("drawer-phone-dark"))

	// A turn that runs, and a message that waits for it.
	const busy = sessions.ThreadID("web:busy")
	m := submit(t, f, busy, &sessions.Message{User: visitor, Key: "1", Text: "Fit a model of the daily highs and tell me how far it is off."})
	f.store.append(busy, 1, &sessions.TurnStarted{Messages: []int64{m.Seq}},
		&sessions.Reply{Text: "I'll fit a gradient boosting model with the day of the year and the last week's highs.", Calls: []sessions.Call{{ID: "1", Name: "run_code"}}},
		&sessions.CellStarted{Cell: 1, Language: "python", By: sessions.ByModel, Code: "for fold, (train, test) in enumerate(splits):\n    model.fit(X.iloc[train], y.iloc[train])\n    print(f\"fold {fold}: {mae(model, test):.2f} °C\", flush=True)"},
		&sessions.CellOutput{Cell: 1, Stream: "stdout", Text: "fold 0: 2.41 °C\nfold 1: 2.38 °C\nfold 2: 2.52 °C\n"})
	submit(t, f, busy, &sessions.Message{User: sessions.User{ID: "U2", Name: "Noor Haddad"}, Key: "2", Text: "And compare it with just taking yesterday's."})
	for _, v := range []struct {
		name string
		w    int64
		dark bool
	}{{"running-light", 1280, false}, {"running-phone-dark", 390, true}} {
		do(t, ctx, screen(v.w, 844, v.dark), chromedp.Navigate(f.http.URL+"/t/"+string(busy)), loaded, until(`document.querySelector(".cell-state").textContent.includes("s")`),
			until(`getComputedStyle(document.querySelector(".queue .queued")).opacity === "1"`),
			js(`document.querySelector("#text").value = "One more thing: "; document.querySelector("#text").dispatchEvent(new Event("input"))`), shot(v.name))
	}
	f.store.append(busy, 1, &sessions.CellFinished{Cell: 1, Status: "ok", Seconds: 8.4, State: sessions.StateKept})
	do(t, ctx, screen(1280, 844, false), chromedp.Navigate(f.http.URL+"/t/"+string(busy)), loaded)
	f.store.draft(busy, sessions.Draft{Turn: 1, Text: "The model is off by **2.4 °C** on average. Against *yesterday's high* as the guess:", Code: "naive = (y - y.shift(1)).abs().mean()\nprint(f\"yesterday's: {naive:"})
	do(t, ctx, has(".draft-cell", "naive"), js(dropFile), has(".chip", "rain.csv"), shot("writing-light"))
	f.store.append(busy, 1, &sessions.Notice{Code: "model", Text: "The model's server did not answer three times (HTTP 503)."}, &sessions.TurnFinished{Status: sessions.TurnFailed, Seconds: 31, Tokens: sessions.Tokens{In: 3021, Out: 412}})
	do(t, ctx, has(".turn-foot", "failed"), js(`document.querySelector("#problem").hidden = false; document.querySelector("#problem").textContent = "The message did not get through. It is still here; send it again when the server is back."; document.querySelector("#drop").classList.remove("on")`), shot("failed-light"))
	do(t, ctx, js(`document.querySelector("#drop").classList.add("on")`), shot("drop-light"))
	do(t, ctx, screen(1280, 844, true), chromedp.Navigate(f.http.URL+"/t/"+string(thread)), loaded, chromedp.Click(chromedp.CSS(".figure")), until(`document.querySelector("#viewer").open && document.querySelector("#viewer-image").complete`), shot("figure-dark"))
	do(t, ctx, screen(390, 844, false), chromedp.Navigate(f.http.URL+"/t/"+string(thread)), loaded, until(`!(document.querySelector("#scroll").scrollTop = 0)`), shot("phone-top"))

	plain := serve(t, func(c *Config) { c.Version = "0.1.0" })
	scene(t, plain, thread)
	for _, dark := range []bool{false, true} {
		do(t, ctx, screen(1280, 900, dark), chromedp.Navigate(plain.http.URL+"/t/"+string(thread)), loaded, top(cell(3)+`.querySelector(".show-all")`),
			shot(map[bool]string{false: "hero-light", true: "hero-dark"}[dark]))
	}

	locked := serve(t, func(c *Config) { c.Token = "secret" })
	do(t, ctx, screen(1280, 844, false), chromedp.Navigate(locked.http.URL+"/"), chromedp.SendKeys(chromedp.CSS("#token"), "wrong\r"), chromedp.WaitVisible(chromedp.CSS("#problem")), shot("login-light"))
}
