package main

import (
	"reflect"
	"testing"
)

func TestASmallerNumberAfterALargerOneOfItsGroupBreaksTheOrder(t *testing.T) {
	l := newLedger("run")
	for _, b := range []body{{"run", 2, "a", true}, {"run", 1, "b", true}, {"run", 0, "a", true}} {
		l.book(b)
	}
	if l.orderViolations != 1 {
		t.Fatalf("%d violations, want 1", l.orderViolations)
	}
}

func TestARedeliveryIsADuplicateAndDoesNotBreakTheOrder(t *testing.T) {
	l := newLedger("run")
	for _, seq := range []int{0, 2, 0, 4} {
		l.book(body{"run", seq, "a", true})
	}
	if l.duplicates != 1 || l.orderViolations != 0 || l.received != 4 || len(l.seen) != 3 {
		t.Fatalf("%+v", l)
	}
}

func TestGapsBelowTheHighestNumberAreMissing(t *testing.T) {
	l := newLedger("run")
	l.book(body{"run", 1, "", true})
	l.book(body{"run", 4, "", true})
	if got := l.missing(2); !reflect.DeepEqual(got, []int{0, 2}) {
		t.Fatalf("missing %v", got)
	}
}

func TestBadBodiesAndOtherRunsAreCountedApart(t *testing.T) {
	l := newLedger("run")
	if l.book(body{seq: -1}) || l.book(body{"other", 7, "", true}) {
		t.Fatal("booked as one of this run")
	}
	if l.badBodies != 1 || l.foreign != 1 || l.received != 0 {
		t.Fatalf("%+v", l)
	}
}
