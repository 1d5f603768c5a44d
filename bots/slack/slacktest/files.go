package slacktest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// maxFile is the size of a file that Slack takes.
const maxFile = 1 << 30

// File is a file in Slack. The zero values of what follows Bytes make it a
// plain upload.
type File struct {
	ID, Name, MIME string
	Bytes          []byte
	AltText        string
	// Connect: messages carry its id alone, as files of Slack Connect.
	Connect bool
	// SignIn: the token may not read it, so downloading it leads to a page.
	SignIn bool
	// External: it is kept elsewhere, at this address.
	External string
	Mode     string // "hosted" where empty
	// Gate holds downloads up until it is closed.
	Gate <-chan struct{}

	length    int       // as announced
	sent      bool      // the bytes are there
	completed time.Time // zero: not yet
	channel   string    // where it was shared
	thread    string
	ts        string // of the message it is in
}

// AddFile puts a file of a person into Slack and returns its id.
func (s *Server) AddFile(f File) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.ID == "" {
		f.ID = s.name("F")
	}
	f.sent, f.completed = true, time.Now().Add(-s.o.FileDelay)
	s.files[f.ID] = &f
	return f.ID
}

// Age makes a file older, or younger, as far as being ready goes.
func (s *Server) Age(id string, by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[id].completed = s.files[id].completed.Add(-by)
}

// ready says whether Slack has looked at the file. s.mu is held.
func (s *Server) ready(f *File) bool {
	return !f.completed.IsZero() && time.Since(f.completed) >= s.o.FileDelay
}

// wireFile is a file as messages carry it. s.mu is held.
func (s *Server) wireFile(id string) object {
	f := s.files[id]
	if f == nil {
		return object{"id": id, "mode": "tombstone"}
	}
	if f.Connect {
		return object{"id": f.ID, "mode": "file_access", "file_access": "check_file_info", "created": 0, "timestamp": 0}
	}
	return s.fileInfo(f)
}

func (s *Server) fileInfo(f *File) object {
	mode := f.Mode
	if mode == "" {
		mode = "hosted"
	}
	o := object{"id": f.ID, "name": f.Name, "title": f.Name, "size": len(f.Bytes), "mode": mode, "mimetype": ""}
	if s.ready(f) {
		o["mimetype"] = f.MIME
	}
	address := s.base + "/files-pri/" + f.ID + "/" + f.Name
	if f.External != "" {
		address = f.External
		o["is_external"], o["mode"] = true, "external"
	}
	o["url_private"], o["url_private_download"] = address, address
	if f.ts != "" && s.ready(f) {
		kind := "public"
		if c := s.channels[f.channel]; c != nil && (c.Secret || c.IM || c.MPIM) {
			kind = "private"
		}
		o["shares"] = object{kind: object{f.channel: []object{{"ts": f.ts, "thread_ts": f.thread}}}}
	}
	return o
}

func (s *Server) getUploadURL(r *request) object {
	length, err := strconv.Atoi(r.Get("length"))
	switch {
	case err != nil || length <= 0 || r.Get("filename") == "":
		return refusal("invalid_arguments")
	case length > maxFile:
		return refusal("file_too_large")
	case len(r.Get("alt_txt")) > 1000:
		return refusal("invalid_arguments")
	}
	f := &File{ID: s.name("F"), Name: r.Get("filename"), AltText: r.Get("alt_txt"), length: length}
	s.files[f.ID] = f
	return object{"ok": true, "file_id": f.ID, "upload_url": r.base + "/upload/" + f.ID}
}

// serveUpload takes bytes, as a form with one file or as they are.
func (s *Server) serveUpload(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if parts, err := r.MultipartReader(); err == nil {
		p, err := parts.NextPart()
		if err != nil {
			http.Error(w, "no file", http.StatusBadRequest)
			return
		}
		body = p
	}
	data, err := io.ReadAll(io.LimitReader(body, maxFile+1))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls["upload"]++
	if queue := s.faults["upload"]; len(queue) > 0 {
		s.faults["upload"] = queue[1:]
		fail(w, queue[0])
		return
	}
	f := s.files[path.Base(r.URL.Path)]
	if err != nil || f == nil || len(data) != f.length {
		http.Error(w, fmt.Sprintf("%d bytes do not fit", len(data)), http.StatusBadRequest)
		return
	}
	f.Bytes, f.sent = data, true
	f.MIME = http.DetectContentType(data)
	fmt.Fprintf(w, "OK - %d", len(data))
}

// completeUpload answers before the files are ready, and without a message's
// timestamp; the message appears after FileDelay.
func (s *Server) completeUpload(r *request) object {
	var list []struct{ ID, Title string }
	if json.Unmarshal([]byte(r.Get("files")), &list) != nil || len(list) == 0 || len(list) > 10 {
		return refusal("invalid_arguments")
	}
	for _, l := range list {
		switch f := s.files[l.ID]; {
		case f == nil || !f.sent:
			return refusal("file_not_found")
		case !f.completed.IsZero():
			return refusal("file_update_failed")
		}
	}
	var m *Message
	if id := r.Get("channel_id"); id != "" {
		c := s.channels[id]
		root := r.Get("thread_ts")
		switch {
		case c == nil:
			return refusal("channel_not_found")
		case c.Archived || c.Outside:
			return refusal("not_in_channel")
		case root != "" && s.find(id, root) == nil:
			return refusal("invalid_arguments")
		}
		m = &Message{Channel: id, TS: s.stamp(), ThreadTS: root, User: s.o.BotUserID, BotID: s.o.BotID, Subtype: "file_share",
			At: time.Now(), Text: r.Get("initial_comment"), Hidden: s.o.FileDelay > 0}
		s.messages[id] = append(s.messages[id], m)
	}
	var out []object
	for _, l := range list {
		f := s.files[l.ID]
		f.completed = time.Now()
		if m != nil {
			f.channel, f.thread, f.ts = m.Channel, m.ThreadTS, m.TS
			m.Files = append(m.Files, f.ID)
		}
		out = append(out, object{"id": l.ID, "title": l.Title})
	}
	if m != nil && m.Hidden {
		time.AfterFunc(s.o.FileDelay, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			m.Hidden = false
			s.change()
		})
	}
	return object{"ok": true, "files": out}
}

func (s *Server) filesInfo(r *request) object {
	f := s.files[r.Get("file")]
	if f == nil || f.completed.IsZero() {
		return refusal("file_not_found")
	}
	return object{"ok": true, "file": s.fileInfo(f), "comments": []any{}, "paging": object{"count": 100, "total": 0, "page": 1, "pages": 0}}
}

func (s *Server) serveDownload(w http.ResponseWriter, r *http.Request) {
	id := strings.Split(strings.TrimPrefix(r.URL.Path, "/files-pri/"), "/")[0]
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	s.calls["download"]++
	f := s.files[id]
	may := token == s.o.BotToken
	s.change()
	s.mu.Unlock()
	if f != nil && f.Gate != nil {
		select {
		case <-f.Gate:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case f == nil:
		http.NotFound(w, r)
	case !may || f.SignIn:
		http.Redirect(w, r, "/signin?redir="+r.URL.Path, http.StatusFound)
	default:
		w.Header().Set("Content-Type", f.MIME)
		_, _ = w.Write(f.Bytes)
	}
}
