package fetch

import (
	"sync"
	"time"

	"github.com/belljar/belljar/store"
)

// meter adds up what the workers report, and passes it on not more often than eyes can follow.
type meter struct {
	mu   sync.Mutex
	p    Progress
	have map[store.Digest]int64 // bytes of each unfinished item
	size map[store.Digest]int64 // sizes that only the server knew
	out  func(Progress)
	last time.Time
}

const meterInterval = 100 * time.Millisecond

func newMeter(items []Item, out func(Progress)) *meter {
	m := &meter{out: out, have: map[store.Digest]int64{}, size: map[store.Digest]int64{}}
	m.p.FilesTotal = len(items)
	for _, it := range items {
		m.p.BytesTotal += max(it.Size, 0)
	}
	return m
}

// learn takes the size of an item that came without one.
func (m *meter) learn(it Item, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if it.Size <= 0 && total > 0 && m.size[it.Digest] == 0 {
		m.size[it.Digest] = total
		m.p.BytesTotal += total
	}
}

func (m *meter) sizeOf(it Item) int64 { return max(it.Size, m.size[it.Digest], 0) }

// at says that item it now has n bytes; after a restart n is smaller than before.
func (m *meter) at(it Item, n int64, from string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n = min(n, m.sizeOf(it))
	m.p.Bytes += n - m.have[it.Digest]
	m.have[it.Digest] = n
	m.p.Current, m.p.From = it.Name, from
	m.tell(false)
}

// finish counts a file that is in the store, whether it was fetched or there already.
func (m *meter) finish(it Item) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.p.Bytes += m.sizeOf(it) - m.have[it.Digest]
	delete(m.have, it.Digest)
	m.p.Files++
	m.p.Current = it.Name
	m.tell(true)
}

func (m *meter) tell(now bool) {
	if m.out == nil || (!now && time.Since(m.last) < meterInterval) {
		return
	}
	m.last = time.Now()
	m.out(m.p)
}
