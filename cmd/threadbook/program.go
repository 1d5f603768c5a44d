package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"threadbook/bots"
	"threadbook/bots/terminal"
	"threadbook/bots/web"
	"threadbook/sandbox"
	"threadbook/sandbox/docker"
	"threadbook/sessions"
	"threadbook/sessions/blobs"
	"threadbook/sessions/redisstore"
	"threadbook/worker"
	"threadbook/worker/agent"
	"threadbook/worker/openai"
)

const (
	// grace is what running turns get at shutdown to reach their next step.
	grace = 10 * time.Second
	// httpGrace is what open requests get.
	httpGrace = 5 * time.Second
	// storePatience is how long a start waits for Redis.
	storePatience     = 20 * time.Second
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
)

// noModel is what people are told in direct mode, on the page and in threads.
const noModel = "No model is set (OPENAI_API_KEY or OPENAI_BASE_URL), so only code runs here: send a ``` fence, or `!help`."

// Roles are the halves that a process takes.
type Roles struct{ Bot, Worker bool }

// Program is all of threadbook in one process.
type Program struct {
	cfg      Config
	roles    Roles
	log      *slog.Logger
	metrics  *prometheus.Registry
	private  *redisstore.Private // nil where REDIS_URL names one
	store    *redisstore.Store
	blobs    sessions.Blobs
	waker    *worker.Waker
	intake   *bots.Intake
	sandbox  sandbox.Provider // nil in a process that is only the bots
	worker   *worker.Worker   // likewise
	scripted *scriptedModel   // nil but in a demo without a model
	web      *web.Server      // served by the half that talks to people
	chats    []chat           // the chat platforms that have tokens
	listener net.Listener     // nil for ask
}

// New opens what the roles need, down to the listener; nothing is served or
// worked on before Run. With no Bot role and no REDIS_URL there is no listener.
// Beside the chat platforms that are configured there are those of more.
func New(ctx context.Context, cfg Config, roles Roles, log *slog.Logger, more ...func(chatConfig) (chat, error)) (*Program, error) {
	p := &Program{cfg: cfg, roles: roles, log: log, metrics: prometheus.NewRegistry()}
	p.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := p.open(ctx, more); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Program) open(ctx context.Context, more []func(chatConfig) (chat, error)) (err error) {
	if p.store, p.private, err = openStore(ctx, p.cfg, storePatience, p.log); err != nil {
		return err
	}
	if p.blobs, err = blobs.Open(ctx, p.cfg.Data); err != nil {
		return fmt.Errorf("opening the blobs (THREADBOOK_DATA): %w", err)
	}
	p.waker = worker.NewWaker(p.store, p.store)
	p.intake = &bots.Intake{Store: p.store, Blobs: p.blobs, Wake: p.waker.Wake, Log: p.log}
	banner := ""
	if !p.cfg.hasModel() {
		banner = noModel
		if p.cfg.Demo {
			if p.scripted, err = startScripted(); err != nil {
				return err
			}
			banner = scriptedBanner
		}
	}
	p.web, err = web.New(web.Config{Store: p.store, Blobs: p.blobs, Submit: p.intake.Submit, Token: p.cfg.WebToken,
		PublicURL: p.cfg.PublicURL, Banner: banner, Version: version, Log: p.log})
	if err != nil {
		return err
	}
	if p.chats, err = p.openChats(more); err != nil {
		return err
	}
	if p.roles.Worker {
		if err := p.openWorker(ctx); err != nil {
			return err
		}
	}
	if p.roles.Bot || p.cfg.RedisURL != "" && !p.roles.Bot {
		if p.listener, err = net.Listen("tcp", p.cfg.Addr); err != nil {
			return fmt.Errorf("listening on THREADBOOK_ADDR: %w", err)
		}
	}
	return nil
}

