package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"threadbook/sandbox"
	"threadbook/sessions"
)

const (
	// readyTimeout bounds one look at a part's health.
	readyTimeout = 3 * time.Second
	// cellFresh is how long a cell that ran proves that cells run.
	cellFresh = time.Minute
	// cellTrial bounds the trial of a cell in a sandbox of its own.
	cellTrial = time.Minute
)

// health answers whether the parts of a process work. That cells run is tried
// when somebody asks and the last proof has grown old, so an installation that
// nobody watches spends nothing on it.
type health struct {
	store   sessions.Store
	sandbox sandbox.Provider // nil in a process that runs no cells
	log     *slog.Logger

	mu     sync.Mutex
	ran    time.Time     // when a cell last ran
	failed error         // why the last trial failed, if it did
	trial  chan struct{} // closed when the trial under way ends; nil: none is
}

// ready is GET /readyz.
func (h *health) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	faults := map[string]string{}
	if _, err := h.store.Ping(ctx); err != nil {
		faults["redis"] = sessions.TextOf(err)
	}
	if h.sandbox != nil {
		if err := h.cellsRun(ctx); err != nil {
			faults["sandbox"] = err.Error()
		}
	}
	if len(faults) > 0 {
		writeJSON(w, http.StatusServiceUnavailable, faults)
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

// cellsRun waits for a proof that cells run, as long as ctx allows.
func (h *health) cellsRun(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.ran) < cellFresh {
		return nil
	}
	if h.trial == nil {
		h.trial = make(chan struct{})
		go h.try(context.WithoutCancel(ctx))
	}
	trial := h.trial
	h.mu.Unlock()
	select {
	case <-trial:
	case <-ctx.Done():
	}
	h.mu.Lock()
	switch {
	case time.Since(h.ran) < cellFresh:
		return nil
	case h.failed != nil:
		return h.failed
	default:
		return errors.New("no cell has run in the last minute; one is being tried")
	}
}

// try runs a cell in a sandbox of its own.
func (h *health) try(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, cellTrial)
	defer cancel()
	err := tryCell(ctx, h.sandbox)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed = err; err == nil {
		h.ran = time.Now()
	} else {
		h.log.ErrorContext(ctx, "a cell that was tried did not run", "err", err)
	}
	close(h.trial)
	h.trial = nil
}

// tryCell runs a cell in a new sandbox and removes that.
func tryCell(ctx context.Context, provider sandbox.Provider) (err error) {
	thread := "health:" + rand.Text()
	defer func() {
		err = errors.Join(err, provider.Remove(context.WithoutCancel(ctx), thread))
	}()
	session, err := provider.Open(ctx, thread)
	if err != nil {
		return err
	}
	var printed strings.Builder
	cell := sandbox.Cell{ID: 1, Language: sandbox.Python, Code: "print(6*7)", Timeout: cellTrial / 2}
	result, err := session.Run(ctx, cell, func(out sandbox.Output) error { printed.WriteString(out.Text); return nil })
	if err != nil {
		return err
	}
	if result.Status != sandbox.OK || strings.TrimSpace(printed.String()) != "42" {
		return fmt.Errorf("a cell that prints 42 ended as %q and printed %q", result.Status, printed.String())
	}
	return nil
}
