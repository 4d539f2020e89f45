package measure

import (
	"bufio"
	"encoding/hex"
	"errors"
	"io"
	"regexp"
	"strconv"
)

// entryPattern is a line of tpm_log_dump (until 4.18 tcpa_log_dump): 'PCR-2 <hex> SHA256 [FMAP: FMAP]', in later versions behind
// the level of the message.
var entryPattern = regexp.MustCompile(`\bPCR-(\d{1,2}) ((?:[0-9a-f]{2}){20,64}) SHA\d+ \[([^\]]*)\]`)

// ParseConsole reads what coreboot prints of its log on its console; nil where it printed none. A boot that resets prints more than
// one log: the last one counts, which begins where the first event comes again.
func ParseConsole(console io.Reader) ([]Event, error) {
	var events []Event
	r := bufio.NewReaderSize(console, 64<<10)
	for {
		line, err := r.ReadSlice('\n') // of a longer line, the rest is the next one
		if m := entryPattern.FindSubmatch(line); m != nil {
			pcr, _ := strconv.Atoi(string(m[1]))
			digest, _ := hex.DecodeString(string(m[2]))
			e := Event{PCR: pcr, Digest: digest, Name: string(m[3])}
			if len(events) > 0 && e.Name == events[0].Name {
				events = nil
			}
			events = append(events, e)
		}
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}
