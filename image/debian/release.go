package debian

import (
	"bytes"
	"crypto"
	_ "embed" // the shipped keyring
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/belljar/belljar/fault"
)

// hostKeyring is where the package debian-archive-keyring puts the archive's keys.
const hostKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

//go:embed keyring/debian-archive-keyring.gpg
var shippedKeyring []byte

// Keys are the public keys whose signature on a release is believed.
type Keys struct {
	Source   string // where they come from, for errors
	entities openpgp.EntityList
}

// Keyring is the host's keyring of the Debian archive, and the one shipped with Belljar: hosts older than a suite lack
// its keys, and a program older than a suite does. Of a key in both the host's copy counts, for it may be revoked there.
func Keyring() (*Keys, error) {
	shipped, err := ReadKeys("the shipped keyring", bytes.NewReader(shippedKeyring))
	if err != nil {
		return nil, err
	}
	f, err := os.Open(hostKeyring)
	if errors.Is(err, fs.ErrNotExist) {
		return shipped, nil
	}
	if err != nil {
		return nil, fault.New(fault.Host, "read keyring", "%w", err)
	}
	defer f.Close()
	keys, err := ReadKeys(hostKeyring, f)
	if err != nil {
		return nil, err
	}
	return keys.with(shipped), nil
}

// with adds the keys of another keyring that k has not.
func (k *Keys) with(more *Keys) *Keys {
	out := &Keys{Source: k.Source, entities: slices.Clone(k.entities)}
	added := false
	for _, e := range more.entities {
		if !slices.ContainsFunc(k.entities, func(x *openpgp.Entity) bool {
			return bytes.Equal(x.PrimaryKey.Fingerprint, e.PrimaryKey.Fingerprint)
		}) {
			out.entities = append(out.entities, e)
			added = true
		}
	}
	if added {
		out.Source += " and " + more.Source
	}
	return out
}

// ReadKeys reads a binary OpenPGP keyring. Keys of a kind that is not understood are left out.
func ReadKeys(source string, r io.Reader) (*Keys, error) {
	entities, err := openpgp.ReadKeyRing(r)
	if err != nil || len(entities) == 0 {
		return nil, fault.New(fault.Input, "read keyring "+source, "it holds no usable OpenPGP key (%v)", err).
			WithRemedy("Install the package debian-archive-keyring anew.")
	}
	return &Keys{Source: source, entities: entities}, nil
}

// FileHash is one file of a release or of a source package.
type FileHash struct {
	Name   string
	Size   int64
	SHA256 string // 64 lower-case hex digits
}

// Release is what a suite's signed Release file says (repository format, wiki.debian.org/DebianRepository/Format).
type Release struct {
	Suite         string
	Codename      string
	Version       string
	Date          time.Time
	ValidUntil    time.Time // zero where there is none; see CheckFresh
	Architectures []string
	Components    []string
	Files         map[string]FileHash // by path below dists/SUITE
	Signers       []string            // fingerprints of the keys whose signature holds
}

// maxInRelease bounds InRelease; bookworm's has 150 kB.
const maxInRelease = 16 << 20

// VerifyRelease checks a clear-signed InRelease (RFC 9580, section 7) and parses what is signed, nothing else.
// At least one signature must be by one of the keys, and every signature by one of them must match. A key is judged
// at the time of the signature: one that has expired since then still proves what it signed. A revoked one does not.
func VerifyRelease(suite string, inRelease []byte, keys *Keys) (*Release, error) {
	op := "InRelease of " + suite
	if !bytes.HasPrefix(inRelease, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		return nil, fault.New(fault.Input, op, "it begins with %.40q, want a clear-signed message", inRelease).
			WithRemedy("Check that the mirror serves a Debian archive and that no proxy puts a page of its own in " +
				"between.")
	}
	block, rest := clearsign.Decode(inRelease)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fault.New(fault.Input, op, "it is not one complete clear-signed message").
			WithRemedy("Fetch it again: it is cut off, or text was added that nobody signed.")
	}
	signers, err := checkSignatures(op, block, keys)
	if err != nil {
		return nil, err
	}
	r, err := parseRelease(op, block.Plaintext)
	if err != nil {
		return nil, err
	}
	if suite != r.Suite && suite != r.Codename {
		return nil, fault.New(fault.Input, op, "it is the release of suite %q (%q)", r.Suite, r.Codename).
			WithRemedy("Name the suite by its codename, and check the mirror: it serves one suite in the place of " +
				"another.")
	}
	r.Signers = signers
	return r, nil
}

// CheckFresh says whether the release may still be resolved against: after its Valid-Until, a mirror that serves it has
// stopped following the archive, or somebody replays an old state to keep security updates away. A release that is of
// a past moment on purpose is not asked, and no lock that was made from it: they outlive it.
func (r *Release) CheckFresh(suite string, now time.Time) error {
	if r.ValidUntil.IsZero() || !now.After(r.ValidUntil) {
		return nil
	}
	return fault.New(fault.Input, "InRelease of "+suite, "it was valid until %s only, and it is %s now: the mirror is stale",
		r.ValidUntil.UTC().Format(time.DateTime), now.UTC().Format(time.DateTime)).
		WithRemedy("Use another mirror, or check this machine's clock. To resolve against a past state on purpose, write " +
			"its moment into the guest (snapshot: 20260101T000000Z), or name a mirror whose path ends in it.")
}

