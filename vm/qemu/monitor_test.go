package qemu

import (
	"encoding/json"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// An order that no longer reaches QEMU does not cost what QEMU said last: why it ended.
func TestLastWordsAreHeard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qmp.sock")
	m, err := listenMonitor(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.hangUp()
	machine, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Close()
	say := func(text string) {
		if _, err := machine.Write([]byte(text + "\n")); err != nil {
			t.Error(err)
		}
	}
	go func() {
		say(`{"QMP": {"version": {}, "capabilities": []}}`)
		if err := json.NewDecoder(machine).Decode(&struct{}{}); err != nil {
			t.Error(err)
		}
		say(`{"return": {}}`)
	}()
	if err := m.connect(<-m.port.conn); err != nil {
		t.Fatal(err)
	}
	say(`{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}, "timestamp": {"seconds": 1, "microseconds": 0}}`)
	machine.Close()
	if err := m.do(time.Second, "query-status"); err == nil {
		t.Error("a QEMU that is gone took an order")
	}
	select {
	case e := <-m.events:
		if e.Event != "SHUTDOWN" || e.Data["reason"] != "guest-reset" {
			t.Errorf("heard %+v, want that the guest reset the machine", e)
		}
	case <-time.After(5 * time.Second):
		t.Error("nothing was heard")
	}
}
