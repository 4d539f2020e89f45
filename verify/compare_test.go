package verify

import (
	"strings"
	"testing"
	"time"
)

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Build)
		fields []string // of the differences; none: the claims are equal
		say    string   // part of the first sentence
	}{
		{"itself", func(*Build) {}, nil, ""},
		{"another day on another host", func(b *Build) {
			b.RunID, b.Started, b.Finished = "later", b.Started.AddDate(1, 0, 0), b.Finished.AddDate(1, 0, 0)
			b.Host, b.QEMUVersion, b.Accel = Host{OS: "linux", Arch: "arm64", CPUs: 64}, "10.0.2", Accel{"kvm", "proven"}
			b.Stages[0].Cached, b.Stages[0].Wall, b.Timing, b.Logs = true, 0, nil, nil
			b.Smoke[0].TookMS, b.Machine.Clock = 9, b.Machine.Clock.In(time.FixedZone("CET", 3600))
		}, nil, ""},
		{"another ROM", func(b *Build) { b.Artifacts[0].SHA256, b.Smoke[0].SHA256 = sum("a1"), sum("a1") },
			[]string{"subject[bios-256k.bin].digest"}, "the artifact bios-256k.bin differs: a0a0"},
		{"one artifact more", func(b *Build) { b.Artifacts = append(b.Artifacts, Input{Name: "vga.bin", SHA256: sum("a2")}) },
			[]string{"subject[vga.bin]"}, "the artifact vga.bin is in the second record alone"},
		{"another CPU and clock", func(b *Build) { b.Machine.CPU, b.Machine.Clock = "Haswell-v4", b.Machine.Clock.Add(time.Hour) },
			[]string{"buildDefinition.internalParameters.machine.cpu", "buildDefinition.internalParameters.machine.clock"},
			"the machine's CPU model differs: Nehalem-v1 against Haswell-v4"},
		{"another make", func(b *Build) { b.Inputs[0].SHA256 = sum("2f") },
			[]string{"buildDefinition.resolvedDependencies[make].digest"}, "the input make differs"},
		{"one input less", func(b *Build) { b.Inputs = b.Inputs[1:] },
			[]string{"buildDefinition.resolvedDependencies[make]"}, "the input make is in the first record alone"},
		{"another guest", func(b *Build) { b.Guest, b.Machine.Arch = "debian-bookworm-i686", "i686" },
			[]string{"buildDefinition.externalParameters.guest", "buildDefinition.internalParameters.machine.arch"}, "the guest differs"},
		{"a stage's identity and output", func(b *Build) { b.Stages[0].Identity, b.Stages[0].Outputs[0].SHA256 = sum("3f"), sum("a1") },
			[]string{"belljar_build.stages[seabios].identity", "belljar_build.stages[seabios].outputs[out/bios-256k.bin].digest"},
			"what may influence the stage seabios differs"},
		{"another stage", func(b *Build) { b.Stages = append(b.Stages, BuildStage{Name: "extra", Identity: sum("32")}) },
			[]string{"belljar_build.stages"}, "[seabios] against [seabios extra]"},
		{"another agent", func(b *Build) { b.Agent.SHA256 = sum("1f") }, []string{"belljar_build.agent.digest"}, "the agent guest-agent differs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := sample()
			c.change(&b)
			one, two := NewRecord(sample()), NewRecord(b)
			got := Compare(one, two)
			var fields []string
			for _, d := range got {
				fields = append(fields, d.Field)
			}
			if strings.Join(fields, " ") != strings.Join(c.fields, " ") {
				t.Fatalf("differences %q, want %q", fields, c.fields)
			}
			if equal := one.Claim() == two.Claim(); equal != (len(got) == 0) {
				t.Errorf("claims equal: %v, differences: %d", equal, len(got))
			}
			if len(got) > 0 && !strings.Contains(got[0].Sentence, c.say) {
				t.Errorf("sentence %q, want %q", got[0].Sentence, c.say)
			}
		})
	}
}
