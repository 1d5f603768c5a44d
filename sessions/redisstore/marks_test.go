package redisstore_test

import (
	"maps"
	"testing"
)

func TestMarks(t *testing.T) {
	s := open(t, start(t, t.TempDir()).URL)
	m := s.Marks("discord")
	for _, change := range []map[string]string{{"a": "1", "b": "2"}, {}, {"a": "3", "b": "", "c": ""}} {
		if err := m.SetMarks(t.Context(), change); err != nil {
			t.Fatal(err)
		}
	}
	got, err := m.Marks(t.Context())
	if want := map[string]string{"a": "3"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}
