package cbfs

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
)

// Hash is the digest of a file's data as it is stored, by its attribute.
type Hash struct {
	Algorithm string `json:"algorithm"` // as TCG and vboot name it: SHA256
	Digest    string `json:"digest"`    // hexadecimal
}

// Tags of attributes, enum cbfs_file_attr_tag.
const (
	tagCompression = 0x42435a4c
	tagHash        = 0x68736148
	tagUnused      = 0
	tagUnused2     = 0xffffffff
)

// algorithms are those of vboot by their numbers, 3rdparty/vboot/firmware/2lib/include/2crypto.h.
var algorithms = map[uint32]struct {
	name string
	new  func() hash.Hash
}{
	1: {"SHA1", sha1.New}, 2: {"SHA256", sha256.New}, 3: {"SHA512", sha512.New}, 4: {"SHA224", sha256.New224}, 5: {"SHA384", sha512.New384},
}

// attributes reads the attributes that matter here; others are passed over.
func (a *Archive) attributes(f *File, table []byte) {
	be := binary.BigEndian
	start := f.Data - a.Offset - int64(len(table))
	for at := 0; len(table)-at >= 8; {
		tag, size := be.Uint32(table[at:]), int64(be.Uint32(table[at+4:]))
		if tag == tagUnused || tag == tagUnused2 {
			return // the rest is filled up
		}
		if size < 8 || size > int64(len(table)-at) {
			a.problem(start+int64(at), "an attribute of %s of %d bytes, want from 8 to %d", f.Name, size, len(table)-at)
			return
		}
		body := table[at+8 : at+int(size)]
		switch {
		case tag == tagCompression && len(body) == 8:
			f.Compression = Compression(be.Uint32(body))
			if f.Compression != None {
				f.Unpacked = int64(be.Uint32(body[4:]))
			}
		case tag == tagHash && len(body) >= 4:
			alg, ok := algorithms[be.Uint32(body)]
			if !ok || alg.new().Size() != len(body)-4 {
				a.problem(start+int64(at), "a hash of %s of algorithm %d with %d bytes, want one of vboot's", f.Name, be.Uint32(body), len(body)-4)
				break
			}
			f.Hash = &Hash{alg.name, hex.EncodeToString(body[4:])}
		case tag == tagCompression || tag == tagHash:
			a.problem(start+int64(at), "an attribute 0x%x of %s with %d bytes, want 8 or more", tag, f.Name, len(body))
		}
		at += int(size)
	}
}

// Check says whether the data is what the file's hash says; true where it has none.
func (f *File) Check() (bool, error) {
	if f.Hash == nil {
		return true, nil
	}
	for _, alg := range algorithms {
		if alg.name == f.Hash.Algorithm {
			h := alg.new()
			if _, err := io.Copy(h, f.Raw()); err != nil {
				return false, err
			}
			return hex.EncodeToString(h.Sum(nil)) == f.Hash.Digest, nil
		}
	}
	return false, nil
}
