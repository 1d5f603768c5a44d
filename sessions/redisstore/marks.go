package redisstore

import "context"

// Marks keep how far a platform's adapter has read, by channel. They are the
// adapter's own; a mark too old makes it read again what the log knows by its
// keys already.
type Marks struct {
	s   *Store
	key string
}

// Marks are those of a platform.
func (s *Store) Marks(platform string) *Marks { return &Marks{s, "tb:marks:" + platform} }

// Marks returns all of them.
func (m *Marks) Marks(ctx context.Context) (map[string]string, error) {
	marks, err := m.s.client.HGetAll(ctx, m.key).Result()
	return marks, unavailable(err)
}

// SetMarks changes some of them; an empty one is removed.
func (m *Marks) SetMarks(ctx context.Context, marks map[string]string) error {
	var set []any
	var gone []string
	for channel, mark := range marks {
		if mark == "" {
			gone = append(gone, channel)
		} else {
			set = append(set, channel, mark)
		}
	}
	pipe := m.s.client.Pipeline()
	if len(set) > 0 {
		pipe.HSet(ctx, m.key, set...)
	}
	if len(gone) > 0 {
		pipe.HDel(ctx, m.key, gone...)
	}
	if pipe.Len() == 0 {
		return nil
	}
	_, err := pipe.Exec(ctx)
	return unavailable(err)
}
