package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/belljar/belljar/pipeline"
)

// part is a phase that goes on.
type part struct {
	label string // phase and name
	text  string // what it does
	began time.Time
	said  time.Time // when its progress was told last
	meter meter
	log   string // the last line that it logged
}

// parts are those that go on, in the order in which they began.
type parts []*part

// take brings the parts up to date with ev and gives the one that ev is about; nil for what is about none.
// Progress of a part that nobody started starts it; a log line does not: a guest still speaks after its boot is over.
func (ps *parts) take(ev pipeline.Event, now time.Time) *part {
	if ev.Kind == pipeline.Note || ev.Kind == pipeline.Warning {
		return nil
	}
	name, at := label(ev), -1
	for i, p := range *ps {
		if p.label == name {
			at = i
		}
	}
	if at < 0 && ev.Kind == pipeline.LogLine && ev.Name == "" && len(*ps) > 0 {
		at = len(*ps) - 1
	}
	if at < 0 && ev.Kind == pipeline.LogLine {
		return nil
	}
	if at < 0 {
		*ps = append(*ps, &part{label: name, began: now})
		at = len(*ps) - 1
	}
	p := (*ps)[at]
	switch ev.Kind {
	case pipeline.PhaseStart:
		*p = part{label: name, text: tidy(ev.Text), began: now}
	case pipeline.PhaseEnd:
		*ps = append((*ps)[:at], (*ps)[at+1:]...)
	case pipeline.Progress:
		p.meter.add(ev, now)
	case pipeline.LogLine:
		if line := strings.TrimSpace(tidy(ev.Text)); line != "" {
			p.log = line
		}
	}
	return p
}

// took is how long p took by its own word, or by the clock here.
func (p *part) took(ev pipeline.Event, now time.Time) time.Duration {
	if ev.Took > 0 {
		return ev.Took
	}
	return now.Sub(p.began)
}

func (p *part) title(sep string) string { return labelled(p.label, sep, p.text) }

func labelled(label, sep, text string) string {
	if text == "" {
		return label
	}
	return label + sep + text
}

func label(ev pipeline.Event) string {
	switch {
	case ev.Name == "":
		return string(ev.Phase)
	case ev.Phase == "":
		return tidy(ev.Name)
	}
	return string(ev.Phase) + " " + tidy(ev.Name)
}

// meter measures progress: how much, how fast over the last seconds, how long to go.
type meter struct {
	done, total int64
	unit        string
	seen        []sample
}

type sample struct {
	at   time.Time
	done int64
}

const (
	meterWindow = 5 * time.Second
	meterStep   = 250 * time.Millisecond
)

func (m *meter) add(ev pipeline.Event, now time.Time) {
	if ev.Done < m.done || ev.Unit != m.unit {
		m.seen = nil // a new count
	}
	m.done, m.total, m.unit = ev.Done, ev.Total, ev.Unit
	if n := len(m.seen); n == 0 || now.Sub(m.seen[n-1].at) >= meterStep {
		m.seen = append(m.seen, sample{now, ev.Done})
	}
	for len(m.seen) > 2 && now.Sub(m.seen[1].at) >= meterWindow {
		m.seen = m.seen[1:]
	}
}

// rate is per second; 0 while too little is known.
func (m *meter) rate(now time.Time) float64 {
	if len(m.seen) == 0 {
		return 0
	}
	first := m.seen[0]
	if t := now.Sub(first.at); t >= meterStep {
		return float64(m.done-first.done) / t.Seconds()
	}
	return 0
}

// left is how long the rest will take at this rate; negative if nobody can tell.
func (m *meter) left(now time.Time) time.Duration {
	rate := m.rate(now)
	if m.total <= 0 || rate <= 0 || m.done >= m.total {
		return -1
	}
	seconds := float64(m.total-m.done) / rate
	if seconds > 99*3600 {
		return -1
	}
	return time.Duration(seconds * float64(time.Second))
}

// fraction is between 0 and 1; negative without a total.
func (m *meter) fraction() float64 {
	if m.total <= 0 {
		return -1
	}
	return min(1, float64(max(0, m.done))/float64(m.total))
}

// facts are what can be said, the most important first.
func (m *meter) facts(now time.Time) []string {
	var out []string
	if m.total > 0 {
		out = append(out, fmt.Sprintf("%d%%", 100*max(0, min(m.done, m.total))/m.total))
	}
	out = append(out, m.amount())
	if rate := m.rate(now); rate > 0 && m.unit == "bytes" {
		out = append(out, bytesText(int64(rate))+"/s")
	}
	if left := m.left(now); left >= 0 {
		out = append(out, elapsed(left)+" left")
	}
	return out
}

func (m *meter) text(now time.Time) string { return strings.Join(m.facts(now), ", ") }

func (m *meter) amount() string {
	switch {
	case m.unit == "bytes" && m.total > 0:
		return bytesText(m.done) + " of " + bytesText(m.total)
	case m.unit == "bytes":
		return bytesText(m.done)
	case m.total > 0:
		return strings.TrimSpace(fmt.Sprintf("%d of %d %s", m.done, m.total, m.unit))
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", m.done, m.unit))
}
