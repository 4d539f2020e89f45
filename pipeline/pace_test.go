package pipeline

import (
	"testing"
	"time"

	"github.com/belljar/belljar/specs"
)

// Every limit that a spec sets is stretched by the host's pace, and none that it does not set appears.
func TestPaceOfSpec(t *testing.T) {
	j := &job{house: &house{pace: 12}}
	p := &plan{guest: &specs.Guest{}, lock: &specs.Lock{}, locked: &specs.LockedGuest{}}
	n := &node{jar: &jar{job: j, plan: p}, stage: &specs.Stage{Silence: specs.Duration(time.Second)}}
	st := n.guestStage()
	if st.Silence != 12*time.Second || st.Timeout != 0 {
		t.Errorf("stage: silence %s, timeout %s", st.Silence, st.Timeout)
	}
	sm := smokeTest(specs.Smoke{Silence: specs.Duration(time.Second), Timeout: specs.Duration(time.Minute)}, "", j.pace)
	if sm.Silence != time.Second || sm.Timeout != time.Minute || sm.Pace != 12 { // smoke stretches them itself
		t.Errorf("smoke: silence %s, timeout %s, pace %s", sm.Silence, sm.Timeout, sm.Pace)
	}
	if c := configureStage(j.pace); c.Timeout != 24*time.Minute || c.Silence != 8*time.Minute {
		t.Errorf("configure: timeout %s, silence %s", c.Timeout, c.Silence)
	}
}
