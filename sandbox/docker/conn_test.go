package docker

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/pkg/stdcopy"

	"threadbook/sandbox"
)

// An agent is the other end of a conn, played by a test.
type agent struct {
	t       *testing.T
	conn    *conn
	out     io.Writer // to the conn, as the engine frames stdout
	in      *bufio.Scanner
	closed  io.Closer
	readErr chan error
}

func newAgent(t *testing.T) *agent {
	ours, theirs := net.Pipe()
	c := newConn("container", types.HijackedResponse{Conn: theirs, Reader: bufio.NewReader(theirs)}, slog.New(slog.DiscardHandler))
	a := &agent{
		t: t, conn: c, closed: ours, readErr: make(chan error, 1),
		out: stdcopy.NewStdWriter(ours, stdcopy.Stdout),
		in:  bufio.NewScanner(ours),
	}
	a.in.Buffer(nil, maxLine)
	go func() {
		err := c.read()
		c.finish(end{why: fmt.Errorf("the test's conn ended: %w", err)})
		a.readErr <- err
	}()
	t.Cleanup(func() {
		ours.Close()
		<-c.ended
	})
	return a
}

// say writes lines to the conn. One that ends it can't be written whole.
func (a *agent) say(lines ...string) {
	for _, line := range lines {
		if _, err := io.WriteString(a.out, strings.ReplaceAll(line, "CLIENT", a.conn.client)+"\n"); err != nil {
			return
		}
	}
}

// hear reads one request.
func (a *agent) hear() request {
	var r request
	for a.in.Scan() {
		head, _, _ := strings.Cut(a.in.Text(), "\t")
		if head == "" {
			continue
		}
		if err := json.Unmarshal([]byte(head), &r); err != nil {
			a.t.Errorf("the conn wrote %q: %v", a.in.Text(), err)
		}
		return r
	}
	return r
}

// greet answers a first request, so that the conn listens.
func (a *agent) greet() {
	a.t.Helper()
	go func() {
		r := a.hear()
		a.say(fmt.Sprintf(`{"re":%d,"client":"CLIENT","protocol":1}`, r.ID))
	}()
	if _, err := a.conn.ask(a.t.Context(), request{Op: "hello"}, nil); err != nil {
		a.t.Fatal(err)
	}
}

func TestConnIgnoresWhatWasForAnother(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	go func() {
		r := a.hear()
		a.say(
			`rest of a line that was cut"}`,
			`{"re":1,"client":"another","protocol":9}`,
			`{"n":7,"cell":3,"event":"text","stream":"stdout","text":"for another"}`,
			fmt.Sprintf(`{"re":%d,"client":"CLIENT","protocol":1,"last":3}`, r.ID),
		)
	}()
	m, err := a.conn.ask(t.Context(), request{Op: "hello"}, nil)
	if err != nil || m.Protocol != 1 || m.Last != 3 {
		t.Errorf("answer %+v, %v", m, err)
	}
}

func TestConnEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		line string
		want error
	}{
		"another client took over": {`{"re":1,"client":"another"}`, errReplaced},
		"not JSON":                 {`{"re":`, errProtocol},
		"not an object":            {`[1]`, errProtocol},
		"a wrong type":             {`{"re":"one"}`, errProtocol},
		"a payload not in base64":  {"{\"re\":1}\t***", errProtocol},
		"too long a line":          {strings.Repeat("x", maxLine+1), errProtocol},
		"the end":                  {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t)
			a.greet()
			if test.line == "" {
				a.closed.Close()
			} else {
				a.say(test.line)
			}
			if err := <-a.readErr; !errors.Is(err, test.want) {
				t.Errorf("the conn ended with %v, want %v", err, test.want)
			}
			if _, err := a.conn.ask(t.Context(), request{Op: "list"}, nil); err == nil {
				t.Error("a request on a conn that ended has no error")
			}
		})
	}
}

func TestConnAnswers(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.greet()
	for code, want := range map[string]error{
		"not_found": sandbox.ErrNotFound,
		"bad_path":  sandbox.ErrBadPath,
		"too_large": sandbox.ErrTooLarge,
		"disk_full": sandbox.ErrDiskFull,
		"busy":      sandbox.ErrBusy,
	} {
		go func() {
			r := a.hear()
			// An answer that nobody waits for is no harm.
			a.say(`{"re":999,"client":"CLIENT"}`,
				fmt.Sprintf(`{"re":%d,"client":"CLIENT","error":%q,"message":"words\u001b"}`, r.ID, code))
		}()
		_, err := a.conn.ask(t.Context(), request{Op: "list"}, nil)
		if !errors.Is(err, want) || !strings.Contains(err.Error(), "words)") {
			t.Errorf("%s is %v, want %v", code, err, want)
		}
	}
}

func TestGetBelievesNoSize(t *testing.T) {
	t.Parallel()
	payload := "\t" + base64.StdEncoding.EncodeToString([]byte("four"))
	for name, lines := range map[string][]string{
		"larger than the limit": {`{"re":2,"client":"CLIENT","size":100}`},
		"negative":              {`{"re":2,"client":"CLIENT","size":-1}`},
		"more than it said":     {`{"re":2,"client":"CLIENT","size":3}`, `{"re":2,"client":"CLIENT"}` + payload},
		"less than it said":     {`{"re":2,"client":"CLIENT","size":8}`, `{"re":2,"client":"CLIENT"}` + payload, `{"re":2,"client":"CLIENT","end":true}`},
		"empty parts":           {`{"re":2,"client":"CLIENT","size":8}`, `{"re":2,"client":"CLIENT"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t)
			a.greet()
			go func() {
				a.hear()
				a.say(lines...)
				for a.hear().Op != "" { // what it says to that
				}
			}()
			s := &session{conn: a.conn}
			if err := s.Get(t.Context(), "file", io.Discard, 50); !errors.Is(err, errProtocol) {
				t.Errorf("Get: %v", err)
			}
		})
	}
}

func TestComplaintsAreBounded(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	c := &complaints{log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, text := range []string{"half", " a line\n\n", strings.Repeat("long", maxComplaint), "\nlast \x1b[1m\xff\n"} {
		if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if c.last != "last [1m�" || len(c.rest) != 0 {
		t.Errorf("last %q, rest %q", c.last, c.rest)
	}
	if !strings.Contains(log.String(), `line="half a line"`) || strings.Count(log.String(), "\n") != 6 {
		t.Errorf("log %.300s", log.String())
	}
}
