package discordtest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"threadbook/bots/discord/discordtest"
)

// TestRefusals holds the stand-in to what Discord refuses.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := discordtest.New(discordtest.Options{Rate: 1000})
	t.Cleanup(s.Close)
	const messages = "channels/" + discordtest.ChannelID + "/messages"
	text := func(n int) string { return `{"type":10,"content":"` + strings.Repeat("x", n) + `"}` }
	v2 := func(components ...string) string {
		return `{"flags":32768,"components":[` + strings.Join(components, ",") + `]}`
	}
	for name, c := range map[string]struct {
		method, path, body string
		status, code       int
	}{
		"a message":            {"POST", messages, `{"content":"x"}`, 200, 0},
		"2001 characters":      {"POST", messages, `{"content":"` + strings.Repeat("x", 2001) + `"}`, 400, 50035},
		"nothing":              {"POST", messages, `{"content":""}`, 400, 50006},
		"a long nonce":         {"POST", messages, `{"content":"x","nonce":"` + strings.Repeat("n", 26) + `"}`, 400, 50035},
		"components":           {"POST", messages, v2(text(4000)), 200, 0},
		"4001 characters":      {"POST", messages, v2(text(4000), text(1)), 400, 50035},
		"41 components":        {"POST", messages, v2(strings.TrimSuffix(strings.Repeat(text(1)+",", 41), ",")), 400, 50035},
		"content and V2":       {"POST", messages, `{"flags":32768,"content":"x","components":[` + text(1) + `]}`, 400, 50035},
		"text without V2":      {"POST", messages, `{"components":[` + text(1) + `]}`, 400, 50035},
		"an unknown component": {"POST", messages, v2(`{"type":20}`), 400, 50035},
		"a missing file":       {"POST", messages, v2(`{"type":13,"file":{"url":"attachment://a"}}`), 400, 50035},
		"a bare button":        {"POST", messages, v2(`{"type":2,"style":1,"label":"x","custom_id":"x"}`), 400, 50035},
		"a long custom id":     {"POST", messages, v2(`{"type":1,"components":[{"type":2,"style":1,"label":"x","custom_id":"` + strings.Repeat("x", 101) + `"}]}`), 400, 50035},
		"broken JSON":          {"POST", messages, `{`, 400, 50109},
		"no channel":           {"GET", "channels/1", "", 404, 10003},
		"no message":           {"GET", messages + "/1", "", 404, 10008},
		"no such thing":        {"GET", "nothing", "", 404, 0},
		"a forum":              {"POST", "channels/" + discordtest.ForumID + "/messages", `{"content":"x"}`, 400, 50008},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, body := call(t, s, c.method, c.path, c.body, "Bot token")
			if status != c.status || c.code != 0 && !strings.Contains(body, fmt.Sprint(`"code":`, c.code)) {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	if status, _ := call(t, s, "GET", "users/@me", "", "Bot wrong"); status != 401 {
		t.Errorf("a wrong token: %d", status)
	}
}

// call makes a request.
func call(t *testing.T, s *discordtest.Server, method, path, body, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", token)
	req.Header.Set("User-Agent", "DiscordBot (test, 1)")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestNonceIsForgotten(t *testing.T) {
	t.Parallel()
	s := discordtest.New(discordtest.Options{NonceMemory: 200 * time.Millisecond})
	t.Cleanup(s.Close)
	post := func() {
		call(t, s, "POST", "channels/"+discordtest.ChannelID+"/messages", `{"content":"x","nonce":"n","enforce_nonce":true}`, "Bot token")
	}
	post()
	post()
	if n := len(s.ByBot(discordtest.ChannelID)); n != 1 {
		t.Errorf("%d messages", n)
	}
	for deadline := time.Now().Add(5 * time.Second); len(s.ByBot(discordtest.ChannelID)) < 2 && time.Now().Before(deadline); {
		post()
	}
	if n := len(s.ByBot(discordtest.ChannelID)); n != 2 {
		t.Errorf("%d messages", n)
	}
}
