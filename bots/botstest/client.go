package botstest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"threadbook/bots"
	"threadbook/sessions"
)

const (
	requestTimeout = 10 * time.Second
	pollPause      = 100 * time.Millisecond
)

// Client is the platform's adapter.
type Client struct {
	URL    string
	Blobs  sessions.Blobs
	Intake *bots.Intake // for Run alone
}

// Run takes the platform's events until ctx ends, as an adapter should: each is
// acknowledged when the log has it, and not before.
func (c *Client) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		var events []Event
		if err := c.call(ctx, http.MethodGet, "/events", nil, &events); err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(pollPause):
			}
			continue
		}
		for _, e := range events {
			if err := c.take(ctx, e); err != nil {
				continue // it comes again
			}
			_ = c.call(ctx, http.MethodPost, "/acks?id="+e.ID, nil, nil) // likewise
		}
	}
	return nil
}

func (c *Client) take(ctx context.Context, e Event) error {
	thread, user := sessions.NewThreadID(Name, e.Thread), sessions.User{ID: e.User, Name: e.User}
	if e.Action != "" {
		_, err := c.Intake.Press(ctx, bots.Press{Thread: thread, User: user, Action: e.Action, Value: e.Value, Key: e.Key})
		if sessions.CodeOf(err) == sessions.Unavailable {
			return err
		}
		return nil
	}
	m := bots.Message{Thread: thread, User: user, Text: e.Text, Key: e.Key, Edits: e.Edits}
	for name, data := range e.Files {
		m.Files = append(m.Files, bots.File{Name: name, Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data)), nil
		}})
	}
	_, err := c.Intake.Submit(ctx, m)
	return err
}

// Limits implements [bots.Poster].
func (c *Client) Limits(context.Context, sessions.ThreadID) bots.Limits {
	return bots.Limits{Text: 2000, Live: 1500, Media: 4, FileSize: 10 << 20, Edits: 100 * time.Millisecond}
}

// Prepare implements [bots.Poster]: it sends the bytes of figures and files.
func (c *Client) Prepare(ctx context.Context, p bots.Post) (string, error) {
	uploads := map[string]string{}
	for _, m := range append(p.Figures, p.Files...) {
		blob, err := c.Blobs.Get(ctx, p.Thread, m.Blob)
		if err != nil {
			return "", err
		}
		var id string
		err = c.call(ctx, http.MethodPost, "/uploads", blob, &id)
		blob.Close()
		if err != nil {
			return "", err
		}
		uploads[m.Name] = id
	}
	if len(uploads) == 0 {
		return "", nil
	}
	handle, err := json.Marshal(uploads)
	return string(handle), err
}

// Post implements [bots.Poster].
func (c *Client) Post(ctx context.Context, p bots.Post, handle string) (id string, err error) {
	req := request{Thread: c.thread(p), Key: p.Key(), Post: p}
	if handle != "" {
		if err := json.Unmarshal([]byte(handle), &req.Uploads); err != nil {
			return "", err
		}
	}
	return id, c.send(ctx, "/posts", req, &id)
}

// Edit implements [bots.Poster].
func (c *Client) Edit(ctx context.Context, p bots.Post, id string) error {
	return c.send(ctx, "/edits", request{Thread: c.thread(p), ID: id, Key: p.Key(), Post: p}, nil)
}

// Find implements [bots.Poster].
func (c *Client) Find(ctx context.Context, p bots.Post, _ string, _ time.Time) (id string, err error) {
	return id, c.call(ctx, http.MethodGet, "/posts?key="+url.QueryEscape(p.Key()), nil, &id)
}

// Received implements [bots.Signer].
func (c *Client) Received(ctx context.Context, _ sessions.ThreadID, key string, _ bool) error {
	return c.call(ctx, http.MethodPost, "/signs?key="+url.QueryEscape(key), nil, nil)
}

// Working implements [bots.Signer].
func (c *Client) Working(context.Context, sessions.ThreadID, string, string) error { return nil }

func (c *Client) thread(p bots.Post) string { return string(p.Thread)[len(Name)+1:] }

func (c *Client) send(ctx context.Context, path string, req request, out any) error {
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, path, bytes.NewReader(body), out)
}

// call makes a request; what goes wrong is a *bots.PostError.
func (c *Client) call(ctx context.Context, method, path string, body io.Reader, out any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return &bots.PostError{Err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return &bots.PostError{Err: err}
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusTooManyRequests:
		seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		return &bots.PostError{After: time.Duration(seconds) * time.Second, Refused: true, Err: errors.Join(errors.New("too many requests"), err)}
	default:
		return &bots.PostError{Err: fmt.Errorf("%s %s: %s", method, path, resp.Status)}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return &bots.PostError{Err: err}
	}
	return nil
}
