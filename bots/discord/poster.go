package discord

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"threadbook/bots"
	"threadbook/sessions"
)

// What a post of Discord's may hold. Bytes are at least as many as characters,
// and defusing and small print need some of the 4,000.
const (
	postText   = 3600
	postLive   = 3000
	editsApart = 1200 * time.Millisecond
	// guildPatience bounds the question for a server's tier, where it isn't known.
	guildPatience = 3 * time.Second
	// findPages of a channel are read in search of a post.
	findPages = 10
	findSlack = time.Minute // between our clock and Discord's
)

// File sizes by a server's boosts. The lowest is Discord's long-time limit:
// its documentation says 20 MiB since September 2026, its servers didn't.
const (
	fileSizeLeast = 10 << 20
	fileSizeTier2 = 50 << 20
	fileSizeTier3 = 100 << 20
)

// Limits implements [bots.Poster].
func (d *Discord) Limits(ctx context.Context, t sessions.ThreadID) bots.Limits {
	return bots.Limits{Text: postText, Live: postLive, Media: maxMedia, FileSize: d.fileSize(ctx, t), Edits: editsApart}
}

// fileSize is the most that a file may have in the thread's server.
func (d *Discord) fileSize(ctx context.Context, t sessions.ThreadID) int64 {
	id, _, err := placeOf(t)
	if err != nil || id == "" {
		return fileSizeLeast
	}
	g, ok := d.guilds.get(id)
	if !ok {
		ctx, cancel := context.WithTimeout(ctx, guildPatience)
		defer cancel()
		if err := d.api.do(ctx, "GET", "guilds/"+id, nil, &g); err != nil {
			d.cfg.Log.WarnContext(ctx, "a server's file limit is not known; taking the least", "guild", id, "err", err)
			if transient(err) {
				return fileSizeLeast
			}
		}
		d.guilds.put(id, g)
	}
	switch {
	case g.Premium >= 3:
		return fileSizeTier3
	case g.Premium == 2:
		return fileSizeTier2
	}
	return fileSizeLeast
}

// Prepare implements [bots.Poster]: files go with their message. It keeps the
// one that [overflow] makes.
func (d *Discord) Prepare(ctx context.Context, p bots.Post) (string, error) {
	if overflow(p) == nil {
		return "", nil
	}
	_, _, err := d.cfg.Blobs.Put(ctx, p.Thread, strings.NewReader(p.Text), int64(len(p.Text)))
	return "", err
}

func (d *Discord) render(p bots.Post, fileSize int64) rendered {
	return render(p, options{fileSize: fileSize, link: func(m bots.Media) string {
		if d.cfg.Link == nil {
			return ""
		}
		return d.cfg.Link(p.Thread, m.Blob, m.Name)
	}})
}

// Post implements [bots.Poster]. A file that Discord finds too large all the
// same has its post made without files.
func (d *Discord) Post(ctx context.Context, p bots.Post, _ string) (string, error) {
	_, ch, err := placeOf(p.Thread)
	if err != nil {
		return "", &bots.PostError{Refused: true, Permanent: true, Err: err}
	}
	var made message
	send := func(r rendered) error {
		r.payload.Nonce, r.payload.Enforce = nonceOf(p.Key()), true
		return d.sendFiles(ctx, "POST", "channels/"+ch+"/messages", p.Thread, r, &made)
	}
	r := d.render(p, d.fileSize(ctx, p.Thread))
	err = send(r)
	if e := asAPI(err); len(r.files) > 0 && (e.Code == codeTooLarge || e.Status == 413) {
		err = send(d.render(p, 0))
	}
	if err == nil && !isID(made.ID) {
		err = &apiError{Method: "POST", Path: "channels/" + ch + "/messages", Message: "an answer without the message's id"}
	}
	return made.ID, postError(err)
}

// sendFiles sends a rendered post with its files from the blob store.
func (d *Discord) sendFiles(ctx context.Context, method, path string, t sessions.ThreadID, r rendered, answer any) error {
	var files []upload
	defer func() {
		for _, f := range files {
			f.Body.(io.Closer).Close()
		}
	}()
	for i, m := range r.files {
		blob, err := d.cfg.Blobs.Get(ctx, t, m.Blob)
		if err != nil {
			return unsent(fmt.Errorf("opening %s: %w", m.Name, err))
		}
		size, err := blob.Seek(0, io.SeekEnd)
		if err == nil {
			_, err = blob.Seek(0, io.SeekStart)
		}
		// The names in the payload are those of the files that are new.
		files = append(files, upload{Name: r.payload.nameOf(i), Size: size, Body: blob})
		if err != nil {
			return unsent(fmt.Errorf("reading %s: %w", m.Name, err))
		}
	}
	return d.api.send(ctx, method, path, r.payload, files, answer)
}

func unsent(err error) error { return &apiError{Unsent: true, Message: "not sent", Err: err} }

// nameOf is the name of the file that is sent as number i.
func (p payload) nameOf(i int) string {
	for _, a := range p.Attachments {
		if a.ID == strconv.Itoa(i) {
			return a.Filename
		}
	}
	return "file"
}

