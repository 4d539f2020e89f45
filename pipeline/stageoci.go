package pipeline

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	specsgo "github.com/opencontainers/image-spec/specs-go"
	oci "github.com/opencontainers/image-spec/specs-go/v1"
)

// What an exported image is labelled and annotated with, beside OCI's own keys.
const (
	labelIdentity = "io.belljar.stage.identity"
	labelStage    = "io.belljar.stage"
	labelGuest    = "io.belljar.guest"
	labelSpec     = "io.belljar.spec.sha256"
	labelLock     = "io.belljar.lock.sha256"
	labelOutputs  = "io.belljar.outputs" // JSON: []StageOutput
)

// writeStageOCI writes an OCI image layout (image-spec 1.1) as a tar: one layer, not packed, with the outputs at the
// root. It is of no time: 'created' is left out.
func (h *house) writeStageOCI(f *os.File, m *stageManifest) error {
	layer := func(w io.Writer) error {
		tw := tar.NewWriter(w)
		if err := h.writeOutputs(tw, m.Result.Outputs); err != nil {
			return err
		}
		return tw.Close()
	}
	sum := sha256.New() // written twice: a member's size and name stand before its bytes
	n, err := sizeOf(func(w io.Writer) error { return layer(io.MultiWriter(w, sum)) })
	if err != nil {
		return err
	}
	of := oci.Descriptor{
		MediaType: oci.MediaTypeImageLayer, Size: n,
		Digest: digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(sum.Sum(nil))),
	}
	labels, err := m.labels()
	if err != nil {
		return err
	}
	blobs := &layout{tw: tar.NewWriter(f)}
	config := blobs.json(oci.MediaTypeImageConfig, oci.Image{
		Platform: oci.Platform{Architecture: ociArch[m.Result.Inputs.Machine.Arch], OS: "linux"},
		Config:   oci.ImageConfig{Labels: labels},
		RootFS:   oci.RootFS{Type: "layers", DiffIDs: []digest.Digest{of.Digest}},
		History:  []oci.History{{CreatedBy: "belljar stage export " + m.Stage}},
	})
	manifest := blobs.json(oci.MediaTypeImageManifest, oci.Manifest{
		Versioned: specsgo.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeImageManifest,
		Config: config, Layers: []oci.Descriptor{of}, Annotations: labels,
	})
	manifest.Annotations = map[string]string{oci.AnnotationRefName: m.refName()}
	blobs.add("blobs/sha256/"+of.Digest.Encoded(), n, layer)
	blobs.text(oci.ImageIndexFile, oci.Index{
		Versioned: specsgo.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeImageIndex,
		Manifests: []oci.Descriptor{manifest},
	})
	blobs.text(oci.ImageLayoutFile, oci.ImageLayout{Version: oci.ImageLayoutVersion})
	if blobs.err != nil {
		return blobs.err
	}
	return blobs.tw.Close()
}

// ociArch is what OCI calls an architecture (Go's GOARCH).
var ociArch = map[string]string{"x86_64": "amd64", "i686": "386"}

func (m *stageManifest) labels() (map[string]string, error) {
	outputs, err := json.Marshal(m.Result.info(m.Identity).Outputs)
	return map[string]string{
		labelIdentity: m.Identity, labelStage: m.Stage, labelGuest: m.Guest, labelSpec: m.Spec, labelLock: m.Lock,
		labelOutputs: string(outputs), oci.AnnotationTitle: strings.ReplaceAll(m.Stage, "#", " "),
		oci.AnnotationDescription: "a stage built by Belljar; its identity is the SHA-256 of everything that may influence it",
	}, err
}

// layout writes the members of an image layout; after an error it writes no more.
type layout struct {
	tw  *tar.Writer
	err error
}

func (l *layout) add(name string, size int64, write func(io.Writer) error) {
	if l.err == nil {
		l.err = l.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size})
	}
	if l.err == nil {
		l.err = write(l.tw)
	}
}

func (l *layout) bytes(name string, data []byte) {
	l.add(name, int64(len(data)), func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(data))
		return err
	})
}

// text writes a file of JSON.
func (l *layout) text(name string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		l.err = err
	}
	l.bytes(name, data)
}

// json writes a blob of JSON, and describes it.
func (l *layout) json(mediaType string, v any) oci.Descriptor {
	data, err := json.Marshal(v)
	if err != nil {
		l.err = err
	}
	d := digest.FromBytes(data)
	l.bytes("blobs/sha256/"+d.Encoded(), data)
	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}
