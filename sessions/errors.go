package sessions

import (
	"context"
	"errors"
)

// Code classifies a failure for programs.
type Code string

// The codes.
const (
	Invalid     Code = "invalid"     // what was asked can't be done as it was asked
	NotFound    Code = "not_found"   // no such thread, file or blob
	Busy        Code = "busy"        // another holds the thread's lease
	LeaseLost   Code = "lease_lost"  // another may hold it by now
	TooLarge    Code = "too_large"   // over a limit
	Unavailable Code = "unavailable" // a part that we need does not answer
	Internal    Code = "internal"    // everything else: a fault of ours
)

// Error is the project's one error type: a code for programs, a sentence for
// people, and the cause for operators, which people never see.
type Error struct {
	Code Code
	Text string
	Err  error
}

// Error is for logs: the sentence and its cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Text
	}
	if e.Text == "" {
		return e.Err.Error()
	}
	return e.Text + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf finds the code in an error's chain. An error without one is Internal;
// no error has none.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	default:
		return Internal
	}
}

// TextOf is what people are told of an error.
func TextOf(err error) string {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e) && e.Text != "":
		return e.Text
	case errors.Is(err, context.DeadlineExceeded):
		return "It took too long."
	default:
		return "Something went wrong on our side; the operator's log says what."
	}
}
