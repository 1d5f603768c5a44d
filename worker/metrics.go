package worker

import (
	"context"
	"errors"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"

	"threadbook/sandbox"
	"threadbook/sessions"
)

// Metrics are a worker's, under the names that dashboards use.
type Metrics struct {
	turns     *prometheus.HistogramVec // by platform and result
	phases    *prometheus.HistogramVec // by phase
	cells     *prometheus.HistogramVec // by language and status
	acquired  *prometheus.HistogramVec // by how
	tokens    *prometheus.CounterVec   // by kind
	recovered prometheus.Counter

	sandboxes *prometheus.GaugeVec // by state
	depth     prometheus.Gauge
	machine   *prometheus.GaugeVec // by what
}

// The phases of a turn.
const (
	phaseQueue   = "queue"   // from a message's arrival to its turn
	phaseSandbox = "sandbox" // opening the sandbox, its files included
	phaseModel   = "model"   // one reply
	phaseCell    = "cell"    // one cell
)

// NewMetrics makes the metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	// From a warm cell's milliseconds to a turn's quarter of an hour.
	buckets := prometheus.ExponentialBucketsRange(0.005, 900, 18)
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "threadbook", Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &Metrics{
		turns:    histogram("turn_seconds", "Turns, from their start to their end.", "platform", "result"),
		phases:   histogram("turn_phase_seconds", "Parts of turns.", "phase"),
		cells:    histogram("cell_seconds", "Cells, as the sandbox timed them.", "language", "status"),
		acquired: histogram("sandbox_acquire_seconds", "Opening a thread's sandbox.", "how"),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "threadbook", Name: "model_tokens_total",
			Help: "Tokens that the model read (in), of those from its cache (cached), and wrote (out)."}, []string{"kind"}),
		recovered: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "threadbook", Name: "recovered_turns_total",
			Help: "Turns taken up after their holder was gone."}),
		sandboxes: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "threadbook", Name: "sandboxes",
			Help: "Sandboxes of this host: kept ready (warm), a thread's in memory (live), a thread's on disk (hibernated)."}, []string{"state"}),
		depth: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "threadbook", Name: "queue_depth",
			Help: "Turns that wait in this worker's line, and wake-ups in the queues that it serves."}),
		machine: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "threadbook", Name: "machine_bytes",
			Help: "Memory of this worker's machine, and the disk that files are kept on: in all (memory, disk) and in use (memory_used, disk_used)."}, []string{"what"}),
	}
	r.MustRegister(m.turns, m.phases, m.cells, m.acquired, m.tokens, m.recovered, m.sandboxes, m.depth, m.machine)
	return m
}

// since observes the time from began to now.
func since(o prometheus.Observer, began time.Time) { o.Observe(time.Since(began).Seconds()) }

// reply counts one reply's tokens.
func (m *Metrics) reply(t sessions.Tokens) {
	m.tokens.WithLabelValues("in").Add(float64(t.In))
	m.tokens.WithLabelValues("out").Add(float64(t.Out))
	m.tokens.WithLabelValues("cached").Add(float64(t.Cached))
}

// measure takes the worker's gauges.
func (w *Worker) measure(ctx context.Context, inspector *asynq.Inspector) {
	_, waiting := w.gate.load()
	queues, err := inspector.Queues()
	for _, name := range queues {
		if name == queue || name == hostPrefix+w.Host {
			var info *asynq.QueueInfo
			if info, err = inspector.GetQueueInfo(name); err != nil {
				break
			}
			waiting += info.Pending
		}
	}
	if err != nil && ctx.Err() == nil {
		w.Log.WarnContext(ctx, "measuring the queues failed", "err", err)
	}
	w.Metrics.depth.Set(float64(waiting))
	if w.Machine != nil {
		if m, err := w.Machine(); err == nil { // who gives signs of life has told of it
			for what, n := range map[string]int64{"memory": m.Memory, "memory_used": m.Memory - m.FreeMemory, "disk": m.Disk, "disk_used": m.Disk - m.FreeDisk} {
				w.Metrics.machine.WithLabelValues(what).Set(float64(n))
			}
		}
	}
	if warmer, ok := w.Sandbox.(sandbox.Warmer); ok {
		w.Metrics.sandboxes.WithLabelValues("warm").Set(float64(warmer.Ready()))
	}
	sleeper, ok := w.Sandbox.(sandbox.Sleeper)
	if !ok {
		return
	}
	awake, err := sleeper.Awake(ctx)
	asleep, more := sleeper.Asleep(ctx)
	if err := errors.Join(err, more); err != nil {
		if ctx.Err() == nil {
			w.Log.WarnContext(ctx, "counting the sandboxes failed", "err", err)
		}
		return
	}
	w.room.count(len(awake))
	w.Metrics.sandboxes.WithLabelValues("live").Set(float64(len(awake)))
	w.Metrics.sandboxes.WithLabelValues("hibernated").Set(float64(len(asleep)))
}
