package provision

import (
	"context"

	"golang.org/x/crypto/ssh"

	"github.com/belljar/belljar/fault"
)

// Ping asks the guest for a sign of life, beside whatever its agent is doing, and even when that is gone.
func (s *Session) Ping(ctx context.Context) error { return ping(ctx, s.client) }

// ping asks the guest's sshd for any answer at all (RFC 4254, section 4: a global request that is not known is
// refused, which will do). It goes beside whatever the agent is doing, and tells a guest that hangs from one that is
// slow: sshd answers while a build takes all processors, but not when the guest's kernel stands still.
func ping(ctx context.Context, client *ssh.Client) error {
	answered := make(chan error, 1)
	go func() { // ends with the answer or with the connection
		_, _, err := client.SendRequest("keepalive@belljar", true, nil)
		answered <- err
	}()
	select {
	case err := <-answered:
		if err != nil {
			return fault.New(fault.Guest, "guest", "its SSH connection broke: %w", err)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
