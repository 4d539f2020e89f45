package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/digitalocean/go-libvirt"
	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// pool is a storage pool on libvirt's host: a folder in which a machine's files lie as volumes.
type pool struct {
	link *link
	pool libvirt.StoragePool
	path string // of the folder, there
}

// poolTypes are the kinds of pools whose volumes are files: docs/storage.html of libvirt. Fresh volumes of other kinds
// may not be all zeros, and a hole that is left out of an upload must be.
var poolTypes = []string{"dir", "fs", "netfs"}

// openPool finds an active pool.
func (l *link) openPool(name string) (*pool, error) {
	op := "find storage pool " + name
	found, err := l.StoragePoolLookupByName(name)
	if codeOf(err) == libvirt.ErrNoStoragePool {
		return nil, fault.New(fault.Host, op, "%s has no such pool", l.target).
			WithRemedy("make one: virsh -c '%s' pool-create-as %s dir --target /var/lib/libvirt/%s --build, or name "+
				"another", l.target.uri, name, name)
	}
	if err != nil {
		return nil, l.trouble(op, err)
	}
	if active, err := l.StoragePoolIsActive(found); err != nil || active == 0 {
		return nil, fault.New(fault.Host, op, "the pool is not active").
			WithRemedy("start it: virsh -c '%s' pool-start %s", l.target.uri, name)
	}
	text, err := l.StoragePoolGetXMLDesc(found, 0)
	if err != nil {
		return nil, l.trouble(op, err)
	}
	var about struct {
		Type string `xml:"type,attr"`
		Path string `xml:"target>path"`
	}
	if err := xml.Unmarshal([]byte(text), &about); err != nil {
		return nil, fault.New(fault.Host, op, "its description: %w", err)
	}
	if !slices.Contains(poolTypes, about.Type) || about.Path == "" {
		return nil, fault.New(fault.Host, op, "it is of the type %q: want a folder of files", about.Type).
			WithRemedy("name a pool of the type dir")
	}
	return &pool{link: l, pool: found, path: about.Path}, nil
}

// volumes are a machine's files in a pool.
type volumes struct {
	*pool
	prefix string // of each name

	mu    sync.Mutex
	made  []libvirt.StorageVol
	disks map[string]libvirt.StorageVol // by serial
}

// put uploads a file of this host as a volume, and returns its path on libvirt's host.
func (v *volumes) put(ctx context.Context, what, path string) (string, error) {
	vol, err := v.upload(ctx, v.prefix+what, path)
	if err != nil {
		return "", err
	}
	at, err := v.link.StorageVolGetPath(vol)
	if err != nil {
		return "", v.link.trouble("upload "+path, err)
	}
	return at, nil
}

// putDisk uploads a disk, and remembers one that can be read back.
func (v *volumes) putDisk(ctx context.Context, d vm.Disk) (string, error) {
	at, err := v.put(ctx, "disk-"+d.Serial, d.Path)
	if err != nil {
		return "", err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !d.ReadOnly {
		v.disks[d.Serial] = v.made[len(v.made)-1]
	}
	return at, nil
}

func (v *volumes) upload(ctx context.Context, name, path string) (vol libvirt.StorageVol, err error) {
	op := "upload " + path
	f, err := os.Open(path)
	if err != nil {
		return vol, fault.New(fault.Host, op, "%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return vol, fault.New(fault.Host, op, "%w", err)
	}
	vol, err = v.link.StorageVolCreateXML(v.pool.pool, volumeXML(name, info.Size()), 0)
	if err != nil {
		return vol, v.link.trouble(op, err).WithRemedy("see whether the pool %s has room: virsh -c '%s' pool-info %s",
			v.pool.pool.Name, v.link.target.uri, v.pool.pool.Name)
	}
	v.mu.Lock()
	v.made = append(v.made, vol)
	v.mu.Unlock()
	s, err := v.link.open(ctx, procVolUpload, volumeArgs(vol).long(0).long(uint64(info.Size())).word(flagSparse))
	if err != nil {
		return vol, v.link.trouble(op, orCause(ctx, err))
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := feed(s, f, info.Size()); err != nil {
		return vol, v.link.trouble(op, orCause(ctx, err)).WithRemedy("see whether the pool %s has room: virsh -c '%s' pool-info %s",
			v.pool.pool.Name, v.link.target.uri, v.pool.pool.Name)
	}
	return vol, nil
}

// feed sends a file's data and holes, and waits until libvirtd has taken all of it. What libvirtd objects to is heard
// at once, and not only when everything is sent.
func feed(s *stream, f *os.File, size int64) error {
	answer := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, s)
		if err != nil {
			s.Close()
		}
		answer <- err
	}()
	err := sendSparse(s, f, size)
	if err == nil {
		err = s.finish()
	}
	if err != nil {
		s.Close()
		if e, ok := errors.AsType[*Error](<-answer); ok {
			return e
		}
		return err
	}
	return <-answer
}

// sendSparse sends what a file holds: lseek(2), SEEK_DATA and SEEK_HOLE.
func sendSparse(s *stream, f *os.File, size int64) error {
	buf := make([]byte, dataBytes)
	for at := int64(0); at < size; {
		data, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			data, err = size, nil // nothing but a hole follows
		}
		if err != nil {
			return err
		}
		if data > at {
			if err := s.skip(min(data, size) - at); err != nil {
				return err
			}
		}
		if data >= size {
			return nil
		}
		hole, err := f.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		part := io.NewSectionReader(f, data, min(hole, size)-data)
		if _, err := io.CopyBuffer(struct{ io.Writer }{s}, part, buf); err != nil {
			return err
		}
		at = hole
	}
	return nil
}

