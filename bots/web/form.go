package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"regexp"

	"threadbook/bots"
	"threadbook/sessions"
)

// maxList is how many bytes the list of a message's files may have.
const maxList = 64 << 10

var keyWords = regexp.MustCompile(`^[A-Za-z0-9-]{8,64}$`)

// errBroken is an upload that did not arrive whole.
var errBroken = &sessions.Error{Code: sessions.Invalid, Text: "The message did not arrive whole; please send it again."}

// refusal is a form that the page would not send.
func refusal(format string, args ...any) error {
	return &sessions.Error{Code: sessions.Invalid, Text: fmt.Sprintf(format, args...)}
}

func tooLarge(format string, args ...any) error {
	return &sessions.Error{Code: sessions.TooLarge, Text: fmt.Sprintf(format, args...)}
}

// readMessage reads a form's fields key, text and files, which is a JSON list
// of names, types and sizes. The bytes of those files follow in parts called
// "file", in the same order, and are left to whoever opens the message's
// files. That the files are named before they come is what lets their bytes
// go from the wire into the blob store without a copy in between. When they
// end too early, broken is called.
func readMessage(parts *multipart.Reader, broken context.CancelCauseFunc) (bots.Message, error) {
	m := bots.Message{User: visitor}
	for len(m.Files) == 0 {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return m, errBroken
		}
		switch part.FormName() {
		case "key":
			m.Key, err = field(part, bots.MaxText)
		case "text":
			m.Text, err = field(part, bots.MaxText)
		case "files":
			m.Files, err = readList(part, &upload{parts: parts, broken: broken})
		case "file":
			err = refusal("The list of files has to come before the files.")
		}
		if err != nil {
			return m, err
		}
	}
	if !keyWords.MatchString(m.Key) {
		return m, refusal("The message's key has to be 8 to 64 letters, digits and dashes.")
	}
	m.Key = Platform + ":" + m.Key
	return m, nil
}

// field reads one field whole.
func field(part io.Reader, limit int64) (string, error) {
	data, err := io.ReadAll(io.LimitReader(part, limit+1))
	switch {
	case err != nil:
		return "", errBroken
	case int64(len(data)) > limit:
		return "", tooLarge("The message is over the limit of %d KB; please send its text as a file.", limit>>10)
	}
	return string(data), nil
}

func readList(part io.Reader, up *upload) ([]bots.File, error) {
	text, err := field(part, maxList)
	if err != nil {
		return nil, err
	}
	var list []struct {
		Name string `json:"name"`
		Type string `json:"type"`
		Size int64  `json:"size"`
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, refusal("The list of files can't be read.")
	}
	if len(list) > bots.MaxFiles {
		return nil, tooLarge("The message has %d files and %d is the limit; please send them in several messages.", len(list), bots.MaxFiles)
	}
	var files []bots.File
	for i, f := range list {
		if f.Size > bots.MaxFileSize {
			return nil, tooLarge("%s has %d MB and %d MB is the limit for a file.", bots.CleanFileName(f.Name), f.Size>>20, bots.MaxFileSize>>20)
		}
		files = append(files, bots.File{Name: f.Name, MIME: f.Type, Open: func(context.Context) (io.ReadCloser, error) {
			return up.open(i)
		}})
	}
	return files, nil
}

// upload gives out the parts of a form as files, in order. It belongs to one
// request, and whoever takes the message reads the files one after another.
type upload struct {
	parts  *multipart.Reader
	past   int // file parts that have been reached
	broken context.CancelCauseFunc
}

func (u *upload) open(i int) (io.ReadCloser, error) {
	if i < u.past {
		return nil, errors.New("a file of an upload was opened out of order")
	}
	for {
		part, err := u.parts.NextPart()
		if err != nil {
			u.broken(errBroken)
			return nil, errBroken
		}
		if part.FormName() == "file" {
			u.past++
			if u.past > i {
				return whole{part, u.broken}, nil
			}
		}
	}
}

// whole tells when a part ends before its end.
type whole struct {
	*multipart.Part
	broken context.CancelCauseFunc
}

func (w whole) Read(p []byte) (int, error) {
	n, err := w.Part.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		w.broken(errBroken)
	}
	return n, err
}
