package slacktest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"threadbook/bots/slack/slacktest"
)

// call calls a method and returns the error that it is refused with.
func call(t *testing.T, s *slacktest.Server, method string, args ...string) string {
	t.Helper()
	form := url.Values{"token": {slacktest.BotToken}}
	for i := 0; i+1 < len(args); i += 2 {
		form.Set(args[i], args[i+1])
	}
	resp, err := http.PostForm(s.URL()+method, form)
	if err != nil {
		return "no answer"
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Sprintf("%d after %s", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	var got struct {
		OK    bool
		Error string
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.OK != (got.Error == "") {
		t.Errorf("%s: answered %+v, %v", method, got, err)
	}
	return got.Error
}

func TestTheStandInIsStrict(t *testing.T) {
	t.Parallel()
	s := slacktest.New(slacktest.Options{PostsPerSecond: 0.1})
	t.Cleanup(s.Close)
	s.AddChannel(slacktest.Channel{ID: "C1"})
	s.AddChannel(slacktest.Channel{ID: "C2", Archived: true})
	s.AddChannel(slacktest.Channel{ID: "C3", Outside: true})
	theirs := s.Write(slacktest.Message{Channel: "C1", User: "U1", Text: "x"}).TS
	long := strings.Repeat("x", 4001)
	block := func(b string) []string { return []string{"chat.postMessage", "channel", "C1", "blocks", "[" + b + "]"} }
	text := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		want string
		args []string
	}{
		{"unknown_method", []string{"chat.guess"}},
		{"not_authed", []string{"auth.test", "token", ""}},
		{"invalid_auth", []string{"auth.test", "token", "xoxb-other"}},
		{"not_allowed_token_type", []string{"apps.connections.open"}},
		{"no_text", []string{"chat.postMessage", "channel", "C1"}},
		{"channel_not_found", []string{"chat.postMessage", "channel", "C9", "text", "x"}},
		{"is_archived", []string{"chat.postMessage", "channel", "C2", "text", "x"}},
		{"not_in_channel", []string{"chat.postMessage", "channel", "C3", "text", "x"}},
		{"thread_not_found", []string{"chat.postMessage", "channel", "C1", "text", "x", "thread_ts", "1.2"}},
		{"msg_too_long", []string{"chat.postMessage", "channel", "C1", "text", long}},
		{"cant_update_message", []string{"chat.update", "channel", "C1", "text", "x", "ts", theirs}},
		{"message_not_found", []string{"chat.update", "channel", "C1", "text", "x", "ts", "1.2"}},
		{"message_not_found", []string{"reactions.add", "channel", "C1", "name", "eyes", "timestamp", "1.2"}},
		{"user_not_found", []string{"users.info", "user", "U9"}},
		{"file_not_found", []string{"files.info", "file", "F9"}},
		{"invalid_arguments", []string{"files.getUploadURLExternal", "filename", "x", "length", "0"}},
		{"invalid_blocks_format", block("}")},
		{"invalid_blocks", block(`{"type":"hologram"}`)},
		{"invalid_blocks", block(`{"type":"markdown","text":""}`)},
		{"invalid_blocks", block(`{"type":"section","text":{"type":"mrkdwn","text":"` + text(3001) + `"}}`)},
		{"invalid_blocks", block(`{"type":"image","alt_text":"x","slack_file":{"id":"F9"}}`)},
		{"invalid_blocks", block(`{"type":"container","title":{"type":"plain_text","text":"x"},"child_blocks":[{"type":"markdown","text":"x"}]}`)},
		{"invalid_blocks", block(`{"type":"rich_text","elements":[{"type":"rich_text_preformatted","elements":[{"type":"text","text":""}]}]}`)},
		{"invalid_blocks", block(`{"type":"data_table","caption":"x","rows":[[{"type":"raw_text","text":"x"}]]}`)},
		{"invalid_blocks", block(`{"type":"actions","elements":[{"type":"button","action_id":"a","text":{"type":"plain_text","text":"x"}},{"type":"button","action_id":"a","text":{"type":"plain_text","text":"x"}}]}`)},
		{"invalid_blocks", block(strings.TrimSuffix(strings.Repeat(`{"type":"divider"},`, 51), ","))},
		{"msg_blocks_too_long", block(`{"type":"markdown","text":"` + text(12_001) + `"}`)},
		{"msg_blocks_too_long", block(`{"type":"markdown","text":"` + text(11_999) + `"},{"type":"context","elements":[{"type":"mrkdwn","text":"xx"}]}`)},
		{"", block(`{"type":"markdown","text":"` + text(12_000) + `"}`)},
		{"", []string{"chat.postMessage", "channel", "C1", "text", "x"}},
		{"", []string{"chat.postMessage", "channel", "C1", "text", "x"}},
		{"429 after 10", []string{"chat.postMessage", "channel", "C1", "text", "x"}},
	} {
		if got := call(t, s, c.args[0], c.args[1:]...); got != c.want {
			t.Errorf("%.200q: %q, want %q", c.args, got, c.want)
		}
	}
	if n := len(s.Channel("C1")); n != 4 {
		t.Errorf("the channel has %d messages", n)
	}
	few := slacktest.New(slacktest.Options{Scopes: []string{"users:read"}})
	t.Cleanup(few.Close)
	if got := call(t, few, "chat.postMessage", "channel", "C1", "text", "x"); got != "missing_scope" {
		t.Errorf("without the scope: %q", got)
	}
	few.Fail("auth.test", slacktest.Fault{HangUp: true}, slacktest.Fault{Status: 500}, slacktest.Fault{Error: "fatal_error"})
	for _, want := range []string{"no answer", "500 after ", "fatal_error", ""} {
		if got := call(t, few, "auth.test"); got != want {
			t.Errorf("a fault: %q, want %q", got, want)
		}
	}
}

func TestStreamsAreStrict(t *testing.T) {
	t.Parallel()
	s := slacktest.New(slacktest.Options{})
	t.Cleanup(s.Close)
	s.AddChannel(slacktest.Channel{ID: "C1"})
	s.AddUser(slacktest.User{ID: "U1"})
	root := s.Write(slacktest.Message{Channel: "C1", User: "U1", Text: "x"}).TS
	start := func(more ...string) []string {
		return append([]string{"chat.startStream", "channel", "C1", "thread_ts", root, "recipient_user_id", "U1", "recipient_team_id", "T1"}, more...)
	}
	want := func(want string, args ...string) {
		t.Helper()
		if got := call(t, s, args[0], args[1:]...); got != want {
			t.Errorf("%.200q: %q, want %q", args, got, want)
		}
	}
	task := func(id, output string) string {
		return `[{"type":"task_update","id":"` + id + `","title":"t","status":"in_progress","output":"` + output + `"}]`
	}
	want("missing_recipient_user_id", start("recipient_user_id", "")...)
	want("missing_recipient_team_id", start("recipient_team_id", "")...)
	want("user_not_found", start("recipient_user_id", "U9")...)
	want("invalid_thread_ts", start("thread_ts", "")...)
	want("invalid_arguments", start("task_display_mode", "list")...)
	want("invalid_arguments", start("unfurl_links", "false")...)
	want("invalid_arguments", start("markdown_text", "x", "chunks", task("1", "x"))...)
	for _, chunks := range []string{`[{"type":"hologram"}]`, `{}`, `[{"type":"markdown_text"}]`, `[{"type":"task_update","id":"1","title":"t"}]`, `[{"type":"plan_update"}]`} {
		want("invalid_chunks", start("chunks", chunks)...)
	}
	want("invalid_blocks", start("chunks", `[{"type":"blocks","blocks":[{"type":"hologram"}]}]`)...)
	if n := len(s.Thread("C1", root)); n != 1 {
		t.Fatalf("the thread has %d messages", n)
	}
	stream := func() string {
		t.Helper()
		want("", start("markdown_text", "x")...)
		all := s.Thread("C1", root)
		return all[len(all)-1].TS
	}
	ts := stream()
	on := func(method string, more ...string) []string {
		return append([]string{"chat." + method, "channel", "C1", "ts", ts}, more...)
	}
	want("message_not_owned_by_app", "chat.appendStream", "channel", "C1", "ts", root, "markdown_text", "x")
	want("message_not_found", "chat.stopStream", "channel", "C1", "ts", "1.2")
	want("no_text", on("appendStream")...)
	want("streaming_state_conflict", on("update", "text", "x")...)
	want("", on("appendStream", "chunks", task("1", "a"))...)
	want("", on("appendStream", "chunks", task("1", "b"))...)
	if got := string(s.Thread("C1", root)[1].Blocks); !strings.Contains(got, `"output":"ab"`) {
		t.Errorf("the message is %s", got)
	}
	want("invalid_metadata_format", on("stopStream", "metadata", "{}")...)
	want("", on("stopStream", "metadata", `{"event_type":"e","event_payload":{}}`)...)
	want("message_not_in_streaming_state", on("stopStream")...)
	want("message_not_in_streaming_state", on("appendStream", "markdown_text", "x")...)
	want("", on("update", "text", "x")...)

	ts = stream()
	for id := range 50 {
		want("", on("appendStream", "chunks", task(fmt.Sprint(id), ""))...)
	}
	want("msg_too_long", on("appendStream", "chunks", task("50", ""))...)
	ts = stream()
	want("", on("appendStream", "chunks", task("1", strings.Repeat("x", 5300)))...)
	want("msg_too_long", on("stopStream")...)

	none := slacktest.New(slacktest.Options{NoStreams: "not_allowed"})
	t.Cleanup(none.Close)
	for _, method := range []string{"startStream", "appendStream", "stopStream"} {
		if got := call(t, none, "chat."+method); got != "not_allowed" {
			t.Errorf("%s: %q", method, got)
		}
	}
}
