package libvirt

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/belljar/belljar/vm"
)

// listen hears the domain's life out: QEMU's own events, which say why, and libvirt's, which say that it is over. It
// ends with the domain, or with the connection.
//
// Both kinds come over one connection in the order in which they happened, but through two queues of go-libvirt's: when
// the end is known and its reason must have been said, it is waited for.
func (g *guest) listen(life <-chan libvirt.DomainEventLifecycleMsg, monitor <-chan libvirt.DomainEvent) {
	defer func() {
		close(g.over)
		go discard(life)
		go discard(monitor)
	}()
	log, err := g.Append(vm.EventsLog)
	if err == nil {
		defer log.Close()
	}
	var late <-chan time.Time
	for {
		select {
		case e, ok := <-monitor:
			if !ok { // the connection is lost: so says the other one too
				monitor = nil
				break
			}
			g.note(e, log)
		case e, ok := <-life:
			if !ok {
				g.lost = !g.stopped
				return
			}
			if e.Dom.UUID == g.domain.UUID && e.Event == int32(libvirt.DomainEventStopped) {
				g.stopped, g.detail = true, libvirt.DomainEventStoppedDetailType(e.Detail)
				late = time.After(5 * time.Second)
			}
		case <-late:
			return
		}
		if g.stopped && (monitor == nil || g.explained()) {
			return
		}
	}
}

// discard takes what nobody wants to hear until the connection ends: go-libvirt would wait for a listener for ever.
func discard[T any](events <-chan T) {
	for range events { //nolint:revive // see above
	}
}

// note keeps an event, in memory and in the events log.
func (g *guest) note(e libvirt.DomainEvent, log *os.File) {
	ev := vm.Event{Name: e.Event, At: time.Unix(int64(e.Seconds), int64(e.Microseconds)*1000).UTC()}
	_ = json.Unmarshal(e.Details, &ev.Data) // an event without data has no details
	g.Hear(ev, log)
}

// explained reports whether nothing more is to be heard of why the domain stopped: where libvirt says that the guest
// shut down or crashed, QEMU said so first.
func (g *guest) explained() bool {
	want := map[libvirt.DomainEventStoppedDetailType]string{
		libvirt.DomainEventStoppedShutdown: "SHUTDOWN", libvirt.DomainEventStoppedCrashed: "GUEST_PANICKED",
	}[g.detail]
	for _, e := range g.Events() {
		if e.Name == want {
			return true
		}
	}
	return want == ""
}

// how names the end of the domain as libvirt saw it.
func (g *guest) how() string {
	switch {
	case g.lost:
		return errLost.Error()
	case g.detail == libvirt.DomainEventStoppedFailed:
		return "it crashed or was killed"
	case g.detail == libvirt.DomainEventStoppedDestroyed:
		return "somebody destroyed the domain"
	}
	return fmt.Sprintf("libvirt's reason is number %d of virDomainEventStoppedDetailType", g.detail)
}
