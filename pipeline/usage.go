package pipeline

import (
	"fmt"
	"time"

	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/verify"
)

// came says what came of a stage, and what it took.
func (r *stageResult) came() string {
	if r == nil {
		return ""
	}
	var n int64
	for _, o := range r.Outputs {
		n += o.Size
	}
	return fmt.Sprintf("outputs of %s; %s", size(n), took(r.Usage))
}

// took says what a stage took beside time.
func took(u wire.Usage) string {
	text := fmt.Sprintf("%s of processor time", (u.User + u.System).Round(time.Second/10))
	if u.Memory > 0 {
		text += fmt.Sprintf(", %s of memory at most (the largest process: %s)", size(u.Memory), size(u.MaxRSS))
	} else {
		text += fmt.Sprintf(", a largest process of %s", size(u.MaxRSS))
	}
	return text + fmt.Sprintf(", %s written to disk", size(u.Written))
}

// usage is what a stage took, as the record has it.
func usage(u wire.Usage) verify.Usage {
	return verify.Usage{
		UserMS: u.User.Milliseconds(), SystemMS: u.System.Milliseconds(),
		Memory: u.Memory, Largest: u.MaxRSS, Written: u.Written,
	}
}
