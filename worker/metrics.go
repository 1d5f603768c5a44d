package worker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	}
	r.MustRegister(m.turns, m.phases, m.cells, m.acquired, m.tokens, m.recovered)
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
