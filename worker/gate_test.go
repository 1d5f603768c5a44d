package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// turnstile is a gate and what is seen of it, inside a synctest bubble.
type turnstile struct {
	*gate
	seen    sync.Mutex
	entered []string       // "user/number"
	places  map[string]int // of who waits
	cancel  map[string]context.CancelCauseFunc
	number  map[string]int // of users' turns
}

func newTurnstile(slots int) *turnstile {
	return &turnstile{gate: newGate(slots), places: map[string]int{}, cancel: map[string]context.CancelCauseFunc{}, number: map[string]int{}}
}

// come has users enter, in the order given.
func (s *turnstile) come(users ...string) {
	for _, user := range users {
		s.number[user]++
		name := fmt.Sprintf("%s%d", user, s.number[user])
		ctx, cancel := context.WithCancelCause(context.Background())
		s.cancel[name] = cancel
		go func() {
			err := s.enter(ctx, user, func(place int) {
				s.seen.Lock()
				defer s.seen.Unlock()
				s.places[name] = place
			})
			s.seen.Lock()
			defer s.seen.Unlock()
			delete(s.places, name)
			if err == nil {
				s.entered = append(s.entered, name)
			}
		}()
		synctest.Wait()
	}
}

// end has turns of the users end, one after the other.
func (s *turnstile) end(users ...string) {
	for _, user := range users {
		s.leave(user)
		synctest.Wait()
	}
}

func (s *turnstile) want(t *testing.T, entered string) {
	t.Helper()
	if diff := cmp.Diff(entered, strings.Join(s.entered, " ")); diff != "" {
		t.Error("who was let in: ", diff)
	}
}

// One user's flood holds up nobody else.
func TestGateIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTurnstile(2)
		s.come("a", "a", "a", "a", "a", "b", "c", "b")
		s.want(t, "a1 a2") // nobody else was there
		if diff := cmp.Diff(map[string]int{"a3": 1, "b1": 2, "c1": 3, "a4": 4, "b2": 5, "a5": 6}, s.places); diff != "" {
			t.Error("places: ", diff)
		}
		s.end("a")
		s.want(t, "a1 a2 b1") // a has its half already
		s.end("a")
		s.want(t, "a1 a2 b1 a3") // its first, and before c
		s.end("b")
		s.want(t, "a1 a2 b1 a3 c1")
		s.end("c", "b", "a", "a", "a")
		s.want(t, "a1 a2 b1 a3 c1 b2 a4 a5")
		if running, waiting := s.load(); running != 0 || waiting != 0 || len(s.byUser) != 0 || len(s.line) != 0 {
			t.Errorf("left over: %d running, %d waiting, %v, %v", running, waiting, s.byUser, s.line)
		}
	})
}

// Whoever gives up is out of the line, and the others move up.
func TestGateGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTurnstile(1)
		s.come("a", "b", "b", "c")
		s.cancel["b1"](errStopped)
		synctest.Wait()
		if diff := cmp.Diff(map[string]int{"b2": 1, "c1": 2}, s.places); diff != "" {
			t.Error("places: ", diff)
		}
		s.cancel["b2"](errStopped)
		synctest.Wait()
		s.end("a", "c")
		s.want(t, "a1 c1")
		if err := s.enter(context.Background(), "d", nil); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(errPaused)
		if err := s.enter(ctx, "e", func(int) {}); !errors.Is(err, errPaused) {
			t.Errorf("got %v", err)
		}
		s.end("d")
	})
}

// The slots are never too many nor idle, whatever comes and goes.
func FuzzGate(f *testing.F) {
	f.Add(uint8(2), []byte("aaabcb-a-b+c"))
	f.Fuzz(func(t *testing.T, slots uint8, steps []byte) {
		n := int(slots)%4 + 1
		synctest.Test(t, func(t *testing.T) {
			s := newTurnstile(n)
			var inside []string
			for _, step := range steps {
				before := len(s.entered)
				switch {
				case step == '-' && len(inside) > 0:
					user := inside[0]
					inside = inside[1:]
					s.end(user)
				case step == '+' && len(s.places) > 0:
					var waiting []string
					for name := range s.places {
						waiting = append(waiting, name)
					}
					s.cancel[slices.Min(waiting)](errStopped)
					synctest.Wait()
				default:
					s.come(string(rune('a' + step%3)))
				}
				for _, name := range s.entered[before:] {
					inside = append(inside, name[:1])
				}
				running, waiting := s.load()
				if running != len(inside) || running > n || waiting > 0 && running < n {
					t.Fatalf("%d run and %d wait at a gate of %d, and %d are inside", running, waiting, n, len(inside))
				}
			}
			for len(inside) > 0 {
				before := len(s.entered)
				user := inside[0]
				inside = inside[1:]
				s.end(user)
				for _, name := range s.entered[before:] {
					inside = append(inside, name[:1])
				}
			}
			if _, waiting := s.load(); waiting > 0 {
				t.Fatalf("%d wait for ever", waiting)
			}
		})
	})
}
