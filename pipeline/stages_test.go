package pipeline

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	oci "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm/fake"
)

// aFolder is the archive of a folder as a stage leaves it.
func aFolder(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "bin/cc", Mode: 0o755, Size: 3},
		{Typeflag: tar.TypeLink, Name: "bin/gcc", Linkname: "bin/cc"},
		{Typeflag: tar.TypeSymlink, Name: "cc", Linkname: "bin/cc"},
		{Typeflag: tar.TypeReg, Name: strings.Repeat("long/", 60) + "name", Mode: 0o644, Size: 3},
	} {
		if err := writeMember(tw, &h, strings.NewReader("ELF")); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// exportedHouse has a toolchain that was built, and gives its spec.
func exportedHouse(t *testing.T) (h *house, j *job, kit string) {
	t.Helper()
	h, _ = newHouse(t, fake.Script{})
	j = h.needingJob(t)
	h.built(t, j)
	kit = filepath.Join(filepath.Dir(j.asked.loaded.Path), "kit.yaml")
	k := h.jobOf(t, kit)
	h.built(t, k)
	n := k.stage("tool")
	tree := aFolder(t)
	known, _, err := h.knownStage(n.id)
	if err != nil {
		t.Fatal(err)
	}
	n.result = known
	n.result.Outputs = append(n.result.Outputs, stageOutput{Path: "toolchain/", Digest: h.put(t, string(tree)), Size: int64(len(tree)), Mode: 0o755})
	if err := n.remember(); err != nil {
		t.Fatal(err)
	}
	return h, j, kit
}

func (h *house) exported(t *testing.T, kit, format string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tool.tar")
	r, err := StageExport(t.Context(), h.Config, StageExportOptions{Stage: kit + "#tool", Format: format, Out: file})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Size() != r.Bytes || r.Stage != "kit/tool#tool" {
		t.Errorf("%+v, %v", r, err)
	}
	return file
}

// TestStageExportImport: what one store exports, another takes in; the stage then counts as built, and says on whose word.
func TestStageExportImport(t *testing.T) {
	h, j, kit := exportedHouse(t)
	file := h.exported(t, kit, StageTar)
	if again := h.exported(t, kit, StageTar); readText(t, file) != readText(t, again) {
		t.Error("the same stage gives other bytes")
	}
	other, said := newHouse(t, fake.Script{})
	info, err := StageImport(t.Context(), other.Config, file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Stage != "kit/tool#tool" || info.Imported == nil || info.Imported.File != "tool.tar" || len(info.Outputs) != 2 {
		t.Errorf("imported %+v", info)
	}
	for _, p := range []string{"busybox-static", "linux-image-toy", "gcc"} {
		other.put(t, "the package "+p)
	}
	there := other.jobOf(t, j.asked.loaded.Path)
	if err := there.recall(); err != nil {
		t.Fatal(err)
	}
	if got := names(there.toRun()); got != "own kit/tool#base rom" {
		t.Errorf("to be run: %q", got) // of base, which the ROM needs itself, the archive has no outputs
	}
	n := there.nodes[2]
	n.sayCached()
	if got := said.texts(Note); !strings.Contains(got, "imported from tool.tar") {
		t.Errorf("said %q", got)
	}
	if got, err := other.store.ReadAll(n.result.output("toolchain/").Digest); err != nil || !bytes.Equal(got, aFolder(t)) {
		t.Errorf("the folder is not what it was: %v", err)
	}
	if known, _, err := other.knownStage(there.nodes[1].id); err != nil || known == nil || known.Imported == nil {
		t.Errorf("of what it needs nothing is known: %+v, %v", known, err)
	}
	list, err := Stages(other.Config, kit)
	if err != nil || len(list) != 2 || !slices.ContainsFunc(list, func(s StageInfo) bool { return s.Missing && s.Stage == "kit/tool#base" }) {
		t.Errorf("listed: %+v, %v", list, err)
	}
	// Where it was built, an import changes nothing.
	if info, err := StageImport(t.Context(), h.Config, file); err != nil || info.Imported != nil {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestDamagedImport: each way in which an archive can be wrong is told, and leaves nothing that counts as built.
func TestDamagedImport(t *testing.T) {
	h, _, kit := exportedHouse(t)
	data := []byte(readText(t, h.exported(t, kit, StageTar)))
	// change takes the archive apart and puts it together again.
	change := func(alter func(h *tar.Header, content []byte) []byte) []byte {
		var b bytes.Buffer
		tr, tw := tar.NewReader(bytes.NewReader(data)), tar.NewWriter(&b)
		for {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			content, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			h = plainHeader(h)
			if content = alter(h, content); h.Name == "" {
				continue
			}
			h.Size = int64(len(content))
			if err := writeMember(tw, h, bytes.NewReader(content)); err != nil {
				t.Fatal(err)
			}
		}
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	replace := func(name, old, new string) []byte {
		return change(func(h *tar.Header, content []byte) []byte {
			if h.Name == name {
				return bytes.Replace(content, []byte(old), []byte(new), 1)
			}
			return content
		})
	}
	rename := func(old, new string) []byte {
		return change(func(h *tar.Header, content []byte) []byte {
			if h.Name == old {
				h.Name = new
			}
			return content
		})
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"no archive":               {[]byte("not a tar"), ""},
		"empty":                    {nil, "it ends before belljar-stage.json"},
		"cut off":                  {data[:len(data)/2], ""},
		"another archive":          {rename(manifestName, "README"), `it has "README" where belljar-stage.json should be`},
		"no manifest":              {replace(manifestName, "{", "["), manifestName},
		"of tomorrow":              {replace(manifestName, `"format": 1`, `"format": 2`), "it is of format 2, and this program reads 1"},
		"an identity":              {replace(manifestName, `"identity": "`, `"identity": "../`), "is no SHA-256"},
		"an output's path":         {replace(manifestName, `"Path": "cc"`, `"Path": "../cc"`), `"../cc" is no output's path`},
		"a byte of an output":      {replace("cc", "made", "Made"), "cc: "},
		"a byte in a folder":       {replace("toolchain/bin/cc", "E", "F"), "toolchain/: "},
		"a file in a folder":       {rename("toolchain/bin/cc", "toolchain/bin/CC"), "toolchain/: "},
		"a file that leads out":    {rename("toolchain/bin/cc", "toolchain/../../cc"), "leads out of the folder toolchain/"},
		"an output is missing":     {rename("cc", ""), `it has "toolchain/" where cc should be`},
		"a folder is missing":      {rename("toolchain/", ""), "the folder toolchain/ is missing"},
		"the log":                  {replace(logMember, "log", "lag"), logMember},
		"something more":           {append(data[:len(data)-1024:len(data)-1024], moreTar(t)...), `it has "more", which is no output`},
		"other mode":               {change(func(h *tar.Header, c []byte) []byte { h.Mode |= 0o4000; return c }), ""},
		"a package in the results": {replace(manifestName, `"Log": "`, `"Log": "x`), manifestName},
	} {
		t.Run(name, func(t *testing.T) {
			other, _ := newHouse(t, fake.Script{})
			file := filepath.Join(t.TempDir(), "tool.tar")
			if err := os.WriteFile(file, c.data, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := StageImport(t.Context(), other.Config, file)
			wantFault(t, err, fault.Input, "import stage", c.want)
			if ids, err := other.store.List("stages"); err != nil || len(ids) > 0 {
				t.Errorf("counts as built: %v, %v", ids, err)
			}
		})
	}
	t.Run("of other bytes than were made here", func(t *testing.T) {
		other, _ := newHouse(t, fake.Script{})
		file := filepath.Join(t.TempDir(), "tool.tar")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		info, err := StageImport(t.Context(), other.Config, file)
		if err != nil {
			t.Fatal(err)
		}
		known, _, err := other.knownStage(info.Identity)
		if err != nil {
			t.Fatal(err)
		}
		known.Outputs[0].Digest = other.put(t, "made here")
		other.bind(t, "stages", info.Identity, known)
		_, err = StageImport(t.Context(), other.Config, file)
		wantFault(t, err, fault.Input, "is known here, and its output cc is of other bytes")
	})
}

func moreTar(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	if err := writeMember(tw, &tar.Header{Typeflag: tar.TypeReg, Name: "more"}, strings.NewReader("")); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestStageOCI holds an export against the image layout's specification: every digest and size is right.
func TestStageOCI(t *testing.T) {
	h, _, kit := exportedHouse(t)
	members := map[string][]byte{}
	tr := tar.NewReader(strings.NewReader(readText(t, h.exported(t, kit, StageOCI))))
	for {
		m, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if members[m.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string, v any) {
		t.Helper()
		if err := json.Unmarshal(members[name], v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	blob := func(d oci.Descriptor) string {
		t.Helper()
		name := "blobs/sha256/" + d.Digest.Encoded()
		if data := members[name]; int64(len(data)) != d.Size || string(digestOf(data)) != d.Digest.Encoded() {
			t.Errorf("%s is not what it is called", name)
		}
		return name
	}
	var at oci.ImageLayout
	var index oci.Index
	var manifest oci.Manifest
	var config oci.Image
	read(oci.ImageLayoutFile, &at)
	read(oci.ImageIndexFile, &index)
	if at.Version != "1.0.0" || len(index.Manifests) != 1 || index.Manifests[0].Annotations[oci.AnnotationRefName] != "tool-tool:debian-bookworm-x86_64" {
		t.Fatalf("%+v %+v", at, index)
	}
	read(blob(index.Manifests[0]), &manifest)
	read(blob(manifest.Config), &config)
	layer := blob(manifest.Layers[0])
	if config.RootFS.DiffIDs[0] != manifest.Layers[0].Digest || config.Architecture != "amd64" || config.OS != "linux" {
		t.Errorf("config %+v", config)
	}
	info, err := Stages(h.Config, kit)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(info, func(s StageInfo) bool { return s.Identity == config.Config.Labels[labelIdentity] }) {
		t.Errorf("labels %v", config.Config.Labels)
	}
	var got []string
	lr := tar.NewReader(bytes.NewReader(members[layer]))
	for {
		m, err := lr.Next()
		if err != nil {
			break
		}
		got = append(got, fmt.Sprintf("%c %s", m.Typeflag, m.Name[:min(len(m.Name), 20)]))
	}
	if want := "0 cc|5 toolchain/|5 toolchain/bin/|0 toolchain/bin/cc|1 toolchain/bin/gcc|2 toolchain/cc|0 toolchain/long/long/"; strings.Join(got, "|") != want {
		t.Errorf("layer has %s", strings.Join(got, "|"))
	}
}

// TestStageExportRefuses says what cannot be exported, and what to do.
func TestStageExportRefuses(t *testing.T) {
	h, _, kit := exportedHouse(t)
	dir := t.TempDir()
	there := filepath.Join(dir, "there.tar")
	if err := os.WriteFile(there, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	other, _ := newHouse(t, fake.Script{})
	for name, c := range map[string]struct {
		h     *house
		stage string
		out   string
		kind  fault.Kind
		want  string
	}{
		"no stage":     {h, kit, "x.tar", fault.Usage, "is no stage of a spec"},
		"unknown":      {h, kit + "#tol", "x.tar", fault.Usage, `the spec kit/tool has no stage "tol"`},
		"not built":    {other, kit + "#tool", "x.tar", fault.Input, "stage tool has not been built"},
		"there":        {h, kit + "#tool", "there.tar", fault.Input, "it is there already"},
		"in no folder": {h, kit + "#tool", "no/x.tar", fault.Host, "no/x.tar"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := StageExport(t.Context(), c.h.Config, StageExportOptions{Stage: c.stage, Format: StageTar, Out: filepath.Join(dir, c.out)})
			wantFault(t, err, c.kind, c.want)
		})
	}
}
