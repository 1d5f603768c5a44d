// Package discord is the way in and out for Discord: a thread of a server, or
// a direct chat with the bot, is a thread of threadbook. It alone knows
// discordgo.
//
// In. [Discord.Run] keeps a gateway connection up and turns its events into
// [bots.Message] values. discordgo v0.29.0 has faults that lock up or kill a
// process (a null frame, op 7 or 11 before READY, a decoded event without its
// body), so it is used as a machine that identifies, beats and resumes, and no
// more: its connection is a [wire], which hands discordgo washed frames only,
// and the watchdog in gateway.go throws a session away that hangs. Events are
// handed over raw into bounded lanes, one a channel and in order (lanes.go).
// What Discord did not deliver, or a lane had no room for, is read by REST:
// the ids of the last handled messages are kept in [Marks]. A message too
// many is harmless, since its id is its key in the store.
//
// A thread that is opened on a message has the message's id, and a message can
// have one thread alone, so opening it again is harmless too.
//
// Out. [Discord] is a [bots.Poster] and a [bots.Signer]; a process that only
// posts never calls Run. Posts are Components V2 messages: 4,000 characters,
// figures with alt text, files and buttons in one. The requests are our own,
// since discordgo knows no nonce, no alt text, no context and no bound on its
// waits. A post carries its key twice: as the nonce, which Discord enforces
// for a few minutes, and as the id of its first component, which Discord keeps
// with the message and returns: [Discord.Find] compares that.
//
// Interactions (commands, buttons) are acknowledged within Discord's 3 s and
// never used after that but for a short answer to the one who pressed; the
// work is posted as messages.
package discord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"threadbook/bots"
	"threadbook/sessions"
)

// Platform is what thread ids of Discord begin with.
const Platform = "discord"

// DefaultAPI is Discord's own API. Version 9 is discordgo's.
const DefaultAPI = "https://discord.com/api/v9/"

// direct stands in a thread's id where a server's id would be.
const direct = "@me"

const (
	openLimit    = 30 * time.Second // for a gateway connection to be ready
	firstPause   = time.Second      // before the first reconnect
	longestPause = 2 * time.Minute  // keeps identifies under Discord's 1000 a day
)

// Config says where and how. All fields but the marked ones are needed.
type Config struct {
	Token     string // with or without "Bot "
	APIURL    string // optional: [DefaultAPI]
	AllowBots bool   // optional: take messages of other bots too

	Intake *bots.Intake // for Run alone
	Store  sessions.Store
	Blobs  sessions.Blobs
	Marks  Marks // for Run alone
	// Link makes a download link for a file that is too large for Discord.
	// Optional, and so is its answer.
	Link func(thread sessions.ThreadID, blob, name string) string
	Log  *slog.Logger

	OpenLimit  time.Duration // optional: how long a gateway may take to be ready
	FirstPause time.Duration // optional: before the first reconnect
}

// Marks keep how far the adapter has read, across restarts.
type Marks interface {
	// Marks are the ids of the last messages handled, by channel.
	Marks(ctx context.Context) (map[string]string, error)
	// SetMarks changes some of them; an empty id removes a channel's.
	SetMarks(ctx context.Context, marks map[string]string) error
}

// Discord is the adapter.
type Discord struct {
	cfg      Config
	api      *client
	fileHost string // a host beside Discord's own that files may come from
	channels *cache[channel]
	guilds   *cache[guild]
	lanes    *lanes
	presses  chan interaction

	mu sync.Mutex
	me *identity
}

var (
	_ bots.Poster = (*Discord)(nil)
	_ bots.Signer = (*Discord)(nil)
)

// New checks the configuration. It calls nothing.
func New(cfg Config) (*Discord, error) {
	api, err := newClient(cfg.Token, cfg.APIURL)
	if err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OpenLimit == 0 {
		cfg.OpenLimit = openLimit
	}
	if cfg.FirstPause == 0 {
		cfg.FirstPause = firstPause
	}
	d := &Discord{
		cfg:      cfg,
		api:      api,
		channels: newCache[channel](channelsKept, channelAge),
		guilds:   newCache[guild](guildsKept, guildAge),
		presses:  make(chan interaction, interactionsAtOnce),
	}
	if host := api.base.Hostname(); host != "discord.com" {
		d.fileHost = host
	}
	d.lanes = newLanes(d)
	return d, nil
}

