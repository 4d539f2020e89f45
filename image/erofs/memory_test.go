package erofs

import (
	"io"
	"sync"
)

// memory is an io.WriterAt in memory; with full set, it takes nothing that ends beyond.
type memory struct {
	mu   sync.Mutex
	b    []byte
	full int64
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	end := off + int64(len(p))
	if m.full > 0 && end > m.full || end > 64<<20 {
		return 0, io.ErrShortWrite
	}
	if int64(len(m.b)) < end {
		m.b = append(m.b, make([]byte, end-int64(len(m.b)))...)
	}
	return copy(m.b[off:], p), nil
}
