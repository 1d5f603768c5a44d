package discord

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"threadbook/bots"
	"threadbook/sessions"
)

// What a 429 may ask for, whatever it says.
const (
	leastRefusal   = 100 * time.Millisecond
	longestRefusal = time.Hour
)

const (
	callTimeout   = 20 * time.Second             // one call without files
	uploadTimeout = 3 * time.Minute              // one with
	maxAnswer     = 16 << 20                     // bytes of an answer
	userAgent     = "DiscordBot (threadbook, 1)" // Discord refuses what begins otherwise
)

// Discord's codes that mean something to us.
const (
	codeUnknownChannel = 10003
	codeUnknownMessage = 10008
	codeTooLarge       = 40005
	codeAcknowledged   = 40060
	codeNoAccess       = 50001
	codeNoPermission   = 50013
	codeWrongChannel   = 50024
	codeArchived       = 50083
	codeHasThread      = 160004
)

// client makes requests. It tries nothing twice.
type client struct {
	base   *url.URL
	token  string
	http   *http.Client
	limits *limiter
}

func newClient(token, api string) (*client, error) {
	token = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(token), "Bot "))
	if token == "" {
		return nil, errors.New("discord: there is no bot token")
	}
	base, err := parseBase(api)
	if err != nil {
		return nil, err
	}
	return &client{base: base, token: token, http: &http.Client{}, limits: newLimiter()}, nil
}

// apiError is a call that failed.
type apiError struct {
	Method, Path string
	Status       int // 0: there was no answer
	Code         int // Discord's own
	Message      string
	After        time.Duration // of a 429
	Global       bool
	Unsent       bool // nothing has reached Discord
	Err          error
}