func checkSignatures(op string, block *clearsign.Block, keys *Keys) ([]string, error) {
	var good, unknown []string
	packets := packet.NewReader(block.ArmoredSignature.Body)
	for {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fault.New(fault.Input, op, "its signature is malformed: %w", err)
		}
		sig, ok := p.(*packet.Signature)
		if !ok || sig.IssuerKeyId == nil {
			return nil, fault.New(fault.Input, op, "its signature block holds something other than signatures")
		}
		id := fmt.Sprintf("%016X", *sig.IssuerKeyId)
		if len(keys.entities.KeysById(*sig.IssuerKeyId)) == 0 {
			unknown = append(unknown, id)
			continue
		}
		signer, err := checkSignature(block.Bytes, sig, keys)
		if err != nil {
			return nil, fault.New(fault.Input, op, "signature does not match (key %s): %w", id, err).
				WithRemedy("Use another mirror: this one, or something on the way to it, changed the file.")
		}
		good = append(good, fmt.Sprintf("%X", signer.PrimaryKey.Fingerprint))
	}
	if len(good) == 0 {
		by := "nobody"
		if len(unknown) > 0 {
			by = "keys " + strings.Join(unknown, ", ")
		}
		return nil, fault.New(fault.Input, op, "it is signed by %s, but %s holds none of them", by, keys.Source).
			WithRemedy("Install the newest debian-archive-keyring; a suite newer than the keyring is signed by keys " +
				"it lacks.")
	}
	return good, nil
}

// checkSignature verifies one signature packet, with the clock of its making.
func checkSignature(signed []byte, sig *packet.Signature, keys *Keys) (*openpgp.Entity, error) {
	if sig.SigType != packet.SigTypeText && sig.SigType != packet.SigTypeBinary {
		return nil, fmt.Errorf("it is of type %d, want one over a document", sig.SigType)
	}
	strong := []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}
	if !slices.Contains(strong, sig.Hash) {
		return nil, fmt.Errorf("it is made with %v, want SHA-256, SHA-384 or SHA-512", sig.Hash)
	}
	var one bytes.Buffer
	if err := sig.Serialize(&one); err != nil {
		return nil, err
	}
	config := &packet.Config{Time: func() time.Time { return sig.CreationTime }}
	signer, err := openpgp.CheckDetachedSignatureAndHash(keys.entities, bytes.NewReader(signed), &one, strong, config)
	if err != nil {
		return nil, err
	}
	//nolint:forbidigo // whether an archive is believed depends on the day; what was locked does not
	if signer.Revoked(time.Now()) {
		return nil, errors.New("the key is revoked")
	}
	return signer, nil
}

func parseRelease(op string, text []byte) (*Release, error) {
	p, err := ParseParagraph(op, text)
	if err != nil {
		return nil, err
	}
	r := &Release{
		Suite: p.Get("Suite"), Codename: p.Get("Codename"), Version: p.Get("Version"),
		Architectures: strings.Fields(p.Get("Architectures")), Components: strings.Fields(p.Get("Components")),
		Files: map[string]FileHash{},
	}
	for _, d := range []struct {
		field string
		to    *time.Time
		must  bool
	}{{"Date", &r.Date, true}, {"Valid-Until", &r.ValidUntil, false}} {
		f := p.Field(d.field)
		if f == nil && !d.must {
			continue
		}
		if f == nil {
			return nil, fault.New(fault.Input, op, "it has no field %s", d.field)
		}
		// RFC 1123 with a zone name; Debian's is always UTC.
		if *d.to, err = time.Parse(time.RFC1123, f.Value); err != nil {
			return nil, fault.New(fault.Input, op, "line %d: %s is %q, want a date as in %q", f.Line, d.field, f.Value,
				"Sat, 11 Jul 2026 10:16:37 UTC")
		}
	}
	table := p.Field("SHA256")
	if table == nil {
		return nil, fault.New(fault.Input, op, "it has no field SHA256: nothing ties the indexes to the signature")
	}
	files, err := parseHashTable(table)
	if err != nil {
		return nil, fault.New(fault.Input, op, "%w", err)
	}
	for _, f := range files {
		r.Files[f.Name] = f
	}
	return r, nil
}

// parseHashTable reads the lines 'sha256 size name' of SHA256 and Checksums-Sha256.
func parseHashTable(f *Field) ([]FileHash, error) {
	var files []FileHash
	seen := map[string]bool{}
	for i, line := range strings.Split(f.Value, "\n") {
		if i == 0 && line == "" {
			continue
		}
		h, err := parseHashLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", f.Line+i, f.Name, err)
		}
		if seen[h.Name] {
			return nil, fmt.Errorf("line %d: %s: the file %s comes twice", f.Line+i, f.Name, h.Name)
		}
		seen[h.Name] = true
		files = append(files, h)
	}
	return files, nil
}

func parseHashLine(line string) (FileHash, error) {
	words := strings.Fields(line)
	if len(words) != 3 {
		return FileHash{}, fmt.Errorf("it reads %.80q, want 'sha256 size name'", line)
	}
	if err := checkSHA256(words[0]); err != nil {
		return FileHash{}, err
	}
	size, err := parseSize(words[1])
	if err != nil {
		return FileHash{}, err
	}
	if !safePath(words[2]) {
		return FileHash{}, fmt.Errorf("the name is %q, want a clean relative path", words[2])
	}
	return FileHash{Name: words[2], Size: size, SHA256: words[0]}, nil
}

func checkSHA256(s string) error {
	if b, err := hex.DecodeString(s); err != nil || len(b) != 32 || strings.ToLower(s) != s {
		return fmt.Errorf("the SHA-256 is %.80q, want 64 lower-case hex digits", s)
	}
	return nil
}

func parseSize(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("the size is %.40q, want a number of bytes", s)
	}
	return int64(n), nil
}

// safePath reports whether s is a clean path that stays below the folder it is relative to.
func safePath(s string) bool {
	return s != "" && s != "." && path.Clean(s) == s && s[0] != '/' && s != ".." && !strings.HasPrefix(s, "../") &&
		!strings.ContainsAny(s, "\x00\\?#%")
}
