package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/hibiken/asynq"

	"threadbook/sessions"
)

const (
	wakeType = "thread.wake"
	// queue is the one that all hosts share; each has one of its own as well.
	queue = "threads"
	// checkInterval is how often an idle worker looks at its queues. asynq's
	// default of a second would be most of a person's wait; at this one a
	// wake-up is picked up in about 6 ms, for 200 small commands a second: two
	// queues are looked at each time.
	checkInterval = 10 * time.Millisecond
	// wakeRetries is generous: a wake-up's handler never fails, but asynq
	// counts a worker's death as a failure and keeps what has no retries left.
	wakeRetries = 25
	// sweepAgain is how long one wake-up of the sweep is enough for a thread. It
	// is shorter than a lease: that of a worker that was killed stays in the
	// queue as being worked on, long after the thread may be taken up again.
	sweepAgain = sessions.LeaseTTL / 2
	// maxHeld is how many threads a worker holds. Their turns run only as the
	// gate lets them, so it is the length of the line; those over it wait in
	// the queue, in no order of people.
	maxHeld = 512
)

// Waker wakes workers. Its methods may be called concurrently.
type Waker struct {
	client *asynq.Client
	router
}

// NewWaker returns a waker on the queues in Redis.
func NewWaker(r asynq.RedisConnOpt, fleet Fleet) *Waker {
	return &Waker{client: asynq.NewClient(r), router: router{fleet: fleet}}
}

// Wake says that the thread has something unread.
func (w *Waker) Wake(ctx context.Context, t sessions.ThreadID) error {
	return w.enqueue(ctx, t)
}

// again is Wake for the sweep: a thread that waits for a free worker is woken
// now and then, not at each sweep.
func (w *Waker) again(ctx context.Context, t sessions.ThreadID) error {
	id := fmt.Sprintf("sweep:%s:%d", t, time.Now().UnixNano()/int64(sweepAgain))
	if err := w.enqueue(ctx, t, asynq.TaskID(id)); !errors.Is(err, asynq.ErrTaskIDConflict) {
		return err
	}
	return nil
}

func (w *Waker) enqueue(ctx context.Context, t sessions.ThreadID, opts ...asynq.Option) error {
	name, err := w.queueOf(ctx, t)
	if err != nil {
		return err
	}
	opts = append(opts, asynq.Queue(name), asynq.MaxRetry(wakeRetries))
	_, err = w.client.EnqueueContext(ctx, asynq.NewTask(wakeType, []byte(t)), opts...)
	return err
}

// Close closes the connection to the queue.
func (w *Waker) Close() error { return w.client.Close() }

func (w *Worker) newServer() *asynq.Server {
	return asynq.NewServer(w.Redis, asynq.Config{
		Concurrency:       maxHeld,
		TaskCheckInterval: checkInterval,
		Queues:            map[string]int{hostPrefix + w.Host: 1, queue: 1},
		Logger:            queueLog{w.Log},
		LogLevel:          asynq.WarnLevel,
		// A holder ends soon after its context, which ends after the grace.
		ShutdownTimeout: w.Grace + 2*cleanupTimeout,
	})
}

// handler holds threads under the worker's context, not under asynq's, which
// ends when asynq thinks the task late. It never fails: what was not done is
// unread still, and swept.
func (w *Worker) handler(work context.Context) asynq.Handler {
	return asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		thread := sessions.ThreadID(task.Payload())
		if err := thread.Validate(); err != nil {
			w.Log.ErrorContext(work, "a wake-up names no thread", "err", err)
			return nil
		}
		w.holding.RLock()
		defer w.holding.RUnlock()
		if err := w.hold(work, thread); err != nil {
			w.Log.ErrorContext(work, "working on a thread failed; it will be tried again", "thread", thread, "err", err)
		}
		return nil
	})
}

// queueLog gives asynq's words to our log.
type queueLog struct{ log *slog.Logger }

func (l queueLog) Debug(args ...any) { l.log.Debug("queue: " + fmt.Sprint(args...)) }
func (l queueLog) Info(args ...any)  { l.log.Info("queue: " + fmt.Sprint(args...)) }
func (l queueLog) Warn(args ...any)  { l.log.Warn("queue: " + fmt.Sprint(args...)) }
func (l queueLog) Error(args ...any) { l.log.Error("queue: " + fmt.Sprint(args...)) }
func (l queueLog) Fatal(args ...any) {
	l.log.Error("queue: " + fmt.Sprint(args...))
	os.Exit(1)
}
