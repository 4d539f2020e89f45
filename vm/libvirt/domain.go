package libvirt

import "encoding/xml"

// The elements of a domain that a vm.Machine needs, each as docs/formatdomain.html of libvirt describes it.

type domain struct {
	XMLName    xml.Name `xml:"domain"`
	Namespace  string   `xml:"xmlns:qemu,attr"`
	Type       string   `xml:"type,attr"`
	Name       string   `xml:"name"`
	Title      string   `xml:"title"`
	Memory     quantity `xml:"memory"`
	CPUs       int      `xml:"vcpu"`
	OS         osXML    `xml:"os"`
	Features   features `xml:"features"`
	CPU        cpu      `xml:"cpu"`
	Clock      clock    `xml:"clock"`
	Power      *power   `xml:"pm"`
	OnPoweroff string   `xml:"on_poweroff"`
	OnReboot   string   `xml:"on_reboot"`
	OnCrash    string   `xml:"on_crash"`
	Devices    devices  `xml:"devices"`
	Override   struct {
		Devices []override `xml:"qemu:device"`
	} `xml:"qemu:override"`
}

// power says what states of sleep a domain offers.
type power struct {
	ToMemory struct {
		Enabled string `xml:"enabled,attr"` // yes or no
	} `xml:"suspend-to-mem"`
}

// qemuNamespace is that of what libvirt knows of QEMU alone: docs/drvqemu.html of libvirt.
const qemuNamespace = "http://libvirt.org/schemas/domain/qemu/1.0"

type override struct {
	Alias      string     `xml:"alias,attr"`
	Properties []property `xml:"qemu:frontend>qemu:property"`
}

type property struct {
	Name  string `xml:"name,attr"`
	Type  string `xml:"type,attr"`
	Value string `xml:"value,attr,omitempty"`
}

type quantity struct {
	Unit  string `xml:"unit,attr"`
	Value int64  `xml:",chardata"`
}

type osXML struct {
	Type    osType  `xml:"type"`
	Loader  *loader `xml:"loader"`
	NVRAM   string  `xml:"nvram,omitempty"`
	Kernel  string  `xml:"kernel,omitempty"`
	Initrd  string  `xml:"initrd,omitempty"`
	Cmdline string  `xml:"cmdline,omitempty"`
}

type osType struct {
	Arch    string `xml:"arch,attr"`
	Machine string `xml:"machine,attr"`
	Value   string `xml:",chardata"`
}

type loader struct {
	ReadOnly string `xml:"readonly,attr"`
	Type     string `xml:"type,attr"`
	Path     string `xml:",chardata"`
}

// features are those that QEMU's PC machines have anyway, and that libvirt takes away where they are not named.
type features struct {
	ACPI struct{} `xml:"acpi"`
	APIC struct{} `xml:"apic"`
}

type cpu struct {
	Mode     string   `xml:"mode,attr"`
	Match    string   `xml:"match,attr"`
	Check    string   `xml:"check,attr"`
	Model    model    `xml:"model"`
	Topology topology `xml:"topology"`
}

type model struct {
	Fallback string `xml:"fallback,attr"`
	Name     string `xml:",chardata"`
}

type topology struct {
	Sockets int `xml:"sockets,attr"`
	Dies    int `xml:"dies,attr"`
	Cores   int `xml:"cores,attr"`
	Threads int `xml:"threads,attr"`
}

type clock struct {
	Offset string `xml:"offset,attr"`
	Start  int64  `xml:"start,attr"` // seconds since 1970
	Timer  timer  `xml:"timer"`
}

type timer struct {
	Name  string `xml:"name,attr"`
	Track string `xml:"track,attr"`
}

type devices struct {
	Disks       []disk       `xml:"disk"`
	Controllers []controller `xml:"controller"`
	Channels    []channel    `xml:"channel"`
	Video       *video       `xml:"video"`
	RNG         *rng         `xml:"rng"`
	Balloon     none         `xml:"memballoon"`
	Panic       *panicXML    `xml:"panic"`
}

type disk struct {
	Type     string      `xml:"type,attr"`
	Device   string      `xml:"device,attr"`
	Driver   driver      `xml:"driver"`
	Source   sourceFile  `xml:"source"`
	Target   diskTarget  `xml:"target"`
	Serial   string      `xml:"serial"`
	ReadOnly *struct{}   `xml:"readonly"`
	Address  *pciAddress `xml:"address"`
}

type driver struct {
	Name    string `xml:"name,attr"`
	Type    string `xml:"type,attr"`
	Cache   string `xml:"cache,attr"`
	IO      string `xml:"io,attr"`
	Discard string `xml:"discard,attr,omitempty"`
}

type sourceFile struct {
	File string `xml:"file,attr"`
}

type diskTarget struct {
	Dev string `xml:"dev,attr"`
	Bus string `xml:"bus,attr"`
}

type controller struct {
	Type    string      `xml:"type,attr"`
	Index   *int        `xml:"index,attr"`
	Model   string      `xml:"model,attr,omitempty"`
	Ports   int         `xml:"ports,attr,omitempty"`
	Address *pciAddress `xml:"address"`
}

type channel struct {
	Type    string        `xml:"type,attr"`
	Source  channelSource `xml:"source"`
	Target  channelTarget `xml:"target"`
	Address portAddress   `xml:"address"`
}

type channelSource struct {
	Mode string `xml:"mode,attr"`
}

type channelTarget struct {
	Type string `xml:"type,attr"`
	Name string `xml:"name,attr"`
}

type video struct {
	Model   videoModel  `xml:"model"`
	Address *pciAddress `xml:"address"`
}

type videoModel struct {
	Type   string `xml:"type,attr"`
	Memory int    `xml:"vram,attr"` // KiB
}

type rng struct {
	Model   string      `xml:"model,attr"`
	Backend backend     `xml:"backend"`
	Address *pciAddress `xml:"address"`
}

type backend struct {
	Model string `xml:"model,attr"`
	Path  string `xml:",chardata"`
}

type none struct {
	Model string `xml:"model,attr"`
}

type panicXML struct {
	Model string `xml:"model,attr"`
}

type pciAddress struct {
	Type     string `xml:"type,attr"`
	Domain   string `xml:"domain,attr"`
	Bus      string `xml:"bus,attr"`
	Slot     string `xml:"slot,attr"`
	Function string `xml:"function,attr"`
}

type portAddress struct {
	Type       string `xml:"type,attr"`
	Controller int    `xml:"controller,attr"`
	Bus        int    `xml:"bus,attr"`
	Port       int    `xml:"port,attr"`
}
