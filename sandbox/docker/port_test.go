package docker

import (
	"bytes"
	"fmt"
	"testing"

	"threadbook/sandbox"
)

// BenchmarkPort is what it takes to carry a sleeping sandbox to another machine,
// without and with 100 MB of state, of which a half can't be compressed.
func BenchmarkPort(b *testing.B) {
	for _, megabytes := range []int{0, 100} {
		b.Run(fmt.Sprintf("%dMB", megabytes), func(b *testing.B) {
			one, two := benchProvider(b, runtimeOurs, 1<<30), benchProvider(b, runtimeOurs, 1<<30)
			m := newTimer(b)
			var sent bytes.Buffer
			var size int
			for b.Loop() {
				runCell(b, openThread(b, one, "bench"), 1, fmt.Sprintf(
					"import os\nx = [os.urandom(1 << 20) if i %% 2 else os.urandom(1 << 10) * (1 << 10) for i in range(%d)]", megabytes))
				must := func(err error) {
					if err != nil {
						b.Fatal(err)
					}
				}
				m.time("sleep", func() { must(one.Sleep(b.Context(), "bench")) })
				sent.Reset()
				m.time("export", func() { must(one.Export(b.Context(), "bench", &sent)) })
				size = sent.Len()
				m.time("import", func() { must(two.Import(b.Context(), "bench", &sent)) })
				var s sandbox.Session
				m.time("wake", func() { s = openThread(b, two, "bench") })
				runCell(b, s, 2, "x")
				removeThread(b, one, "bench")
				removeThread(b, two, "bench")
			}
			m.report()
			b.ReportMetric(float64(size>>20), "sent-MB")
		})
	}
}
