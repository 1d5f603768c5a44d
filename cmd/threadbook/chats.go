package main

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"threadbook/bots"
	"threadbook/bots/discord"
	"threadbook/bots/slack"
	"threadbook/sessions"
)

// linkTimeout bounds the making of a download link.
const linkTimeout = 5 * time.Second

// chat is a chat platform that this process talks to.
type chat struct {
	name   string
	poster bots.Poster
	// run hears people until ctx ends; the half that is only a worker does not
	// call it.
	run func(ctx context.Context) error
	// handler serves POST /<name>/…; nil where the platform needs no HTTP.
	handler http.Handler
}

// chatConfig is what every platform's adapter gets.
type chatConfig struct {
	Intake *bots.Intake
	Store  sessions.Store
	Blobs  sessions.Blobs
	// Link is the address under which a file can be downloaded, empty where
	// nobody has set one.
	Link func(thread sessions.ThreadID, blob, name string) string
	Log  *slog.Logger
}

// openChats opens those platforms that have tokens, and more.
func (p *Program) openChats(more []func(chatConfig) (chat, error)) ([]chat, error) {
	cfg := chatConfig{Intake: p.intake, Store: p.store, Blobs: p.blobs, Link: p.link, Log: p.log}
	var chats []chat
	if p.cfg.SlackBotToken != "" {
		c := slackConfig(p.cfg, cfg)
		c.Seen = p.store.Marks(slack.Platform)
		s, err := slack.New(c)
		if err != nil {
			return nil, err
		}
		chats = append(chats, chat{name: slack.Platform, poster: s, run: s.Run, handler: s.Handler()})
	}
	if p.cfg.DiscordBotToken != "" {
		c := discordConfig(p.cfg, cfg)
		c.Marks = p.store.Marks(discord.Platform)
		d, err := discord.New(c)
		if err != nil {
			return nil, err
		}
		chats = append(chats, chat{name: discord.Platform, poster: d, run: d.Run})
	}
	for _, open := range more {
		c, err := open(cfg)
		if err != nil {
			return nil, err
		}
		chats = append(chats, c)
	}
	return chats, nil
}

// presenter shows threads on the chats, nil where there are none.
func (p *Program) presenter() *bots.Presenter {
	if len(p.chats) == 0 {
		return nil
	}
	posters := map[string]bots.Poster{}
	for _, c := range p.chats {
		posters[c.name] = c.poster
	}
	return &bots.Presenter{Posters: posters, Blobs: p.blobs, HasModel: p.cfg.hasModel() || p.scripted != nil,
		Metrics: bots.NewMetrics(p.metrics), Log: p.log}
}

func slackConfig(c Config, all chatConfig) slack.Config {
	return slack.Config{BotToken: c.SlackBotToken, AppToken: c.SlackAppToken, SigningSecret: c.SlackSigningSecret, APIURL: c.SlackAPIURL,
		Intake: all.Intake, Store: all.Store, Blobs: all.Blobs, Link: all.Link, Log: all.Log}
}

func discordConfig(c Config, all chatConfig) discord.Config {
	return discord.Config{Token: c.DiscordBotToken, APIURL: c.DiscordAPIURL,
		Intake: all.Intake, Store: all.Store, Blobs: all.Blobs, Link: all.Link, Log: all.Log}
}

// link is a download link of a file, empty where THREADBOOK_PUBLIC_URL is, or
// where the store does not answer: whoever wants to give one says so instead.
func (p *Program) link(thread sessions.ThreadID, blob, name string) string {
	if p.cfg.PublicURL == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), linkTimeout)
	defer cancel()
	url, err := p.web.FileURL(ctx, thread, blob, name)
	if err != nil {
		p.log.Warn("a download link was not made", "thread", thread, "file", name, "err", err)
		return ""
	}
	return url
}
