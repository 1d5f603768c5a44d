package slack

import "time"

// SetStreamLife makes the streams that are started from now on end after d.
func (s *Slack) SetStreamLife(d time.Duration) { s.streams.life = d }
