package discordtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	apiPath  = "/api/v9/"
	maxBody  = 120 << 20
	gwPath   = "/gateway"
	filePath = "/attachments/"
)

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == gwPath || r.URL.Path == gwPath+"/":
		s.serveGateway(w, r)
		return
	case strings.HasPrefix(r.URL.Path, filePath):
		s.serveFile(w, r)
		return
	case !strings.HasPrefix(r.URL.Path, apiPath):
		answer(w, http.StatusNotFound, map[string]any{"message": "404: Not Found", "code": 0})
		return
	}
	path := strings.TrimPrefix(r.URL.Path, apiPath)
	note := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests = append(s.requests, Request{r.Method, path, note.status, time.Now()})
		s.touch()
	}()
	f := s.fault(r.Method, path)
	if f != nil && f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case f == nil:
		s.serveAPI(note, r, path)
	case f.Lost:
		s.serveAPI(&nowhere{header: http.Header{}}, r, path)
		panic(http.ErrAbortHandler)
	case f.Status != 0:
		if f.Message == "" {
			f.Message = http.StatusText(f.Status)
		}
		(&refusal{f.Status, f.Code, f.Message, f.After, f.Global, nil}).write(note)
	case f.Delay == 0:
		panic(http.ErrAbortHandler)
	default:
		s.serveAPI(note, r, path)
	}
}

// statusWriter notes an answer's status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements [http.ResponseWriter].
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// nowhere swallows an answer.
type nowhere struct{ header http.Header }

// Header implements [http.ResponseWriter], as do those below.
func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n *nowhere) WriteHeader(int)             {}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request, path string) {
	if !strings.HasPrefix(r.UserAgent(), "DiscordBot (") {
		http.Error(w, "<html>error code: 1010</html>", http.StatusForbidden)
		return
	}
	parts := strings.Split(path, "/")
	if r.Header.Get("Authorization") != "Bot "+s.opts.Token && parts[0] != "interactions" && parts[0] != "webhooks" {
		(&refusal{status: http.StatusUnauthorized, message: "401: Unauthorized"}).write(w)
		return
	}
	if ref := s.limited(w, r.Method, path); ref != nil {
		ref.write(w)
		return
	}
	form, ref := readForm(r)
	if ref == nil {
		var body any
		body, ref = s.call(r, parts, form)
		if ref == nil {
			status := http.StatusOK
			if body == nil {
				status = http.StatusNoContent
			}
			answer(w, status, body)
			return
		}
	}
	ref.write(w)
}

// form is a request's body.
type form struct {
	payload json.RawMessage
	files   map[int]File // files[n]
}

func readForm(r *http.Request) (form, *refusal) {
	f := form{files: map[int]File{}}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		data, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		if err != nil || len(data) > 0 && !json.Valid(data) {
			return f, &refusal{status: http.StatusBadRequest, code: 50109, message: "The request body contains invalid JSON."}
		}
		f.payload = data
		return f, nil
	}
	parts, err := r.MultipartReader()
	for err == nil {
		part, perr := parts.NextPart()
		if perr == io.EOF {
			return f, nil
		}
		if perr != nil {
			break
		}
		data, rerr := io.ReadAll(io.LimitReader(part, maxBody))
		if rerr != nil {
			break
		}
		var n int
		if _, serr := fmt.Sscanf(part.FormName(), "files[%d]", &n); serr == nil {
			f.files[n] = File{Name: part.FileName(), Data: data}
		} else if part.FormName() == "payload_json" {
			f.payload = data
		}
	}
	return f, invalid("a broken multipart form")
}

var notFound = &refusal{status: http.StatusNotFound, message: "404: Not Found"}

// call carries out a request. Its answer is made into text while nobody can
// change what it is made of.
func (s *Server) call(r *http.Request, p []string, f form) (any, *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, ref := s.route(r, p, f)
	if ref != nil || body == nil {
		return nil, ref
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // it is all maps and structs of texts and numbers
	}
	return json.RawMessage(text), nil
}

func (s *Server) route(r *http.Request, p []string, f form) (any, *refusal) {
	at := func(i int) string {
		if i < len(p) {
			return p[i]
		}
		return ""
	}
	switch r.Method + " " + p[0] {
	case "GET users":
		if at(2) == "guilds" {
			return []any{map[string]any{"id": GuildID, "name": "Test"}}, nil
		}
		return people(BotID), nil
	case "GET applications", "PUT applications":
		return s.application(r.Method, at(2), f)
	case "GET gateway":
		return map[string]any{"url": "ws://" + r.Host + gwPath, "shards": 1,
			"session_start_limit": map[string]any{"total": 1000, "remaining": 1000, "reset_after": 0, "max_concurrency": 1}}, nil
	case "GET guilds":
		return s.guild(at(1), at(2))
	}
	switch p[0] {
	case "channels":
		c := s.channels[at(1)]
		if c == nil {
			return nil, &refusal{status: http.StatusNotFound, code: 10003, message: "Unknown Channel"}
		}
		if c.Denied&permView != 0 {
			return nil, &refusal{status: http.StatusForbidden, code: 50001, message: "Missing Access"}
		}
		return s.channelCall(r, c, at, f)
	case "interactions", "webhooks":
		return s.interactionCall(r, p[0], at, f)
	}
	return nil, notFound
}

func (s *Server) application(method, what string, f form) (any, *refusal) {
	if what != "commands" {
		flags := 1 << 19
		if s.opts.NoContent {
			flags = 0
		}
		return map[string]any{"id": AppID, "name": "threadbook", "flags": flags}, nil
	}
	if method == http.MethodPut {
		list, ref := validCommands(f.payload)
		if ref != nil {
			return nil, ref
		}
		for _, c := range list { // what Discord adds
			c["id"], c["application_id"], c["version"], c["dm_permission"] = s.id(), AppID, s.id(), true
		}
		s.commands, _ = json.Marshal(list)
		s.puts++
	}
	return s.commands, nil
}

func (s *Server) guild(id, what string) (any, *refusal) {
	if id != GuildID {
		return nil, &refusal{status: http.StatusNotFound, code: 10004, message: "Unknown Guild"}
	}
	switch what {
	case "channels":
		list := []any{}
		for _, c := range s.channels {
			if c.GuildID == GuildID && c.Type != TypeThread {
				list = append(list, struct {
					*Channel
					Overwrites []any `json:"permission_overwrites"`
				}{c, []any{map[string]any{"id": BotID, "type": 1, "allow": "0", "deny": fmt.Sprint(c.Denied)}}})
			}
		}
		return list, nil
	case "members":
		return map[string]any{"user": people(BotID), "roles": []string{}}, nil
	}
	return map[string]any{"id": GuildID, "name": "Test", "owner_id": OtherID, "premium_tier": s.opts.Tier,
		"roles": []any{map[string]any{"id": GuildID, "name": "@everyone", "permissions": fmt.Sprint(uint64(allPermissions))}}}, nil
}

func (s *Server) serveFile(w http.ResponseWriter, r *http.Request) {
	p := strings.Split(strings.TrimPrefix(r.URL.Path, filePath), "/")
	s.mu.Lock()
	good := r.URL.Query().Get("ex") == fmt.Sprint(s.cdn)
	var found *File
	if len(p) == 3 {
		for _, m := range s.messages[p[0]] {
			for i := range m.Files {
				if m.Files[i].ID == p[1] {
					found = &m.Files[i]
				}
			}
		}
	}
	s.mu.Unlock()
	if !good || found == nil {
		http.Error(w, "This content is no longer available.", http.StatusNotFound)
		return
	}
	_, _ = w.Write(found.Data) // the client may have gone
}
