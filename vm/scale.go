package vm

import (
	"math"
	"strconv"
	"time"
)

// Pace is how many times longer than written a thing may take. Times in specs and in Belljar itself are written for a
// machine of today with working KVM; where a guest is emulated, or the host is slow, they are stretched by its pace, and
// all by the same. This is the one place that knows it.
type Pace float64

// TCGPace is the pace of emulation where nothing was measured: compiling C is 10 to 15 times slower under TCG than on the
// processor itself (docs/performance.md). A measured pace is never taken to be less: the host may have been idle then.
const TCGPace Pace = 10

// maxPace bounds what a host may ask for that was busy when it was measured: a limit must stay one.
const maxPace Pace = 40

// ReferenceWork is how long a trial's fixed piece of work takes a machine of today under KVM (or none at all).
const ReferenceWork = 100 * time.Millisecond

// PaceOf is the pace of an accelerator on the host of a proof, from the figure of its fixed piece of work.
func PaceOf(accel Accel, p Proof) Pace {
	least, work := Pace(1), p.KVM.Work
	if accel == TCG {
		least, work = TCGPace, p.TCG.Work
	}
	return min(max(least, Pace(work)/Pace(ReferenceWork)), maxPace)
}

// Of stretches a time; no pace at all (0) leaves it as it is, as does no time.
func (p Pace) Of(d time.Duration) time.Duration {
	if p <= 1 {
		return d
	}
	if long := float64(p) * float64(d); long < math.MaxInt64 {
		return time.Duration(long).Round(time.Millisecond)
	}
	return math.MaxInt64
}

// String is the pace as a number for people: 10, 12.5.
func (p Pace) String() string {
	return strconv.FormatFloat(math.Round(float64(max(p, 1))*10)/10, 'g', -1, 64)
}
