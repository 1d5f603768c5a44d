package redisstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

const (
	// startTimeout bounds the start of the child, reading its append-only
	// file included.
	startTimeout = time.Minute
	// stopTimeout is what the child gets to write down what it holds.
	stopTimeout = 10 * time.Second
	// restartPause lies between the child's death and its next start.
	restartPause = 200 * time.Millisecond
	pingPause    = 5 * time.Millisecond
	// maxSocketPath is the length that Linux allows (sun_path less its zero).
	maxSocketPath = 107
)

// Private is a Redis of our own, for an installation that names none.
type Private struct {
	URL string
	// Forgets says that nothing is kept when the process ends: there was no
	// redis-server to run.
	Forgets bool

	stop func() error
}

// Close stops the server, if this process started it.
func (p *Private) Close() error { return p.stop() }

// StartPrivate runs a redis-server child that keeps its append-only file under
// dir and listens on a socket there. It is restarted when it dies, and it dies
// with this process. Where another process runs one under dir already, that
// one is used. Where there is no such program, a server inside this process
// takes its place.
func StartPrivate(ctx context.Context, dir string, log *slog.Logger) (*Private, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		m, err := miniredis.Run()
		if err != nil {
			return nil, fmt.Errorf("starting an in-process Redis: %w", err)
		}
		return &Private{URL: "redis://" + m.Addr(), Forgets: true, stop: func() error { m.Close(); return nil }}, nil
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the private Redis: %w", err)
	}
	socket := filepath.Join(dir, "redis.sock")
	if len(socket) > maxSocketPath {
		sum := sha256.Sum256([]byte(dir))
		socket = filepath.Join(os.TempDir(), "threadbook-"+hex.EncodeToString(sum[:8])+".sock")
	}
	url := "unix://" + socket

	// Whoever holds the lock runs the child; the others use its socket.
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the private Redis's lock: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if err := waitForPing(ctx, socket); err != nil {
			return nil, fmt.Errorf("another process holds %s/lock and its Redis does not answer: %w", dir, err)
		}
		return &Private{URL: url, stop: func() error { return nil }}, nil
	}
	c := &child{program: program, dir: dir, socket: socket, log: log, done: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go c.supervise()
	stop := sync.OnceValue(func() error {
		c.cancel()
		<-c.done
		return lock.Close()
	})
	if err := waitForPing(ctx, socket); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the private Redis in %s: %w; %s", dir, err, c.said()), stop())
	}
	return &Private{URL: url, stop: stop}, nil
}

// child is the running redis-server.
type child struct {
	program, dir, socket string
	log                  *slog.Logger
	ctx                  context.Context // ends when the child is to stop
	cancel               context.CancelFunc
	done                 chan struct{}

	mu   sync.Mutex
	tail string // the last that it printed
}

// supervise runs the child until it is told to stop. It keeps to one thread of
// the system, since Pdeathsig means the death of the thread that forked.
func (c *child) supervise() {
	defer close(c.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for c.ctx.Err() == nil {
		err := c.run()
		if c.ctx.Err() != nil {
			return
		}
		c.log.Error("the private redis-server ended; starting it again", "err", err, "output", c.said())
		select {
		case <-c.ctx.Done():
		case <-time.After(restartPause):
		}
	}
}

// run runs the child once.
func (c *child) run() error {
	cmd := exec.CommandContext(c.ctx, c.program,
		"--port", "0", "--unixsocket", c.socket, "--unixsocketperm", "700",
		"--dir", c.dir, "--daemonize", "no", "--supervised", "no",
		// What was acknowledged survives even the machine's sudden death.
		"--appendonly", "yes", "--appendfsync", "always", "--save", "")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	cmd.Stdout = c
	cmd.Stderr = c
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	return cmd.Run()
}

// Write keeps the last of the child's own log, for when it won't start.
func (c *child) Write(p []byte) (int, error) {
	const keep = 2 << 10
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tail += string(p)
	if len(c.tail) > keep {
		c.tail = c.tail[len(c.tail)-keep:]
	}
	return len(p), nil
}

func (c *child) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return "it said: " + strings.TrimSpace(c.tail)
}

// waitForPing waits until the server on the socket answers, which it does once
// it has read its file.
func waitForPing(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, MaxRetries: -1})
	defer client.Close()
	for {
		err := client.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pingPause):
		}
	}
}
