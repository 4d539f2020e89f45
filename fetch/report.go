package fetch

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/belljar/belljar/fault"
)

// attempt is what one source said.
type attempt struct {
	src source
	err error
}

func itemFault(it Item, err error) error {
	return fault.New(fault.Input, "fetch "+it.Name, "%w", err).
		WithRemedy("Mend the lock (belljar lock writes it anew).")
}

// allFailed turns what all sources said into one fault. Wrong content is the most telling, then trouble, which a
// later try may not have, then absence.
func allFailed(it Item, tried []attempt) error {
	op := "fetch " + it.Name
	if len(tried) == 0 {
		return fault.New(fault.Input, op, "no mirror is known").
			WithRemedy("Name one: --mirror URL, %s, or 'mirror:' in the configuration file.", MirrorVariable)
	}
	worst := tried[0]
	for _, a := range tried[1:] {
		if rank(a.err) > rank(worst.err) {
			worst = a
		}
	}
	kind, remedy := fault.Input, ""
	switch class(worst.err) {
	case wrong:
		remedy = "The server has another file than the one that was locked. Name another mirror (--mirror), " +
			"or lock anew (belljar lock) if the file was replaced on purpose."
		if strings.HasPrefix(it.Name, "dists/") {
			remedy = "The mirror is in the midst of an update, or does not follow the archive: try again in some minutes, or " +
				"name another mirror (--mirror)."
		}
	case absent:
		remedy = "No source has the file any more. Name a mirror that keeps it (--mirror), or lock anew (belljar lock)."
		if strings.HasPrefix(it.Name, "dists/") {
			remedy = "Check the suite's name in the guest, and name a mirror that has it (--mirror)."
		}
	default:
		kind = fault.Host
		remedy = "Check the network and the proxy, then run the same command again: it goes on where it stopped. " +
			"Another mirror can be named with --mirror."
	}
	err := fmt.Errorf("%s: %w", redact(worst.src.url), worst.err)
	// The others in brief: a mirror without the file and an archive out of reach are one story.
	for _, a := range tried {
		if a.src != worst.src {
			err = fmt.Errorf("%w; %s: %w", err, redact(a.src.url), a.err)
		}
	}
	return &fault.Error{Kind: kind, Op: op, Err: err, Remedy: remedy,
		Evidence: []fault.Evidence{{Title: "sources tried", Text: listTried(it, tried)}}}
}

func listTried(it Item, tried []attempt) string {
	var b strings.Builder
	if it.Digest != "" {
		fmt.Fprintf(&b, "expected sha256 %s", it.Digest)
		if it.Size >= 0 {
			fmt.Fprintf(&b, " (%d bytes)", it.Size)
		}
		b.WriteByte('\n')
	}
	for _, a := range tried {
		from := ""
		if a.src.mirror.From != "" {
			from = " (" + a.src.mirror.From + ")"
		}
		fmt.Fprintf(&b, "%s%s: %v\n", redact(a.src.url), from, a.err)
	}
	return b.String()
}

func class(err error) int {
	if se, ok := errors.AsType[*sourceError](err); ok {
		return se.class
	}
	return troubled
}

// rank orders failures by how much they explain.
func rank(err error) int {
	return map[int]int{absent: 0, refused: 1, troubled: 2, wrong: 3}[class(err)]
}

// isOurs reports whether an error ends everything: the caller's cancellation, or the host's own failure.
func isOurs(err error) bool {
	_, theirs := errors.AsType[*sourceError](err)
	return !theirs || errors.Is(err, context.Canceled)
}
