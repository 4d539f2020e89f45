package erofs

import (
	"errors"
	"fmt"
	"math"
	"path"
	"time"
)

// The image: block 0 with the superblock and the first inodes, the other blocks of the metadata, the blocks of the
// directories, the blocks of the files. All of it is decided here from names, sizes and attributes alone.
//
// An inode lies with its extended attributes in one block of the metadata, and what its content has beyond whole
// blocks follows it there if it fits ('inline'): that saves half a block a file, and a read, for the block of the
// inode has been read already.

const (
	slotsPerBlock = BlockSize / slotSize
	maxImage      = math.MaxUint32 * BlockSize
)

// placed is an inode and its place.
type placed struct {
	inode
	node  *Node
	names []string // of a folder, in order
	up    *placed  // the folder that holds it; the root holds itself
	path  string   // of the first name, for messages
	attrs []byte   // its encoded extended attributes
	nid   uint64
	unit  int
}

// blocks is the number of blocks that the content has of its own, without what is inline.
func (p *placed) blocks() int64 {
	if p.layout == layoutInline {
		return int64(p.size) / BlockSize
	}
	return roundUp(int64(p.size)) / BlockSize
}

// tail is the number of bytes that follow the inode.
func (p *placed) tail() int64 {
	if p.layout == layoutInline {
		return int64(p.size) % BlockSize
	}
	return 0
}

// unit is a piece of the metadata that is written at once: a block, or several for an inode whose extended
// attributes need them.
type unit struct {
	block  int64
	size   int64 // in bytes
	inodes []*placed
}

// plan is a tree with every inode in its place.
type plan struct {
	built  int64
	inodes []*placed // the root first, each folder before what is in it
	byNode map[*Node]*placed
	units  []unit
	free   [slotsPerBlock + 1][]int // units of one block by the slots that are free in them
	blocks int64
}

// layOut decides where everything goes.
func layOut(root *Node, built time.Time) (*plan, error) {
	if root == nil || !root.is(typeDir) {
		return nil, errors.New("the root is no folder")
	}
	p := &plan{built: built.Unix(), byNode: map[*Node]*placed{}}
	if err := p.collect(root, nil, "/"); err != nil {
		return nil, err
	}
	p.addBlock(slotsPerBlock - (superOffset+superSize)/slotSize) // block 0, behind the superblock
	for _, i := range p.inodes {
		p.place(i)
	}
	for _, dirs := range []bool{true, false} {
		for _, i := range p.inodes {
			if i.node.is(typeDir) == dirs {
				if err := p.placeContent(i); err != nil {
					return nil, err
				}
			}
		}
	}
	return p, nil
}

// collect makes the inodes of a node and of all below it, in sorted order.
func (p *plan) collect(n *Node, up *placed, name string) error {
	if known := p.byNode[n]; known != nil {
		if n.is(typeDir) {
			return fmt.Errorf("%s: a folder with a second name, %s", known.path, name)
		}
		known.nlink++
		return nil
	}
	i := &placed{node: n, up: up, path: name}
	if up == nil {
		i.up = i
	}
	if err := p.describe(i); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	p.byNode[n] = i
	p.inodes = append(p.inodes, i)
	i.ino = uint32(len(p.inodes))
	for _, base := range i.names {
		if base == "." || base == ".." {
			continue
		}
		child := n.Children[base]
		at := path.Join(name, base)
		if child == nil {
			return fmt.Errorf("%s: a name without a file", at)
		}
		if child.is(typeDir) {
			i.nlink++
		}
		if err := p.collect(child, i, at); err != nil {
			return err
		}
	}
	return nil
}

// describe fills in what an inode says of its node, but for places and links yet to be met.
func (p *plan) describe(i *placed) error {
	n := i.node
	var err error
	if i.attrs, err = encodeXattrs(n.Xattrs); err != nil {
		return err
	}
	i.xattrs = len(i.attrs)
	i.mode, i.uid, i.gid, i.mtime, i.nlink = uint16(n.Mode), n.UID, n.GID, n.Mtime, 1
	if n.Mode > math.MaxUint16 || fileTypes[n.Mode&typeMask] == 0 {
		return fmt.Errorf("mode %#o is of no type of file", n.Mode)
	}
	switch n.Mode & typeMask {
	case typeDir:
		for name := range n.Children {
			if err := checkName(name); err != nil {
				return err
			}
		}
		i.names = dirNames(n)
		i.size, i.nlink = uint64(dirSize(i.names)), 2
	case typeLink:
		if err := checkLink(n.Link); err != nil {
			return err
		}
		i.size = uint64(len(n.Link))
	case typeFile:
		if n.Size < 0 || n.Size > maxImage {
			return fmt.Errorf("a size of %d bytes, want at most the %d of a whole image", n.Size, int64(maxImage))
		}
		if n.Size > 0 && n.Data == nil {
			return fmt.Errorf("a file of %d bytes without content", n.Size)
		}
		i.size = uint64(n.Size)
	case typeChar, typeBlock:
		i.union = n.Rdev
	}
	return nil
}

// place finds room for an inode in the metadata. All its links are known by now, so its form is.
func (p *plan) place(i *placed) {
	i.extended = i.size > math.MaxUint32 || i.nlink > math.MaxUint16 || i.uid > math.MaxUint16 ||
		i.gid > math.MaxUint16 || i.mtime != p.built
	fixed := int64(i.len() + len(i.attrs))
	if tail := int64(i.size % BlockSize); tail > 0 && fixed+tail <= BlockSize {
		i.layout = layoutInline
	}
	size := fixed + i.tail()
	slots := int(size+slotSize-1) / slotSize
	if slots > slotsPerBlock {
		p.units = append(p.units, unit{block: p.blocks, size: roundUp(size)})
		i.unit = len(p.units) - 1
		p.enter(i, 0)
		p.blocks += p.units[i.unit].size / BlockSize
		return
	}
	room := slots
	for room <= slotsPerBlock && len(p.free[room]) == 0 {
		room++
	}
	if room > slotsPerBlock {
		p.addBlock(slotsPerBlock)
		room = slotsPerBlock
	}
	last := len(p.free[room]) - 1
	i.unit = p.free[room][last]
	p.free[room] = p.free[room][:last]
	p.free[room-slots] = append(p.free[room-slots], i.unit)
	p.enter(i, slotsPerBlock-room)
}

// addBlock adds a block with that many free slots at its end.
func (p *plan) addBlock(free int) {
	p.units = append(p.units, unit{block: p.blocks, size: BlockSize})
	p.free[free] = append(p.free[free], len(p.units)-1)
	p.blocks++
}

func (p *plan) enter(i *placed, slot int) {
	u := &p.units[i.unit]
	u.inodes = append(u.inodes, i)
	i.nid = uint64(u.block)*slotsPerBlock + uint64(slot)
}

// placeContent gives an inode the blocks that its content needs.
func (p *plan) placeContent(i *placed) error {
	n := i.blocks()
	if n == 0 {
		return nil
	}
	if n > maxImage/BlockSize-p.blocks {
		return fmt.Errorf("%s: with it the image has more than %d bytes", i.path, int64(maxImage))
	}
	i.union = uint32(p.blocks)
	p.blocks += n
	return nil
}
