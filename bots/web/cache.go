package web

import "sync"

// maxCached is how many bytes of rendered code are kept. Colouring a cell
// takes milliseconds, and each reader of a thread asks for all of its cells.
const maxCached = 8 << 20

// cache keeps what was rendered last, by what it was rendered from.
type cache struct {
	mu    sync.Mutex
	of    map[string]string
	order []string // oldest first
	size  int
}

// get returns what make made of key, now or earlier.
func (c *cache) get(key string, make func() string) string {
	c.mu.Lock()
	value, ok := c.of[key]
	c.mu.Unlock()
	if ok {
		return value
	}
	value = make()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]string{}
	}
	if _, ok := c.of[key]; !ok {
		c.of[key] = value
		c.order = append(c.order, key)
		c.size += len(key) + len(value)
	}
	for c.size > maxCached {
		oldest := c.order[0]
		c.size -= len(oldest) + len(c.of[oldest])
		delete(c.of, oldest)
		c.order = c.order[1:]
	}
	return value
}
