package sandbox

// How is how a sandbox came to be open.
type How string

// The ways to open a sandbox, the fastest first.
const (
	Live    How = "live"   // it was in memory
	Warm    How = "warm"   // one that was kept ready became the thread's
	Resumed How = "resume" // it was woken from disk
	Cold    How = "cold"   // it was made
)

// Opened is a [Session] that says how the Open that returned it came by it.
type Opened interface {
	Opened() How
}

// Warmer is a [Provider] that keeps sandboxes ready for threads to come.
type Warmer interface {
	// Ready is how many there are now.
	Ready() int
}
