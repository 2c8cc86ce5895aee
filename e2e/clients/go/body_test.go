package main

import "testing"

func TestABodyReadsBackAsItWasWritten(t *testing.T) {
	if got := readBody(writeBody("r1", 42, "g2", 200)); got != (body{"r1", 42, "g2", true}) {
		t.Fatalf("read %+v", got)
	}
}

func TestTheBytesAreThoseThatTheJavaClientWrites(t *testing.T) {
	for size, want := range map[int]string{
		0:  `{"run":"r1","seq":42,"group":"g2","sum":"8cb9ea9e"}`,
		63: `{"run":"r1","seq":42,"group":"g2","pad":"xxx","sum":"6335522c"}`,
	} {
		if got := string(writeBody("r1", 42, "g2", size)); got != want {
			t.Errorf("size %d: wrote %s, want %s", size, got, want)
		}
	}
}

func TestAnyChangedByteIsNoticed(t *testing.T) {
	whole := writeBody("r1", 42, "g2", 80)
	for i := range whole {
		changed := append([]byte(nil), whole...)
		changed[i] ^= 1
		if readBody(changed).intact {
			t.Errorf("byte %d changed and not noticed", i)
		}
	}
}