// Run listens until ctx ends. It returns an error only where trying again
// can't help: the token or an intent is refused.
func (d *Discord) Run(ctx context.Context) error {
	if d.cfg.Intake == nil || d.cfg.Marks == nil {
		return errors.New("discord: listening needs an intake and marks")
	}
	var me identity
	for pause := newPause(d.cfg.FirstPause); ; {
		var err error
		if me, err = d.identity(ctx); err == nil {
			break
		}
		if unauthorized(err) {
			return errToken
		}
		d.cfg.Log.WarnContext(ctx, "Discord does not answer; trying again", "err", err)
		if !pause.wait(ctx) {
			return nil
		}
	}
	if err := d.lanes.load(ctx, d.cfg.FirstPause); err != nil {
		return nil // only the end of ctx ends it
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.listen(ctx, me) })
	group.Go(func() error { d.lanes.run(ctx); return nil })
	group.Go(func() error { d.interactions(ctx); return nil })
	group.Go(func() error { d.register(ctx, me); return nil })
	return group.Wait()
}

// errToken is what a refused token is told as.
var errToken = errors.New("discord refuses the bot token (401 or close code 4004): " +
	"reset it in the developer portal under Bot and set DISCORD_BOT_TOKEN to the new one")

// identity is who the token is.
type identity struct {
	User    string // the bot's user id
	App     string // the application's id
	Content bool   // the MESSAGE_CONTENT intent is switched on in the portal
	Name    string
}

// Flags of an application: the intent for an app of any size, and the one
// below 10,000 users (Discord's documentation of the application object).
const appContentFlags = 1<<18 | 1<<19

// identity asks once.
func (d *Discord) identity(ctx context.Context) (identity, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.me != nil {
		return *d.me, nil
	}
	me, err := d.api.identity(ctx)
	if err != nil {
		return identity{}, err
	}
	d.me = &me
	return me, nil
}

func (c *client) identity(ctx context.Context) (identity, error) {
	var u user
	if err := c.do(ctx, "GET", "users/@me", nil, &u); err != nil {
		return identity{}, err
	}
	if !isID(u.ID) {
		return identity{}, fmt.Errorf("discord: users/@me has no id")
	}
	var app struct {
		ID    string `json:"id"`
		Flags int64  `json:"flags"`
	}
	me := identity{User: u.ID, App: u.ID, Name: u.name(), Content: true}
	switch err := c.do(ctx, "GET", "applications/@me", nil, &app); {
	case err == nil && isID(app.ID):
		me.App, me.Content = app.ID, app.Flags&appContentFlags != 0
	case err != nil && !missing(err):
		return identity{}, err
	}
	return me, nil
}

// threadID names a channel's thread.
func (c channel) threadID() sessions.ThreadID {
	if c.GuildID == "" {
		return sessions.NewThreadID(Platform, direct, c.ID)
	}
	return sessions.NewThreadID(Platform, c.GuildID, c.ID)
}

// placeOf takes a thread's id apart; guild is empty for a direct chat.
func placeOf(t sessions.ThreadID) (guild, channel string, err error) {
	_, rest, _ := strings.Cut(string(t), ":")
	guild, channel, ok := strings.Cut(rest, "/")
	if t.Platform() != Platform || !ok || !isID(channel) || guild != direct && !isID(guild) {
		return "", "", fmt.Errorf("%q is no thread of Discord", t)
	}
	if guild == direct {
		guild = ""
	}
	return guild, channel, nil
}

func parseBase(api string) (*url.URL, error) {
	if api == "" {
		api = DefaultAPI
	}
	base, err := url.Parse(api)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("the address of Discord's API has to be like %s", DefaultAPI)
	}
	if !strings.HasSuffix(base.Path, "/") {
		base.Path += "/"
	}
	return base, nil
}
