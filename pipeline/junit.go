package pipeline

import (
	"encoding/xml"
	"fmt"
	"time"

	"github.com/belljar/belljar/atomicfile"
	"github.com/belljar/belljar/fault"
)

// The parts of a JUnit report that programs for continuous integration agree on; there is no specification. Of it, Jenkins'
// JUnit plugin and GitLab's documentation say most.
type (
	junitSuite struct {
		XMLName  xml.Name    `xml:"testsuite"`
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Time     string      `xml:"time,attr"` // seconds
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"` // the ROM
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitFailure `xml:"failure,omitempty"`
		Out     string        `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit writes verdicts for a program that shows tests' results.
func writeJUnit(path string, verdicts []Verdict) error {
	text, err := xml.MarshalIndent(junit(verdicts), "", "  ")
	if err == nil {
		err = atomicfile.Write(path, append([]byte(xml.Header), append(text, '\n')...), 0o644)
	}
	if err != nil {
		return fault.New(fault.Host, "write JUnit report", "%w", err).WithRemedy("give a path that you may write to with --junit")
	}
	return nil
}

func junit(verdicts []Verdict) junitSuite {
	suite := junitSuite{Name: "belljar smoke", Tests: len(verdicts)}
	var all time.Duration
	for _, v := range verdicts {
		c := junitCase{Class: v.ROM, Name: v.Test, Time: junitTime(v.Took), Out: v.Console}
		if !v.Pass {
			suite.Failures++
			c.Failure = &junitFailure{Message: v.Text, Type: "smoke"}
			for _, s := range v.Steps {
				c.Failure.Text += fmt.Sprintf("%s: %s\n", map[bool]string{true: "came", false: "never came"}[s.Pass], s.Step)
			}
		}
		all += v.Took
		suite.Cases = append(suite.Cases, c)
	}
	suite.Time = junitTime(all)
	return suite
}

func junitTime(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
