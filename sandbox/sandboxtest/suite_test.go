package sandboxtest_test

import (
	"testing"

	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
)

func TestEngine(t *testing.T) {
	t.Parallel()
	e, other := sandboxtest.NewEngine(t), sandboxtest.NewEngine(t)
	sandboxtest.Suite{
		New:       func(*testing.T) sandbox.Provider { return e.Provider() },
		Elsewhere: func(*testing.T) sandbox.Provider { return other.Provider() },
		Code:      sandboxtest.Script(),
	}.Run(t)
}
