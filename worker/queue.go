package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
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
	// sweepAgain is how long one wake-up of the sweep is enough for a thread.
	sweepAgain = sessions.LeaseTTL / 2
	// sweepTasks bounds the sweep's tasks of a thread in a queue. One waits at
	// most; the others are of workers that were killed, and stay in the queue as
	// being worked on for a minute or two after the thread may be taken up again.
	sweepTasks = 10
	// holdTimeout is when asynq would take a task for late: never. A thread is held
	// as long as its turns, which have limits of their own.
	holdTimeout = 365 * 24 * time.Hour
	// maxHeld is how many threads a worker holds. Their turns run only as the
	// gate lets them, so it is the length of the line; those over it wait in
	// the queue, in no order of people.
	maxHeld = 512
)

// Waker wakes workers. Its methods may be called concurrently.
type Waker struct {
	client    *asynq.Client
	inspector *asynq.Inspector
	router
	swept map[sweptTo]time.Time // by the sweep, whose goroutine alone has it
}

// sweptTo is a wake-up of the sweep.
type sweptTo struct {
	queue  string
	thread sessions.ThreadID
}

// NewWaker returns a waker on the queues in Redis.
func NewWaker(r asynq.RedisConnOpt, fleet Fleet) *Waker {
	return &Waker{client: asynq.NewClient(r), inspector: asynq.NewInspector(r), router: router{fleet: fleet}, swept: map[sweptTo]time.Time{}}
}

// Wake says that the thread has something unread.
func (w *Waker) Wake(ctx context.Context, t sessions.ThreadID) error {
	name, err := w.queueOf(ctx, t)
	if err != nil {
		return err
	}
	return w.enqueue(ctx, name, t)
}

// again is Wake for the sweep: a thread that nobody has taken up is woken now and
// then, not at each sweep, and not while the sweep's task for it waits in the
// queue still.
func (w *Waker) again(ctx context.Context, t sessions.ThreadID) error {
	name, err := w.queueOf(ctx, t)
	if err != nil {
		return err
	}
	to := sweptTo{name, t}
	if time.Since(w.swept[to]) < sweepAgain {
		return nil
	}
	for n := range sweepTasks {
		id := fmt.Sprintf("sweep:%s:%d", t, n)
		err := w.enqueue(ctx, name, t, asynq.TaskID(id))
		if err == nil {
			break
		}
		if !errors.Is(err, asynq.ErrTaskIDConflict) {
			return err
		}
		task, err := w.inspector.GetTaskInfo(name, id)
		if err == nil && task.State == asynq.TaskStatePending {
			break
		}
		if err != nil && !errors.Is(err, asynq.ErrTaskNotFound) && !errors.Is(err, asynq.ErrQueueNotFound) {
			return err
		}
	}
	w.swept[to] = time.Now()
	return nil
}

// forgetSwept forgets the sweep's wake-ups that are no longer enough.
func (w *Waker) forgetSwept() {
	maps.DeleteFunc(w.swept, func(_ sweptTo, at time.Time) bool { return time.Since(at) >= sweepAgain })
}

func (w *Waker) enqueue(ctx context.Context, name string, t sessions.ThreadID, opts ...asynq.Option) error {
	opts = append(opts, asynq.Queue(name), asynq.MaxRetry(wakeRetries), asynq.Timeout(holdTimeout))
	_, err := w.client.EnqueueContext(ctx, asynq.NewTask(wakeType, []byte(t)), opts...)
	return err
}

// Close closes the connections to the queues.
func (w *Waker) Close() error { return errors.Join(w.client.Close(), w.inspector.Close()) }

func (w *Worker) newServer() *asynq.Server {
	return asynq.NewServer(w.Redis, asynq.Config{
		Concurrency:       maxHeld,
		TaskCheckInterval: checkInterval,
		Queues:            map[string]int{hostPrefix + w.Host: 1, queue: 1},
		Logger:            queueLog{w.Log},
		LogLevel:          asynq.WarnLevel,
		ShutdownTimeout:   w.holdersEnd(),
	})
}

// holdersEnd is how long after a shutdown's begin all holders have ended: soon
// after their context, which ends after the grace.
func (w *Worker) holdersEnd() time.Duration { return w.Grace + 2*cleanupTimeout }

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

// goneDays is for how many days, today among them, nothing must have been taken
// from the queue of a host that is away before that counts as gone: a day at least.
const goneDays = 2

// dropQueues removes the queues of hosts that are gone, and says how many. Nothing
// is lost with them, since whatever is unread is swept. What a worker was at when
// it was killed can't be taken out of its queue by anybody else; such a queue
// stays, with that alone.
func (w *Worker) dropQueues(ctx context.Context) (dropped int, err error) {
	inspector := asynq.NewInspector(w.Redis)
	defer inspector.Close()
	names, err := inspector.Queues()
	if err != nil {
		return 0, fmt.Errorf("listing the queues: %w", err)
	}
	hosts, err := w.Store.Hosts(ctx)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		host, own := strings.CutPrefix(name, hostPrefix)
		if !own || slices.ContainsFunc(hosts, func(h sessions.Host) bool { return h.Name == host }) {
			continue
		}
		days, err := inspector.History(name, goneDays)
		if err != nil {
			return dropped, fmt.Errorf("queue %s: %w", name, err)
		}
		if slices.ContainsFunc(days, func(d *asynq.DailyStats) bool { return d.Processed > 0 }) {
			continue
		}
		info, err := inspector.GetQueueInfo(name)
		switch {
		case err != nil:
		case info.Active > 0:
			_, err = inspector.DeleteAllPendingTasks(name)
		default:
			if err = inspector.DeleteQueue(name, true); err == nil {
				dropped++
			}
		}
		if err != nil {
			return dropped, fmt.Errorf("queue %s: %w", name, err)
		}
	}
	return dropped, nil
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
