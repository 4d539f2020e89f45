package vm

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// followEvery is how often a reader at the end of a growing file looks for more: a person and a test see a line at
// once.
const followEvery = 15 * time.Millisecond

// Follow reads a growing file from its start and blocks for more; io.EOF comes when gone is closed and all is read.
func Follow(path string, gone <-chan struct{}) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("follow: %w", err)
	}
	return &follower{file: f, gone: gone, closed: make(chan struct{})}, nil
}

type follower struct {
	file   *os.File
	gone   <-chan struct{}
	closed chan struct{}
	once   sync.Once
	last   bool // the writer is gone: what is there now is all
}

func (f *follower) Read(p []byte) (int, error) {
	for {
		n, err := f.file.Read(p)
		if n > 0 || err != io.EOF || f.last {
			return n, err
		}
		select {
		case <-f.gone:
			f.last = true // read once more: the writer may have written between our read and its end
		case <-f.closed:
			return 0, os.ErrClosed
		case <-time.After(followEvery):
		}
	}
}

// Close ends a blocked Read.
func (f *follower) Close() error {
	var err error
	f.once.Do(func() {
		close(f.closed)
		err = f.file.Close()
	})
	return err
}
