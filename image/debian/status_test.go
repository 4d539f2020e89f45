package debian

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestStatusParagraph(t *testing.T) {
	control := "Version: 0:1.0-1\nPackage: hello\nX-Odd: kept\nArchitecture: amd64\nMulti-Arch: no\nEssential: no\nPriority: Optional\n" +
		"Depends: a(>=0:1)|b , c:any\nDescription: short\n long  \n .\n more\nSize: 12\nHomepage: https://example.org/\nSection: devel\n"
	want := `Package: hello
Status: install ok unpacked
Priority: optional
Section: devel
Architecture: amd64
Version: 1.0-1
Depends: a (>= 1) | b, c:any
Conffiles:
 /etc/a newconffile
 /etc/old newconffile remove-on-upgrade
Description: short
 long  
 .
 more
X-Odd: kept
Homepage: https://example.org/

`
	conffiles, err := ParseConffiles("hello", []byte("/etc/a\nremove-on-upgrade /etc/old\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := StatusParagraph([]byte(control), conffiles)
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	if conffiles.UnpackedName("etc/a") != "etc/a.dpkg-new" || conffiles.UnpackedName("etc/old") != "etc/old" || conffiles.UnpackedName("etc") != "etc" {
		t.Error("UnpackedName is wrong")
	}
	for text, says := range map[string]string{
		"Package: a\nVersion: 1\n":                                  "no field Architecture",
		"Package: a\nVersion: 1\nArchitecture: all\nStatus: x\n":    "dpkg's own",
		"Package: a\nVersion: 1\nArchitecture: all\nDepends: b c\n": "Depends",
		"": "want one paragraph",
	} {
		_, err := StatusParagraph([]byte(text), nil)
		wantFault(t, err, says)
	}
}

func TestParseConffilesBad(t *testing.T) {
	for _, text := range []string{"etc/a", "/etc/../a", "/", "/etc//a", "remove-on-upgrade etc", "/etc/"} {
		_, err := ParseConffiles("hello", []byte(text+"\n"))
		wantFault(t, err, "conffiles of hello", "line 1")
	}
}

func TestInfoFiles(t *testing.T) {
	d, err := OpenDeb(bytes.NewReader(goodDeb(t, "xz")))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var paths []string
	for {
		h, err := d.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, h.Name)
	}
	files, err := InfoFiles(d, paths[:3])
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, f := range files {
		fmt.Fprintf(&got, "%s %v %q\n", f.Name, f.Mode, f.Data)
	}
	want := `hello.conffiles -rw-r--r-- "/etc/hello.conf\n"
hello.list -rw-r--r-- "/.\n/usr\n/usr/hello\n"
hello.postinst -rwxr-xr-x "#!/bin/sh\n"
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &got, want)
	}
	if n := InfoName("libc6", "i386", "same"); n != "libc6:i386" {
		t.Error(n)
	}
	if n := InfoName("make", "i386", "allowed"); n != "make" {
		t.Error(n)
	}
}
