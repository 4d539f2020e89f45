package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// messages has one of every kind.
var messages = []Message{
	{Kind: KindHello, Hello: &Hello{Protocol: Protocol, AgentSHA256: strings.Repeat("ab", 32), PID: 7}},
	{ID: 1, Kind: KindProbe, Probe: &Probe{}},
	{ID: 2, Kind: KindStage, Stage: &Stage{
		Name: "rom", Script: "make\n", Env: map[string]string{"LC_ALL": "C.UTF-8"}, WorkDir: "/build", OutDir: "/build/out",
		Sources: []Mount{{"seabios", "/build/sources/seabios"}}, Outputs: []string{"bios.bin"}, Timeout: time.Hour, Device: "outputs",
	}},
	{ID: 3, Kind: KindPrepare, Stage: &Stage{Name: "rom"}},
	{ID: 4, Kind: KindCapture, Capture: &Capture{Upper: "/belljar/overlay/upper", Device: "outputs", Clock: time.Unix(1700000000, 0).UTC()}},
	{ID: 5, Kind: KindPoweroff},
	{ID: 6, Kind: KindWake, Wake: &Wake{
		Entropy: []byte{1, 2}, Clock: time.Unix(1700000000, 0).UTC(), Files: []WakeFile{{"authorized_keys", 0o600, []byte("k")}},
	}},
	{ID: 2, Kind: KindCancel},
	{ID: 2, Kind: KindLog, Log: &Log{Stream: Output, Data: []byte("cc\xff\x00\n")}},
	{ID: 2, Kind: KindStep, Step: &Step{"running rom"}},
	{ID: 2, Kind: KindWritten, Written: &Written{32 << 20}},
	{ID: 2, Kind: KindResult, Result: &Result{ExitCode: 3, Stream: Stream{Size: 1 << 40, Digest: 1<<64 - 1}}},
	{ID: 4, Kind: KindError, Error: &Error{"no disk"}},
}

func TestRoundTrip(t *testing.T) {
	var buf bytes.Buffer
	w := NewWriter(&buf)
	for i := range messages {
		if err := w.Write(&messages[i]); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(iotest.OneByteReader(&buf))
	for i := range messages {
		got, err := r.Read()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(*got, messages[i]) {
			t.Errorf("%d: got %+v, want %+v", i, *got, messages[i])
		}
	}
	if _, err := r.Read(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func frame(body string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
}

func TestReadRefuses(t *testing.T) {
	tests := map[string]struct{ in, words string }{
		"empty frame":      {"\x00\x00\x00\x00", "frame length 0"},
		"too long":         {"\x00\x10\x00\x01", "frame length 1048577"},
		"a login banner":   {"Debian GNU/Linux", `"Debi"`},
		"no JSON":          {frame("hello"), "frame of 5 bytes"},
		"two values":       {frame(`{"kind":"poweroff","id":1}{}`), "frame of"},
		"unknown kind":     {frame(`{"kind":"reboot","id":1}`), `unknown kind "reboot"`},
		"no kind":          {frame(`{}`), `unknown kind ""`},
		"no body":          {frame(`{"kind":"stage","id":1}`), `"stage" without its body`},
		"null body":        {frame(`{"kind":"stage","id":1,"stage":null}`), `"stage" without its body`},
		"no id":            {frame(`{"kind":"poweroff"}`), `"poweroff" without an id`},
		"wrong type":       {frame(`{"kind":"stage","id":1,"stage":{"timeout":"1h"}}`), "timeout"},
		"negative id":      {frame(`{"kind":"poweroff","id":-1}`), "id"},
		"data not base64":  {frame(`{"kind":"log","id":1,"log":{"stream":"output","data":"%"}}`), "base64"},
		"time without day": {frame(`{"kind":"capture","id":1,"capture":{"clock":"12:00"}}`), "12:00"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := NewReader(strings.NewReader(tt.in)).Read()
			if err == nil || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("error %v does not say %q", err, tt.words)
			}
		})
	}
}

func TestReadCutShort(t *testing.T) {
	whole := frame(`{"kind":"poweroff","id":1}`)
	for n := range len(whole) {
		_, err := NewReader(strings.NewReader(whole[:n])).Read()
		if want := io.ErrUnexpectedEOF; n == 0 && !errors.Is(err, io.EOF) || n > 0 && !errors.Is(err, want) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, m := range map[string]Message{
		"no body":  {ID: 1, Kind: KindLog},
		"too long": {ID: 1, Kind: KindLog, Log: &Log{Data: make([]byte, MaxFrame)}},
	} {
		var buf bytes.Buffer
		if err := NewWriter(&buf).Write(&m); err == nil || buf.Len() != 0 {
			t.Errorf("%s: %v, %d bytes written", name, err, buf.Len())
		}
	}
	// The greatest piece of a log fits.
	m := Message{ID: 1<<64 - 1, Kind: KindLog, Log: &Log{Stream: Output, Data: make([]byte, LogChunk)}}
	if err := NewWriter(io.Discard).Write(&m); err != nil {
		t.Error(err)
	}
}

func TestCheckPath(t *testing.T) {
	for _, good := range []string{"bios.bin", "sub/bios.bin", "a..b", "...", "with space", "-x"} {
		if err := CheckPath(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ".", "..", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\x00b", "a\nb", "\xff"} {
		if CheckPath(bad) == nil {
			t.Errorf("%q is let through", bad)
		}
	}
}

// What is read is written back to the same message, and nothing that is read panics or exceeds the limit.
func FuzzFrame(f *testing.F) {
	for i := range messages {
		var buf bytes.Buffer
		if err := NewWriter(&buf).Write(&messages[i]); err != nil {
			f.Fatal(err)
		}
		f.Add(buf.Bytes())
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in))
		for {
			m, err := r.Read()
			if err != nil {
				return
			}
			var buf bytes.Buffer
			if err := NewWriter(&buf).Write(m); err != nil {
				if strings.Contains(err.Error(), "more than") {
					return // escapes made it longer
				}
				t.Fatal(err)
			}
			again, err := NewReader(&buf).Read()
			if err != nil {
				t.Fatal(err)
			}
			var one, two bytes.Buffer
			if err := errors.Join(NewWriter(&one).Write(m), NewWriter(&two).Write(again)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(one.Bytes(), two.Bytes()) {
				t.Fatalf("%s became %s", one.Bytes(), two.Bytes())
			}
		}
	})
}