// Edit implements [bots.Poster]. Files that the message has stay what they
// are; an archived thread is opened first, since nothing in one can be edited.
func (d *Discord) Edit(ctx context.Context, p bots.Post, id string) error {
	_, ch, err := placeOf(p.Thread)
	if err != nil || !isID(id) {
		return &bots.PostError{Refused: true, Permanent: true, Err: fmt.Errorf("%q in %q is no message of Discord", id, p.Thread)}
	}
	path := "channels/" + ch + "/messages/" + id
	r := d.render(p, d.fileSize(ctx, p.Thread))
	if len(r.files) > 0 {
		var old message
		if err := d.api.do(ctx, "GET", path, nil, &old); err != nil {
			return postError(err)
		}
		r = r.keeping(old.Files)
	}
	err = d.sendFiles(ctx, "PATCH", path, p.Thread, r, nil)
	if asAPI(err).Code == codeArchived {
		if err := d.api.do(ctx, "PATCH", "channels/"+ch, map[string]bool{"archived": false}, nil); err != nil {
			return postError(err)
		}
		err = d.sendFiles(ctx, "PATCH", path, p.Thread, r, nil)
	}
	if e := asAPI(err); len(r.files) > 0 && (e.Code == codeTooLarge || e.Status == 413) {
		err = d.sendFiles(ctx, "PATCH", path, p.Thread, d.render(p, 0), nil)
	}
	return postError(err)
}

// keeping makes of files that the message has already references to them.
func (r rendered) keeping(old []attachment) rendered {
	files := r.files
	r.files = nil
	list := make([]sentFile, len(r.payload.Attachments))
	for i, a := range r.payload.Attachments {
		list[i] = a
		list[i].ID = ""
		for _, o := range old {
			if o.Filename == a.Filename && isID(o.ID) {
				list[i].ID = o.ID
				break
			}
		}
		if list[i].ID == "" {
			list[i].ID = strconv.Itoa(len(r.files))
			r.files = append(r.files, files[i])
		}
	}
	r.payload.Attachments = list
	return r
}

// Find implements [bots.Poster]: it reads the channel backwards to that time
// for a message of the bot's with the post's nonce or mark.
func (d *Discord) Find(ctx context.Context, p bots.Post, _ string, since time.Time) (string, error) {
	_, ch, err := placeOf(p.Thread)
	if err != nil {
		return "", &bots.PostError{Refused: true, Permanent: true, Err: err}
	}
	me, err := d.identity(ctx)
	if err != nil {
		return "", postError(err)
	}
	want := d.render(p, d.fileSize(ctx, p.Thread)).payload
	since = since.Add(-findSlack)
	where := ""
	for range findPages {
		page, err := d.messages(ctx, ch, where)
		if err != nil {
			return "", postError(err)
		}
		for _, m := range slices.Backward(page) {
			if at, err := time.Parse(time.RFC3339Nano, m.Timestamp); err == nil && at.Before(since) {
				return "", nil
			}
			if m.Author != nil && m.Author.ID == me.User && isPost(m, p, want) {
				return m.ID, nil
			}
		}
		if len(page) < missedPage {
			return "", nil
		}
		where = "&before=" + page[0].ID
	}
	// So many messages can't be told from the post's absence.
	return "", &bots.PostError{Err: fmt.Errorf("the thread has too many messages since %s to look for a post", since.Format(time.RFC3339))}
}

// isPost says whether a message is the post. One that has neither nonce nor
// mark has lost them on the way, and is compared by its text and files.
func isPost(m message, p bots.Post, want payload) bool {
	var nonce string
	if json.Unmarshal(m.Nonce, &nonce) == nil && nonce != "" {
		return nonce == nonceOf(p.Key())
	}
	if len(m.Components) == 0 {
		return false
	}
	if id := m.Components[0].ID; id&markBit != 0 {
		return id == int64(markOf(p.Key()))
	}
	var has, wants strings.Builder
	keptText(&has, m.Components)
	wantedText(&wants, want.Components)
	if has.String() != wants.String() || len(m.Files) != len(want.Attachments) {
		return false
	}
	for i, f := range m.Files {
		if f.Filename != want.Attachments[i].Filename {
			return false
		}
	}
	return true
}

func keptText(b *strings.Builder, list []keptComponent) {
	for _, c := range list {
		b.WriteString(c.Content)
		keptText(b, c.Components)
	}
}

func wantedText(b *strings.Builder, list []component) {
	for _, c := range list {
		b.WriteString(c.Content)
		wantedText(b, c.Components)
	}
}

// Signs of having been heard.
const (
	signSeen = "👀"
	signBusy = "⏳"
)

// Received implements [bots.Signer]: a reaction to the message. What has no
// message, such as a press, needs none.
func (d *Discord) Received(ctx context.Context, t sessions.ThreadID, key string, busy bool) error {
	_, ch, err := placeOf(t)
	id, ours := strings.CutPrefix(key, Platform+":")
	if err != nil || !ours || !isID(id) {
		return err
	}
	sign := signSeen
	if busy {
		sign = signBusy
	}
	react := func(ch string) error {
		return d.api.do(ctx, "PUT", "channels/"+ch+"/messages/"+id+"/reactions/"+url.PathEscape(sign)+"/@me", nil, nil)
	}
	if id != ch {
		return react(ch)
	}
	// The message that a thread was opened on is in the channel above, a
	// forum's first post in the thread itself.
	place, err := d.channel(ctx, ch)
	if err != nil {
		return err
	}
	if place.Parent == "" {
		return react(ch)
	}
	if err = react(place.Parent); asAPI(err).Status/100 == 4 && !transient(err) {
		err = react(ch)
	}
	return err
}

// Working implements [bots.Signer]: the typing sign, which ends by itself ten
// seconds later, or with the next post. A thread got its name when it was opened.
func (d *Discord) Working(ctx context.Context, t sessions.ThreadID, words, _ string) error {
	_, ch, err := placeOf(t)
	if err != nil || words == "" {
		return err
	}
	return d.api.do(ctx, "POST", "channels/"+ch+"/typing", nil, nil)
}