// read opens the beginning of a writable disk.
func (v *volumes) read(ctx context.Context, serial string, n int64) (io.ReadCloser, error) {
	op := "read disk " + serial
	v.mu.Lock()
	vol, ok := v.disks[serial]
	v.mu.Unlock()
	if !ok {
		return nil, fault.New(fault.Usage, op, "the machine has no writable disk of that serial, or was closed")
	}
	s, err := v.link.open(ctx, procVolDownload, volumeArgs(vol).long(0).long(0).word(flagSparse))
	if err != nil {
		return nil, v.link.trouble(op, err)
	}
	return &download{Reader: io.LimitReader(s, n), ctx: ctx, stream: s, stop: context.AfterFunc(ctx, func() { s.Close() })}, nil
}

// download is the beginning of a volume. Closing it early is no error.
type download struct {
	io.Reader
	ctx    context.Context
	stream *stream
	stop   func() bool
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = orCause(d.ctx, err)
	}
	return n, err
}

func (d *download) Close() error {
	d.stop()
	return d.stream.Close()
}

// remove deletes all volumes, over any link that works.
func (v *volumes) remove(l *link) error {
	v.mu.Lock()
	made := v.made
	v.made, v.disks = nil, nil
	v.mu.Unlock()
	var errs []error
	for _, vol := range made {
		err := within(patience, func() error { return l.StorageVolDelete(vol, 0) })
		if err != nil && codeOf(err) != libvirt.ErrNoStorageVol {
			errs = append(errs, fmt.Errorf("delete volume %s: %w", vol.Name, err))
		}
	}
	return errors.Join(errs...)
}

// volumeXML describes a raw volume of which nothing is allocated yet: docs/formatstorage.html of libvirt.
func volumeXML(name string, size int64) string {
	type capacity struct {
		Unit  string `xml:"unit,attr"`
		Bytes int64  `xml:",chardata"`
	}
	text, _ := xml.Marshal(struct { // plain strings and numbers: it cannot fail
		XMLName    xml.Name `xml:"volume"`
		Name       string   `xml:"name"`
		Capacity   capacity `xml:"capacity"`
		Allocation int      `xml:"allocation"`
		Format     struct {
			Type string `xml:"type,attr"`
		} `xml:"target>format"`
	}{Name: name, Capacity: capacity{"bytes", size}, Format: struct {
		Type string `xml:"type,attr"`
	}{"raw"}})
	return string(text)
}

// volumeArgs is a volume as an argument: remote_nonnull_storage_vol.
func volumeArgs(v libvirt.StorageVol) body { return body(nil).text(v.Pool).text(v.Name).text(v.Key) }

// domainArgs is a domain as an argument: remote_nonnull_domain.
func domainArgs(d libvirt.Domain) body {
	return append(body(nil).text(d.Name), d.UUID[:]...).word(uint32(d.ID))
}
