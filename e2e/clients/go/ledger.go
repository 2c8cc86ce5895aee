package main

// ledger counts what one consumer received of one run. The caller holds its lock.
type ledger struct {
	run             string
	seen            map[int]bool
	highest         map[string]int
	received        int
	duplicates      int
	badBodies       int
	foreign         int
	orderViolations int
	top             int
}

func newLedger(run string) *ledger {
	return &ledger{run: run, seen: map[int]bool{}, highest: map[string]int{}, top: -1}
}

// book enters one message and says whether it is of this run; those of others are only counted, so that tests can share a topic.
func (l *ledger) book(b body) bool {
	if !b.intact {
		l.badBodies++
		return false
	}
	if b.run != l.run {
		l.foreign++
		return false
	}
	l.received++
	if l.seen[b.seq] {
		// A redelivery is a duplicate, not a break of order: the first delivery counted for that.
		l.duplicates++
		return true
	}
	l.seen[b.seq] = true
	l.top = max(l.top, b.seq)
	if b.group != "" {
		before, known := l.highest[b.group]
		if known && b.seq < before {
			l.orderViolations++
		}
		l.highest[b.group] = max(before, b.seq)
	}
	return true
}

// missing gives the first numbers, at most limit, below the highest one seen that were never seen.
func (l *ledger) missing(limit int) []int {
	gaps := []int{}
	for seq := 0; seq < l.top && len(gaps) < limit; seq++ {
		if !l.seen[seq] {
			gaps = append(gaps, seq)
		}
	}
	return gaps
}
