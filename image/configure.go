package image

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed configure.sh configure
var configureFiles embed.FS

// perlModules are what the Perl programs load that packages' scripts call most: debconf's frontend,
// deb-systemd-helper, update-rc.d, adduser.
var perlModules = []string{
	"Debconf/Db.pm", "Debconf/Template.pm", "Debconf/AutoSelect.pm", "Debconf/Log.pm", "Debconf/ConfModule.pm",
	"Debconf/DbDriver/Cache.pm", "Debconf/DbDriver/Copy.pm", "Debconf/DbDriver/File.pm", "Debconf/DbDriver/Stack.pm",
	"Debconf/Format/822.pm", "Debconf/FrontEnd/Noninteractive.pm", "Debconf/Element/Noninteractive/Boolean.pm",
	"Debconf/Element/Noninteractive/Error.pm", "Debconf/Element/Noninteractive/Multiselect.pm",
	"Debconf/Element/Noninteractive/Note.pm", "Debconf/Element/Noninteractive/Select.pm",
	"Debconf/Element/Noninteractive/String.pm", "Debconf/Element/Noninteractive/Text.pm", "File/Basename.pm",
	"File/Glob.pm", "File/Path.pm", "File/Temp.pm", "Getopt/Long.pm", "IPC/Open3.pm", "POSIX.pm",
}

// ConfigureScript turns the base layer into a configured Debian. It is run by /bin/sh as root in a guest that booted
// from the base layer; what it changes is the difference that Merge takes.
var ConfigureScript = configureScript()

// configureScript is configure.sh, after lines that lay the files of the folder configure where it finds them.
func configureScript() string {
	var b strings.Builder
	b.WriteString("mkdir -p /belljar/configure\n")
	entries, err := configureFiles.ReadDir("configure")
	if err != nil {
		panic(err) // they are part of this program
	}
	for _, e := range entries {
		text := mustRead("configure/" + e.Name())
		b.WriteString("cat >/belljar/configure/" + e.Name() + " <<'END OF FILE'\n" + text + "END OF FILE\n")
	}
	b.WriteString("chmod 755 /belljar/configure/*\n")
	b.WriteString("perl_modules='" + strings.Join(perlModules, " ") + "'\n")
	b.WriteString(mustRead("configure.sh"))
	return b.String()
}

func mustRead(name string) string {
	data, err := fs.ReadFile(configureFiles, name)
	if err != nil {
		panic(err)
	}
	return string(data)
}
