package main

import (
	"context"
	"log/slog"
	"net/http"

	"threadbook/bots"
	"threadbook/sessions"
)

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
	cfg := chatConfig{Intake: p.intake, Store: p.store, Blobs: p.blobs, Log: p.log}
	var chats []chat
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