func (e *apiError) Error() string {
	path, _, _ := strings.Cut(e.Path, "?")
	if parts := strings.Split(path, "/"); len(parts) > 2 && (parts[0] == "webhooks" || parts[0] == "interactions") {
		parts[2] = "…" // a token
		path = strings.Join(parts, "/")
	}
	text := fmt.Sprintf("discord: %s %s: %d %s", e.Method, path, e.Status, e.Message)
	if e.Code != 0 {
		text += fmt.Sprintf(" (code %d)", e.Code)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *apiError) Unwrap() error { return e.Err }

func asAPI(err error) *apiError {
	var e *apiError
	if errors.As(err, &e) {
		return e
	}
	return &apiError{}
}

func unauthorized(err error) bool { return asAPI(err).Status == http.StatusUnauthorized }

func missing(err error) bool { return asAPI(err).Status == http.StatusNotFound }

// transient says whether the same call may do better later.
func transient(err error) bool {
	e := asAPI(err)
	return e.Status == 0 || e.Status >= 500 || e.Status == http.StatusTooManyRequests ||
		e.Status == http.StatusRequestTimeout || e.Status == http.StatusUnauthorized
}

// upload is a file of a request.
type upload struct {
	Name string
	Size int64
	Body io.Reader
}

// do makes a call with a JSON body, if any, and reads its answer, if wanted.
func (c *client) do(ctx context.Context, method, path string, body, answer any) error {
	return c.send(ctx, method, path, body, nil, answer)
}

// send makes a call with files too. They are streamed, so a request holds no
// file in memory, and their length is said beforehand.
func (c *client) send(ctx context.Context, method, path string, body any, files []upload, answer any) error {
	r := routeOf(method, path)
	if !strings.HasPrefix(path, "interactions/") { // those have no limits, and three seconds
		if err := c.limits.wait(ctx, r); err != nil {
			var e *apiError
			if errors.As(err, &e) && e.Path == "" {
				e.Method, e.Path = method, path
			}
			return err
		}
	}
	limit := callTimeout
	if len(files) > 0 {
		limit = uploadTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := c.request(ctx, method, path, body, files)
	if err != nil {
		return &apiError{Method: method, Path: path, Unsent: true, Err: err}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		unsent := errors.As(err, &op) && op.Op == "dial"
		var ue *url.Error // its text names the whole address, tokens too
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return &apiError{Method: method, Path: path, Unsent: unsent, Err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if failed := failure(method, path, resp, data); failed != nil {
		c.limits.learn(r, resp.Header, failed)
		return failed
	}
	c.limits.learn(r, resp.Header, nil)
	if err == nil && answer != nil {
		err = tolerant(json.Unmarshal(data, answer))
	}
	if err != nil {
		return &apiError{Method: method, Path: path, Message: "an answer that can't be read", Err: err}
	}
	return nil
}

// tolerant passes over a field of an unexpected type; encoding/json has read
// all the others then.
func tolerant(err error) error {
	var odd *json.UnmarshalTypeError
	if errors.As(err, &odd) {
		return nil
	}
	return err
}

// failure reads an answer that is an error, nil for one that isn't.
func failure(method, path string, resp *http.Response, data []byte) *apiError {
	if resp.StatusCode < 300 {
		return nil
	}
	e := &apiError{Method: method, Path: path, Status: resp.StatusCode, Message: http.StatusText(resp.StatusCode)}
	var said struct {
		Code    int             `json:"code"`
		Message string          `json:"message"`
		After   float64         `json:"retry_after"`
		Global  bool            `json:"global"`
		Errors  json.RawMessage `json:"errors"`
	}
	if json.Unmarshal(data, &said) == nil {
		e.Code, e.Global = said.Code, said.Global
		if said.Message != "" {
			e.Message = said.Message
		}
		if len(said.Errors) > 0 && len(said.Errors) < 1000 {
			e.Message += " " + string(said.Errors)
		}
	}
	if e.Status == http.StatusTooManyRequests {
		e.Global = e.Global || resp.Header.Get("X-RateLimit-Global") != ""
		e.After = time.Duration(said.After * float64(time.Second)) // more exact than the header
		if e.After <= 0 {
			e.After = seconds(resp.Header.Get("Retry-After"))
		}
		e.After = max(min(e.After, longestRefusal), leastRefusal)
	}
	return e
}

func (c *client) request(ctx context.Context, method, path string, body any, files []upload) (*http.Request, error) {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	var r io.Reader
	kind, size := "application/json", int64(len(payload))
	switch {
	case len(files) > 0:
		var err error
		if r, size, kind, err = form(payload, files); err != nil {
			return nil, err
		}
	case body != nil:
		r = bytes.NewReader(payload)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.String()+path, r)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	if r != nil {
		req.Header.Set("Content-Type", kind)
	}
	req.Header.Set("Authorization", "Bot "+c.token)
	req.Header.Set("User-Agent", userAgent)
	return req, nil
}

// form is the multipart form that Discord wants: payload_json, then files[n].
func form(payload []byte, files []upload) (r io.Reader, size int64, kind string, err error) {
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	var parts []io.Reader
	// flush puts what the writer wrote so far before what comes next.
	flush := func() {
		part := bytes.Clone(buf.Bytes())
		buf.Reset()
		size += int64(len(part))
		parts = append(parts, bytes.NewReader(part))
	}
	head := func(name, file, kind string) error {
		h := textproto.MIMEHeader{}
		d := `form-data; name="` + name + `"`
		if file != "" {
			d += `; filename="` + file + `"` // a fileName, so there is nothing to quote
		}
		h.Set("Content-Disposition", d)
		h.Set("Content-Type", kind)
		_, err := w.CreatePart(h)
		return err
	}
	if err := head("payload_json", "", "application/json"); err != nil {
		return nil, 0, "", err
	}
	buf.Write(payload)
	for i, f := range files {
		if err := head(fmt.Sprintf("files[%d]", i), f.Name, "application/octet-stream"); err != nil {
			return nil, 0, "", err
		}
		flush()
		parts = append(parts, io.LimitReader(f.Body, f.Size))
		size += f.Size
	}
	if err := w.Close(); err != nil {
		return nil, 0, "", err
	}
	flush()
	return io.MultiReader(parts...), size, w.FormDataContentType(), nil
}

// postError says what a failed call means for its post.
func postError(err error) error {
	if err == nil {
		return nil
	}
	e := asAPI(err)
	p := &bots.PostError{Err: err, After: e.After}
	switch {
	case e.Status == http.StatusTooManyRequests:
		p.Refused = true
	case e.Status >= 400 && e.Status < 500 && e.Status != http.StatusRequestTimeout:
		p.Refused, p.Permanent = true, true
		p.Gone = e.Code == codeUnknownMessage || e.Code == codeUnknownChannel
	default:
		p.Refused = e.Unsent
		p.Permanent = e.Unsent && sessions.CodeOf(err) == sessions.NotFound // a file that is gone
	}
	return p
}
