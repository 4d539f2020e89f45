package specs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Digest is the SHA-256 of the spec and its guests in a canonical form: JSON with sorted keys, defaults filled in,
// descriptions left out. How a file is laid out, and what it says to people alone, does not count.
func (l *Loaded) Digest() string {
	guests := map[string]any{}
	for name, g := range l.Guests {
		guests[name] = canonical(g)
	}
	spec := canonical(l.named())
	spec["guests"] = l.names // not by path: the same guest elsewhere is the same guest
	return digest(map[string]any{"spec": spec, "guests": guests})
}

// Sections has a digest for each part of the spec and its guests, under the path by which a person knows it:
// "stages.build.script", "guests.debian-bookworm-i686.cpu". The lists themselves ("stages") stand for which there are,
// in which order.
func (l *Loaded) Sections() map[string]string {
	all := map[string]string{}
	spec := canonical(l.named())
	for _, key := range []string{"name", "artifacts"} {
		all[key] = digest(spec[key])
	}
	all["guests"] = digest(l.names)
	for name, g := range l.Guests {
		fields(all, "guests."+name, canonical(g))
	}
	for _, list := range []string{"sources", "stages", "smoke"} {
		var names []string
		elements, _ := spec[list].([]any)
		for _, e := range elements {
			e := e.(map[string]any)
			name := e["name"].(string)
			names = append(names, name)
			if list == "stages" {
				fields(all, "stages."+name, e)
			} else {
				all[list+"."+name] = digest(e)
			}
		}
		all[list] = digest(names)
	}
	return all
}

// fields adds a section for each field of an object.
func fields(all map[string]string, prefix string, object map[string]any) {
	for key, value := range object {
		if key != "name" {
			all[prefix+"."+key] = digest(value)
		}
	}
}

// canonical turns a spec or a guest into plain values, whose JSON has sorted keys.
func canonical(v any) map[string]any {
	data, err := json.Marshal(v)
	if err != nil {
		panic("specs: " + err.Error()) // the types hold nothing that JSON cannot
	}
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		panic("specs: " + err.Error())
	}
	delete(m, "description")
	return m
}

func digest(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic("specs: " + err.Error())
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
