package bots

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the presenter's, under the names that dashboards use.
type Metrics struct {
	first *prometheus.HistogramVec // by platform
	posts *prometheus.CounterVec   // by platform and result
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		first: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "threadbook", Name: "first_post_seconds",
			Help: "From a message's arrival in the log to its turn's first post.", Buckets: prometheus.ExponentialBucketsRange(0.005, 900, 18)}, []string{"platform"}),
		posts: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "threadbook", Name: "posts_total",
			Help: "Posts and edits that were tried, by how that went: sent, edited, found, retried, failed."}, []string{"platform", "result"}),
	}
	r.MustRegister(m.first, m.posts)
	return m
}
