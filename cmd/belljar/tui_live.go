package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/belljar/belljar/pipeline"
)

// frameTime is the time between two pictures.
const frameTime = 100 * time.Millisecond

// live draws progress on a terminal: what is done scrolls away above, and a few lines at the bottom, the region,
// are drawn again and again. Events only change the state; the picture is made when the clock ticks.
type live struct {
	w    io.Writer
	size func() (width, height int)
	now  func() time.Time
	st   style

	mu     sync.Mutex
	parts  parts
	began  time.Time
	above  []string // finished lines, not yet on the terminal
	region []int    // columns of each line of the region on the terminal
	frame  int

	stop chan struct{} // nil: no clock ticks
	done chan struct{}
}

func newLive(w io.Writer, size func() (int, int), now func() time.Time, st style) *live {
	return &live{w: w, size: size, now: now, st: st, began: now()}
}

// run starts the clock.
func (l *live) run() {
	l.stop, l.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(l.done)
		t := time.NewTicker(frameTime)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				l.tick()
			case <-l.stop:
				return
			}
		}
	}()
}

func (l *live) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frame++
	l.draw()
}

func (l *live) event(ev pipeline.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	p := l.parts.take(ev, now)
	switch ev.Kind {
	case pipeline.PhaseEnd:
		text := tidy(ev.Text)
		if text == "" {
			text = p.text
		}
		l.above = append(l.above, l.ended(l.glyph("✓", "+"), green, label(ev), text, p.took(ev, now)))
	case pipeline.Note:
		l.above = append(l.above, l.st.plain("  "+tidy(ev.Text)))
	case pipeline.Warning:
		l.above = append(l.above, l.st.paint(yellow, l.st.plain("! "+tidy(ev.Text))))
	}
}

// close draws the last picture: what is done, and a cross for what was not.
func (l *live) close(ok bool) {
	if l.stop != nil {
		close(l.stop)
		<-l.done
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !ok {
		for _, p := range l.parts {
			l.above = append(l.above, l.ended(l.glyph("✗", "x"), red, p.label, p.text, l.now().Sub(p.began)))
		}
	}
	l.parts = nil
	l.draw()
}

// titled puts the names of phases into a column of their own, where there is room for one.
func (l *live) titled(name, text string) string {
	const room, least = 14, 50
	if l.width() >= least {
		name = pad(name, room)
	}
	return strings.TrimRight(name+" "+text, " ")
}

// widest is where lines end at the right on a terminal however wide, so that the eye finds its way across.
const widest = 100

// ended is the line of a part that is over. It may be longer than the terminal is wide: it is not drawn again.
func (l *live) ended(mark, sgr, name, text string, d time.Duration) string {
	width := l.width()
	time := took(d)
	left := l.st.plain(l.titled(name, text))
	gap := width - columns(mark) - 1 - columns(left) - columns(time)
	return l.st.paint(sgr, mark) + " " + left + strings.Repeat(" ", max(1, gap)) + l.st.paint(dim, time)
}

// width is how many columns to use: not the last one, where terminals differ on when they wrap.
func (l *live) width() int {
	w, _ := l.size()
	return max(1, min(w-1, widest))
}

// draw replaces the region: up to its first line, what became finished, the new region, nothing below.
// All of it is one write, so that no half picture is seen.
func (l *live) draw() {
	if len(l.above) == 0 && len(l.parts) == 0 && len(l.region) == 0 {
		return
	}
	width, height := l.size()
	var b strings.Builder
	if up := rows(l.region, width); up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", min(up, max(1, height-1)))
	}
	b.WriteString("\r")
	for _, line := range l.above {
		b.WriteString(line + "\x1b[K\r\n")
	}
	l.above, l.region = nil, nil
	for _, spans := range l.picture(l.width(), height) {
		line, n := l.st.join(l.width(), spans...)
		b.WriteString(line + "\x1b[K\r\n")
		l.region = append(l.region, n)
	}
	b.WriteString("\x1b[J")
	_, _ = io.WriteString(l.w, b.String()) // a terminal that has gone away is no reason to stop
}

// rows is how many rows lines take on a terminal that has become width columns wide: lines that were drawn
// for a wider one are wrapped by it.
func rows(lines []int, width int) int {
	n, width := 0, max(1, width)
	for _, columns := range lines {
		n += max(1, (columns+width-1)/width)
	}
	return n
}

// picture is the region: for each part its line, its progress, its last log line. Where the terminal is too low
// for all, the newest stay.
func (l *live) picture(width, height int) [][]span {
	now := l.now()
	var out [][]span
	for i, p := range l.parts {
		out = append(out, l.headline(p, width, now, i == len(l.parts)-1))
		if p.meter.unit != "" || p.meter.total > 0 {
			out = append(out, l.bar(&p.meter, width, now))
		}
		if p.log != "" {
			out = append(out, []span{{l.glyph("  │ ", "  | "), dim}, {p.log, dim}})
		}
	}
	if most := max(1, min(height-1, 12)); len(out) > most {
		out = out[len(out)-most:]
	}
	return out
}

// headline is '⠋ stage build  what it does   12s', and in the last line of all the time since the start.
func (l *live) headline(p *part, width int, now time.Time, last bool) []span {
	clock := elapsed(now.Sub(p.began))
	if all := elapsed(now.Sub(l.began)); last && all != clock && width >= 50 {
		clock += l.glyph(" · ", " / ") + all + " in all"
	}
	mark := l.spinner() + " "
	left := l.st.plain(l.titled(p.label, p.text))
	room := width - columns(mark) - columns(clock) - 1
	if room < 8 {
		return []span{{mark, cyan}, {l.st.plain(p.label), bold}}
	}
	left = pad(l.st.cut(left, room), room)
	return []span{{mark, cyan}, {left, bold}, {" " + clock, dim}}
}

func (l *live) spinner() string {
	frames := []rune(l.glyph("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", `|/-\`))
	return string(frames[l.frame%len(frames)])
}

// bar is '  ━━━━━━────  45%  12.3 MiB of 27 MiB  4.1 MiB/s  4s left'; on a narrow terminal the least important
// goes first, the bar last.
func (l *live) bar(m *meter, width int, now time.Time) []span {
	const least, most = 8, 30
	facts := m.facts(now)
	text := ""
	room := width - 2
	for i, f := range facts {
		if i > 0 && columns(text)+2+columns(f)+2+least > room {
			break
		}
		text += "  " + f
	}
	n := min(most, room-columns(text))
	if m.fraction() < 0 || n < least {
		return []span{{" " + text, ""}}
	}
	full := int(m.fraction() * float64(n))
	return []span{
		{"  ", ""},
		{strings.Repeat(l.glyph("━", "#"), full), cyan},
		{strings.Repeat(l.glyph("─", "-"), n-full), dim},
		{text, ""},
	}
}

func (l *live) glyph(utf8, ascii string) string {
	if l.st.utf8 {
		return utf8
	}
	return ascii
}
