package pipeline

import (
	"context"
	"errors"
	"regexp"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/store"
)

// corruptBlock is what the guest's kernel says of a block of the root, or of its hash tree, that is not what the root
// hash says (drivers/md/dm-verity-target.c, verity_handle_err). Whoever reads the block gets EIO.
var corruptBlock = regexp.MustCompile(`device-mapper: verity: \S+ \w+ block \d+ is corrupted`)

// corruption is such a line. It is no fault yet: whose it is, the stored image says.
type corruption struct{ line string }

func (c *corruption) Error() string { return "its kernel says: " + c.line }

// corrupted is what became of a guest: that its root was damaged is behind whatever else went wrong, and spoils what
// went well.
func (g *booted) corrupted(err error) error {
	if bad := g.bad.Load(); bad != nil {
		if _, known := errors.AsType[*corruption](err); !known {
			return fault.New(fault.Guest, "guest", "%w", errors.Join(bad, err))
		}
	}
	return err
}

// damagedImage looks behind a guest's fault: with a damaged image a guest does not boot, hangs, or finds a corrupt
// block. The damaged image is moved out of the way, so that the next build makes it anew.
func (j *jar) damagedImage(ctx context.Context, err error) error {
	bad, corrupt := errors.AsType[*corruption](err)
	if !corrupt && fault.KindOf(err) != fault.Guest || ctx.Err() != nil {
		return err
	}
	damage := j.store.Verify(ctx, j.image.Root)
	var told *fault.Error
	switch _, mismatch := errors.AsType[*store.Mismatch](damage); {
	case mismatch:
		told = fault.New(fault.Input, "image damaged", "%w", damage)
	case corrupt && damage == nil:
		told = fault.New(fault.Host, "image damaged", "the guest did not read what is stored: %s", bad.line).
			WithRemedy("The stored image is whole, and another copy of it was read: check the memory of this machine.")
	default:
		return err
	}
	for _, e := range fault.Chain(err) {
		for _, ev := range e.Evidence {
			told = told.WithEvidence(ev.Title, ev.Text)
		}
	}
	if corrupt && len(told.Evidence) == 0 {
		told = told.WithEvidence("console", bad.line)
	}
	return told
}
