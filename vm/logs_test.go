package vm

import (
	"io"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
)

func TestLogs(t *testing.T) {
	gone := make(chan struct{})
	l := Logs{Dir: t.TempDir(), Until: gone}
	if got := l.Tail(ConsoleLog, 1); got != "" {
		t.Errorf("the tail of no log is %q", got)
	}
	if _, err := l.Append(ConsoleLog); err == nil {
		t.Error("a log was opened that was never created")
	}
	if err := l.Create(); err != nil {
		t.Fatal(err)
	}
	// Evidence goes to a terminal: what a guest writes must not move its cursor.
	for name, text := range map[string]string{ConsoleLog: "a\r\n\x1b[2Jb\xff\x00c\n", DebugconLog: "SeaBIOS\n"} {
		f, err := l.Append(name)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(text)
		f.Close()
	}
	for n, want := range map[int]string{1: "bc", TailLines: "a\nbc"} {
		if got := l.Tail(ConsoleLog, n); got != want {
			t.Errorf("the last %d lines are %q, want %q", n, got, want)
		}
	}
	if got, want := l.Said(), int64(len("a\r\n\x1b[2Jb\xff\x00c\nSeaBIOS\n")); got != want {
		t.Errorf("%d bytes were said, want %d", got, want)
	}
	close(gone)
	for name, want := range map[string]string{"debugcon": "SeaBIOS\n", "stderr": "", "events": ""} {
		r, err := l.Log(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
		r.Close()
	}
	if _, err := l.Log("cmdline"); fault.KindOf(err) != fault.Usage {
		t.Errorf("a log that is none: %v", err)
	}
	if b, err := io.ReadAll(l.Console()); err != nil || !strings.HasSuffix(string(b), "c\n") {
		t.Errorf("the console is %q, %v", b, err)
	}
}

// A long log is read from near its end, and its tail has as many lines as any.
func TestTailOfLongLog(t *testing.T) {
	l := Logs{Dir: t.TempDir()}
	if err := l.Create(); err != nil {
		t.Fatal(err)
	}
	f, err := l.Append(StderrLog)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(strings.Repeat("noise\n", tailBytes) + "last\n")
	f.Close()
	if got := l.Tail(StderrLog, 2); got != "noise\nlast" {
		t.Errorf("the tail is %q", got)
	}
}
