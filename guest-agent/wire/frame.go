package wire

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// MaxFrame is the greatest length of a message's JSON. A longer one is refused on both sides, before any of it is read.
const MaxFrame = 1 << 20

// LogChunk is how much of a log one message carries: in base64 well below MaxFrame, and short enough to be prompt.
const LogChunk = 32 << 10

// Reader takes messages off a byte stream: each a length (4 bytes, big-endian) and that many bytes of JSON.
type Reader struct{ r *bufio.Reader }

// NewReader makes a Reader on r, which it reads ahead of.
func NewReader(r io.Reader) *Reader { return &Reader{bufio.NewReaderSize(r, 64<<10)} }

// Read takes the next message. It is io.EOF only between two messages; in the middle of one it is io.ErrUnexpectedEOF.
func (r *Reader) Read() (*Message, error) {
	var head [4]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("frame length: %w", err)
		}
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > MaxFrame {
		return nil, fmt.Errorf("frame length %d (bytes %q): a message has 1 to %d bytes", n, head[:], MaxFrame)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r.r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("frame of %d bytes: %w", n, err)
	}
	m := new(Message)
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("frame of %d bytes: %w", n, err)
	}
	return m, m.Check()
}

// Writer puts messages on a byte stream. It may be used by several goroutines at once.
type Writer struct {
	mu sync.Mutex
	w  io.Writer
}

// NewWriter makes a Writer on w. Every message is one call of w.Write.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write puts m on the stream. It blocks as long as the stream does: that is the back-pressure on a flooding log.
func (w *Writer) Write(m *Message) error {
	if err := m.Check(); err != nil {
		return err
	}
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("message of kind %q: %w", m.Kind, err)
	}
	if len(body) > MaxFrame {
		return fmt.Errorf("message of kind %q has %d bytes, more than %d", m.Kind, len(body), MaxFrame)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err = w.w.Write(append(frame, body...))
	return err
}
