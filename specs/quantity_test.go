package specs

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "5m": 5 * time.Minute, "1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond, "1.5h": 90 * time.Minute, "0s": 0,
	} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || time.Duration(d) != want {
			t.Errorf("%s: %v, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "5", "-5s", "5 s", "5sec", "s", "1d", "9999999999h", "+5s", "5s\n"} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was accepted as %s", text, d)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", 5 * time.Minute: "5m", time.Hour: "1h", 90 * time.Second: "1m30s", 3610 * time.Second: "1h0m10s", 10 * time.Hour: "10h", 100 * time.Minute: "1h40m",
	} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%v is written %s, want %s", d, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"0B": 0, "1B": 1, "1KiB": 1024, "512MiB": 512 * MiB, "2GiB": 2 * GiB, "7TiB": 7 * TiB} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%s: %v, %v", text, int64(s), err)
		}
		if got := s.String(); got != text {
			t.Errorf("%s is written %s", text, got)
		}
	}
	for _, text := range []string{"", "5", "5MB", "5 MiB", "-5MiB", "1.5GiB", "05MiB", "8388608TiB", "99999999999999999999B", "MiB", "5mib"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was accepted as %s", text, s)
		}
	}
	if got := Size(math.MaxInt64).String(); got != "9223372036854775807B" {
		t.Errorf("not exact: %s", got)
	}
}

// TestQuantitiesInDocuments: the same text in YAML and JSON, and no bare numbers in either.
func TestQuantitiesInDocuments(t *testing.T) {
	type doc struct {
		D Duration `yaml:"d" json:"d"`
		S Size     `yaml:"s" json:"s"`
	}
	in := doc{Duration(90 * time.Second), 3 * GiB}
	j, err := json.Marshal(in)
	if err != nil || string(j) != `{"d":"1m30s","s":"3GiB"}` {
		t.Errorf("JSON: %s, %v", j, err)
	}
	y, err := yaml.Marshal(in)
	if err != nil || string(y) != "d: 1m30s\ns: 3GiB\n" {
		t.Errorf("YAML: %s, %v", y, err)
	}
	var fromJSON, fromYAML doc
	if err := json.Unmarshal(j, &fromJSON); err != nil || fromJSON != in {
		t.Errorf("from JSON: %v, %v", fromJSON, err)
	}
	if err := yaml.Unmarshal(y, &fromYAML); err != nil || fromYAML != in {
		t.Errorf("from YAML: %v, %v", fromYAML, err)
	}
	if err := json.Unmarshal([]byte(`{"d":5}`), new(doc)); err == nil {
		t.Error("JSON: a bare number was accepted")
	}
}