// openStore opens the Redis that is configured, or a private one. patience is
// how long it is waited for.
func openStore(ctx context.Context, cfg Config, patience time.Duration, log *slog.Logger) (*redisstore.Store, *redisstore.Private, error) {
	url := cfg.RedisURL
	var private *redisstore.Private
	if url == "" {
		var err error
		if private, err = redisstore.StartPrivate(ctx, filepath.Join(cfg.Data, "redis"), log); err != nil {
			return nil, nil, err
		}
		if url = private.URL; private.Forgets {
			log.Warn("there is no redis-server program, so threads are forgotten when this process ends; install redis-server or set REDIS_URL")
		}
	}
	store, err := redisstore.Open(url)
	if err == nil {
		_, err = patiently(ctx, patience, log, func() (string, error) { return store.Ping(ctx) })
	}
	if err != nil && private != nil {
		err = errors.Join(err, private.Close())
	}
	if err != nil {
		return nil, nil, fmt.Errorf("opening the store (REDIS_URL): %w", err)
	}
	return store, private, nil
}

// patiently asks something of a store that starts at the same time, or that is
// away for a moment, until it answers or the patience is over.
func patiently[T any](ctx context.Context, patience time.Duration, log *slog.Logger, ask func() (T, error)) (T, error) {
	if patience == 0 {
		return ask()
	}
	return backoff.Retry(ctx, ask, backoff.WithBackOff(backoff.NewExponentialBackOff()), backoff.WithMaxElapsedTime(patience),
		backoff.WithNotify(func(err error, next time.Duration) {
			log.WarnContext(ctx, "the store does not answer yet", "err", err, "again", next)
		}))
}

// openProvider opens the sandboxes' engine. fleet sets the sandboxes of one
// Redis apart from those of another on the same machine.
func openProvider(cfg Config, fleet string, log *slog.Logger) (*docker.Provider, error) {
	host, err := cfg.host()
	if err != nil {
		return nil, err
	}
	return docker.New(docker.Config{Image: cfg.SandboxImage, Runtime: cfg.SandboxRuntime, Limits: cfg.limits(),
		Network: cfg.SandboxNetwork, Pool: cfg.Pool, Host: host + "/" + fleet, Logger: log})
}

// fleetOf names the fleet of those who share a store.
func fleetOf(ctx context.Context, store sessions.Store) (string, error) {
	secret, err := store.Secret(ctx)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("fleet"))
	return hex.EncodeToString(mac.Sum(nil)[:6]), nil
}

// openModel is the model that is configured, nil where none is. tries of 0 is
// the default.
func openModel(cfg Config, tries uint, log *slog.Logger) agent.Model {
	if !cfg.hasModel() {
		return nil
	}
	return openai.New(openai.Config{Key: cfg.OpenAIKey, BaseURL: cfg.OpenAIBaseURL, Model: cfg.OpenAIModel, Tries: tries, Log: log})
}

func (p *Program) openWorker(ctx context.Context) (err error) {
	fleet, err := patiently(ctx, storePatience, p.log, func() (string, error) { return fleetOf(ctx, p.store) })
	if err != nil {
		return err
	}
	provider, err := openProvider(p.cfg, fleet, p.log)
	if err != nil {
		return err
	}
	p.sandbox = provider
	cfg := p.cfg
	if p.scripted != nil {
		cfg.OpenAIBaseURL = p.scripted.url
	}
	host, err := p.cfg.host()
	if err != nil {
		return err
	}
	p.worker = worker.New(worker.Config{
		Name: fmt.Sprintf("%s.%d", host, os.Getpid()), Host: host,
		Machine:       func() (worker.Machine, error) { return worker.ReadMachine(p.cfg.Data) },
		SandboxMemory: int64(p.cfg.SandboxMemory), Store: p.store, Blobs: p.blobs, Sandbox: p.sandbox, Redis: p.store,
		Model: openModel(cfg, 0, p.log), NoModel: noModel,
		Concurrency: p.cfg.Concurrency, CellTimeout: p.cfg.CellTimeout, TurnTimeout: p.cfg.TurnTimeout, TurnSteps: p.cfg.TurnSteps,
		Grace: grace, HibernateAfter: p.cfg.HibernateAfter, ExpireAfter: p.cfg.ExpireAfter, Ship: p.cfg.Ship, Show: p.presenter(), Metrics: worker.NewMetrics(p.metrics), Log: p.log,
	})
	return nil
}

