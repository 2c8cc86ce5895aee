package main

import (
	"fmt"
	"hash/crc32"
	"regexp"
	"strconv"
	"strings"
)

// A body proves itself: {"run":"r","seq":7,"group":"g1","pad":"xx","sum":"89abcdef"}, where the sum is the CRC-32 of every
// byte before ,"sum". The Java client writes and reads the same bytes.
type body struct {
	run    string
	seq    int
	group  string
	intact bool
}

var bodyForm = regexp.MustCompile(`^(\{"run":"([^"]*)","seq":(\d+),"group":"([^"]*)"(?:,"pad":"x*")?),"sum":"([0-9a-f]{8})"\}$`)

// writeBody gives the bytes of one body, padded to size bytes where it is shorter.
func writeBody(run string, seq int, group string, size int) []byte {
	head := fmt.Sprintf(`{"run":"%s","seq":%d,"group":"%s"`, run, seq, group)
	if missing := size - len(head) - len(`,"sum":"01234567"}`) - len(`,"pad":""`); missing > 0 {
		head += `,"pad":"` + strings.Repeat("x", missing) + `"`
	}
	return []byte(head + `,"sum":"` + bodySum(head) + `"}`)
}

// readBody takes any bytes; what is not a body of this form, or was changed under way, comes back not intact.
func readBody(bytes []byte) body {
	form := bodyForm.FindSubmatch(bytes)
	if form == nil {
		return body{seq: -1}
	}
	seq, err := strconv.Atoi(string(form[3]))
	if err != nil {
		return body{seq: -1}
	}
	return body{string(form[2]), seq, string(form[4]), bodySum(string(form[1])) == string(form[5])}
}

func bodySum(text string) string {
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text)))
}
