package discord

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The types that are read from Discord are our own and hold what is used:
// discordgo's refuse a whole message for one component that they don't know.

type user struct {
	ID         string `json:"id"`
	Username   string `json:"username"`
	GlobalName string `json:"global_name"`
	Bot        bool   `json:"bot"`
}

func (u user) name() string {
	if u.GlobalName != "" {
		return u.GlobalName
	}
	return u.Username
}

type member struct {
	User        *user    `json:"user"`
	Nick        string   `json:"nick"`
	Permissions string   `json:"permissions"` // in interactions
	Roles       []string `json:"roles"`
}

type message struct {
	ID         string          `json:"id"`
	Channel    string          `json:"channel_id"`
	Type       int             `json:"type"`
	Author     *user           `json:"author"`
	Member     *member         `json:"member"`
	Content    string          `json:"content"`
	Timestamp  string          `json:"timestamp"`
	Edited     string          `json:"edited_timestamp"`
	Mentions   []user          `json:"mentions"`
	Files      []attachment    `json:"attachments"`
	Referenced *message        `json:"referenced_message"`
	Webhook    string          `json:"webhook_id"`
	Nonce      json.RawMessage `json:"nonce"` // a string or a number
	Components []keptComponent `json:"components"`
}

// keptComponent is as much of a component as tells our own messages apart.
type keptComponent struct {
	ID         int64           `json:"id"`
	Content    string          `json:"content"`
	Components []keptComponent `json:"components"`
}

type attachment struct {
	ID          string `json:"id"`
	Filename    string `json:"filename"`
	Size        int64  `json:"size"`
	ContentType string `json:"content_type"`
	URL         string `json:"url"`
}

// Types of messages that people write (Discord's documentation of messages).
const (
	typeDefault = 0
	typeReply   = 19
)

// Types of channels.
const (
	typeText         = 0
	typeDM           = 1
	typeGroupDM      = 3
	typeAnnouncement = 5
	typeThreadNews   = 10
	typeThreadPublic = 11
	typeThreadClosed = 12
)

type channel struct {
	ID      string `json:"id"`
	Type    int    `json:"type"`
	GuildID string `json:"guild_id"`
	Name    string `json:"name"`
	Parent  string `json:"parent_id"`
	Owner   string `json:"owner_id"`
	Last    string `json:"last_message_id"`
	// Overwrites change permissions for one role or member.
	Overwrites []overwrite `json:"permission_overwrites"`
}

type overwrite struct {
	ID    string `json:"id"`
	Allow string `json:"allow"`
	Deny  string `json:"deny"`
}

func (c channel) isDirect() bool { return c.Type == typeDM || c.Type == typeGroupDM }

func (c channel) isThread() bool { return c.Type >= typeThreadNews && c.Type <= typeThreadClosed }

// hasThreads says that a thread can be opened on a message.
func (c channel) hasThreads() bool { return c.Type == typeText || c.Type == typeAnnouncement }

type guild struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Owner   string `json:"owner_id"`
	Premium int    `json:"premium_tier"`
	Roles   []struct {
		ID          string `json:"id"`
		Permissions string `json:"permissions"`
	} `json:"roles"`
	Channels []channel `json:"channels"` // in GUILD_CREATE
	Threads  []channel `json:"threads"`
}

// isID says whether it is a snowflake. Ids become parts of addresses and of
// thread ids, so nothing else is let in.
func isID(id string) bool {
	_, err := strconv.ParseUint(id, 10, 64)
	return err == nil && id[0] != '0' && id[0] != '+'
}

// discordEpoch is the first moment of Discord's ids, in Unix milliseconds.
const discordEpoch = 1420070400000

// snowflake is the lowest id that something of that time can have.
func snowflake(t time.Time) string {
	return strconv.FormatInt(max(t.UnixMilli()-discordEpoch, 1)<<22, 10)
}

// later compares ids by their time.
func later(a, b string) bool {
	if len(a) != len(b) {
		return len(a) > len(b)
	}
	return a > b
}

// cache keeps the latest things asked for, for a while.
type cache[T any] struct {
	size int
	age  time.Duration

	mu    sync.Mutex
	order []string
	items map[string]cached[T]
}

type cached[T any] struct {
	value T
	at    time.Time
}

const (
	channelsKept = 5000
	channelAge   = 10 * time.Minute
	guildsKept   = 1000
	guildAge     = time.Hour
)

func newCache[T any](size int, age time.Duration) *cache[T] {
	return &cache[T]{size: size, age: age, items: map[string]cached[T]{}}
}

func (c *cache[T]) get(id string) (T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	it, ok := c.items[id]
	return it.value, ok && time.Since(it.at) < c.age
}

func (c *cache[T]) put(id string, v T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[id]; !ok {
		c.order = append(c.order, id)
	}
	c.items[id] = cached[T]{v, time.Now()}
	if len(c.order) > c.size {
		for _, old := range c.order[:len(c.order)/2] {
			delete(c.items, old)
		}
		c.order = slices.Clone(c.order[len(c.order)/2:])
	}
}

func (c *cache[T]) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if it, ok := c.items[id]; ok {
		it.at = time.Time{}
		c.items[id] = it
	}
}

// channel asks for a channel, or knows it.
func (d *Discord) channel(ctx context.Context, id string) (channel, error) {
	if c, ok := d.channels.get(id); ok {
		return c, nil
	}
	var c channel
	if err := d.api.do(ctx, "GET", "channels/"+id, nil, &c); err != nil {
		return channel{}, err
	}
	c.ID = id
	if c.GuildID != "" && !isID(c.GuildID) {
		c.GuildID = ""
	}
	d.channels.put(id, c)
	return c, nil
}