// Addr is where the program listens; empty where it doesn't.
func (p *Program) Addr() string {
	if p.listener == nil {
		return ""
	}
	return p.listener.Addr().String()
}

// Run serves and works until ctx ends, a part fails, or the worker has drained.
func (p *Program) Run(ctx context.Context) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	g, ctx := errgroup.WithContext(ctx)
	if p.worker != nil {
		g.Go(func() error {
			defer end()
			return p.worker.Run(ctx)
		})
	}
	if keeper, ok := p.sandbox.(interface{ Keep(context.Context) error }); ok {
		g.Go(func() error { return keeper.Keep(ctx) })
	}
	if p.listener != nil {
		g.Go(func() error { return p.serveHTTP(ctx) })
	}
	if p.roles.Bot {
		for _, c := range p.chats {
			g.Go(func() error { return c.run(ctx) })
		}
	}
	if p.cfg.Demo && p.roles.Bot {
		g.Go(func() error { return prepareDemo(ctx, p.store, p.blobs) })
	}
	return g.Wait()
}

// serveHTTP serves until ctx ends.
func (p *Program) serveHTTP(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", (&health{store: p.store, sandbox: p.sandbox, log: p.log}).ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.metrics, promhttp.HandlerOpts{}))
	if p.roles.Bot {
		mux.Handle("/", p.web)
		for _, c := range p.chats {
			if c.handler != nil {
				mux.Handle("POST /"+c.name+"/", c.handler)
			}
		}
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelWarn)}
	if p.roles.Bot {
		server.RegisterOnShutdown(func() { p.web.Close() })
	}
	stopped := make(chan error, 1)
	unhook := context.AfterFunc(ctx, func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpGrace)
		defer cancel()
		stopped <- server.Shutdown(late)
	})
	err := server.Serve(p.listener)
	if unhook() { // it ended by itself
		return fmt.Errorf("serving HTTP: %w", err)
	}
	if err := <-stopped; err != nil {
		return errors.Join(fmt.Errorf("closing HTTP connections: %w", err), server.Close())
	}
	return nil
}

// ask runs the program for one terminal thread, and leaves no sandbox behind.
func (p *Program) ask(ctx context.Context, messages []terminal.Message, opts terminal.Options) (ok bool, err error) {
	t := &terminal.Terminal{Store: p.store, Blobs: p.blobs, Submit: p.intake.Submit, Options: opts}
	// The worker goes on when ctx ends, so that the turn is seen to stop.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var g errgroup.Group
	g.Go(func() error { return p.worker.Run(work) })
	thread := terminal.NewThread()
	ok, err = t.Ask(ctx, thread, messages)
	cancel()
	err = errors.Join(err, g.Wait())
	late, done := context.WithTimeout(context.WithoutCancel(ctx), httpGrace)
	defer done()
	return ok, errors.Join(err, p.sandbox.Remove(late, string(thread)))
}

// Close gives back what New opened. Sandboxes stay, for the next process.
func (p *Program) Close() error {
	var errs []error
	if p.listener != nil && p.web != nil {
		p.web.Close()
	}
	if p.sandbox != nil {
		errs = append(errs, p.sandbox.Close())
	}
	if p.scripted != nil {
		errs = append(errs, p.scripted.close())
	}
	if p.waker != nil {
		errs = append(errs, p.waker.Close())
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	if p.private != nil {
		errs = append(errs, p.private.Close())
	}
	return errors.Join(errs...)
}
