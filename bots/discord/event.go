package discord

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/bwmarrin/discordgo"

	"threadbook/sessions"
)

// event takes what discordgo hands over. It is called by the loop that reads
// the connection, so it decodes, hands on and returns.
func (d *Discord) event(e *discordgo.Event) {
	if e == nil {
		return
	}
	_ = d.guard(func() error {
		d.dispatch(strings.TrimPrefix(e.Type, rawPrefix), e.RawData)
		return nil
	})
}

// guard makes an error of a panic: whatever comes over the wire, the process
// that runs everybody's threads lives.
func (d *Discord) guard(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			d.cfg.Log.Error("a panic over an event of Discord", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("a panic: %v", p)
		}
	}()
	return do()
}

func (d *Discord) dispatch(name string, raw json.RawMessage) {
	switch name {
	case "READY", "RESUMED":
		d.cfg.Log.Info("connected to Discord", "event", name)
		d.lanes.reconnected()
	case "GUILD_CREATE":
		var g guild
		if tolerant(json.Unmarshal(raw, &g)) == nil && isID(g.ID) {
			d.joined(g)
		}
	case "CHANNEL_UPDATE", "CHANNEL_DELETE", "THREAD_UPDATE", "THREAD_DELETE":
		var c channel
		if tolerant(json.Unmarshal(raw, &c)) == nil {
			d.channels.drop(c.ID)
		}
	case "MESSAGE_CREATE":
		d.changed(created, raw)
	case "MESSAGE_UPDATE":
		d.changed(edited, raw)
	case "MESSAGE_DELETE":
		d.changed(deleted, raw)
	case "MESSAGE_DELETE_BULK":
		var b struct {
			IDs     []string `json:"ids"`
			Channel string   `json:"channel_id"`
		}
		if tolerant(json.Unmarshal(raw, &b)) != nil || !isID(b.Channel) {
			return
		}
		for _, id := range b.IDs {
			if isID(id) {
				d.lanes.push(event{deleted, message{ID: id, Channel: b.Channel}})
			}
		}
	case "INTERACTION_CREATE":
		d.interacted(raw)
	}
}

// changed puts a message's event into its lane.
func (d *Discord) changed(what change, raw json.RawMessage) {
	var m message
	if tolerant(json.Unmarshal(raw, &m)) == nil && isID(m.ID) && isID(m.Channel) {
		d.lanes.push(event{what, m})
	}
}

// joined takes a server's list of channels and open threads, and has those
// read that got messages meanwhile.
func (d *Discord) joined(g guild) {
	for _, c := range slices.Concat(g.Channels, g.Threads) {
		if !isID(c.ID) {
			continue
		}
		c.GuildID = g.ID
		d.channels.put(c.ID, c)
		if c.isThread() || c.hasThreads() {
			d.lanes.seen(c.ID, c.Last)
		}
	}
}

// messagesAfter reads a page of a channel, oldest first.
func (d *Discord) messagesAfter(ctx context.Context, ch, after string) ([]message, error) {
	page, err := d.messages(ctx, ch, "&after="+after)
	return slices.DeleteFunc(page, func(m message) bool { return !later(m.ID, after) }), err
}

// messages reads a page of a channel, oldest first.
func (d *Discord) messages(ctx context.Context, ch, where string) ([]message, error) {
	var page []message
	err := d.api.do(ctx, "GET", fmt.Sprintf("channels/%s/messages?limit=%d%s", ch, missedPage, where), nil, &page)
	page = slices.DeleteFunc(page, func(m message) bool { return !isID(m.ID) })
	for i := range page {
		page[i].Channel = ch
	}
	slices.SortFunc(page, func(a, b message) int {
		if later(a.ID, b.ID) {
			return 1
		}
		return -1
	})
	return page, err
}

// forNow says whether the same may work later.
func forNow(err error) bool {
	var e *apiError
	if errors.As(err, &e) {
		return transient(err)
	}
	return sessions.CodeOf(err) == sessions.Unavailable || errors.Is(err, context.DeadlineExceeded)
}

// happened does what an event asks for.
func (d *Discord) happened(ctx context.Context, e event) error {
	switch e.what {
	case edited:
		return d.edit(ctx, e.m)
	case deleted:
		return d.remove(ctx, e.m)
	default:
		return d.take(ctx, e.m)
	}
}

// logPage is how many events of a thread are read at once.
const logPage = 1000

// hasKey says whether the thread's log has a message of that key.
func (d *Discord) hasKey(ctx context.Context, t sessions.ThreadID, key string) (bool, error) {
	for after := int64(0); ; {
		page, err := d.cfg.Store.Read(ctx, t, after, logPage, 0)
		if err != nil || len(page) == 0 {
			return false, err
		}
		for _, ev := range page {
			if m, ok := ev.Body.(*sessions.Message); ok && m.Key == key {
				return true, nil
			}
		}
		after = page[len(page)-1].Seq
	}
}

// threadOf finds the thread that a message was taken into: its channel's, or
// the one that was opened on it.
func (d *Discord) threadOf(ctx context.Context, m message) (sessions.ThreadID, bool, error) {
	ch, err := d.channel(ctx, m.Channel)
	if err != nil {
		return "", false, err
	}
	at := ch
	if ch.hasThreads() {
		at.ID = m.ID
	}
	t := at.threadID()
	active, err := d.cfg.Store.Active(ctx, t)
	return t, !active.IsZero(), err
}

// keyOf is a message's key in the store.
func keyOf(id string) string { return Platform + ":" + id }

// stampOf makes a part of a key of an edit's time.
func stampOf(edited string) string {
	if t, err := time.Parse(time.RFC3339Nano, edited); err == nil {
		return t.UTC().Format("20060102T150405.000000")
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, edited)
}
