package specs

import (
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// profilesDir is the folder of the shipped profiles.
const profilesDir = "profiles"

// Profiles lists the names of the profiles that come with the program, sorted.
func Profiles() []string {
	entries, _ := shipped.ReadDir("shipped/" + profilesDir) // cannot fail: the folder is embedded
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".yaml"); ok {
			names = append(names, name)
		}
	}
	return names
}

// LoadProfile reads a profile: a file by its path, which begins with /, ./ or ../ or ends in .yaml; else a shipped one by
// its name.
func LoadProfile(name string) (*Profile, error) {
	if isPath(name) {
		data, err := readFile("read profile", name)
		if err != nil {
			return nil, err
		}
		return ParseProfile(name, data)
	}
	if !slices.Contains(Profiles(), name) {
		return nil, fault.New(fault.Input, "read profile", "there is no shipped profile %q%s", name, suggest(name, Profiles())).
			WithRemedy("shipped profiles: %s; for a file of your own, give its path, like ./%s.yaml", strings.Join(Profiles(), ", "), name)
	}
	data, err := shipped.ReadFile("shipped/" + profilesDir + "/" + name + ".yaml")
	if err != nil {
		return nil, fault.New(fault.Unknown, "read profile", "%w", err)
	}
	return ParseProfile(name+".yaml", data)
}

// ParseProfile reads a profile. The file's name is for messages.
func ParseProfile(file string, data []byte) (*Profile, error) {
	c := checker{document: &document{file: file, op: "read profile", data: data}}
	p := new(Profile)
	if c.decodeYAML(p) {
		c.name(at("name"), p.Name)
		c.smoke(nil, p.Test(""))
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	return p, nil
}
