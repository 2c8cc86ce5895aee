package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

// production is one produce command under way.
type production struct {
	events   *events
	stop     <-chan struct{}
	producer *producer

	run, kind                                              string
	count, seconds, groups, size                           int
	rate                                                   float64
	attempts, rollbackEvery, unresolvedEvery, checkTimeout int

	latencies          latencies
	rolledBack, failed int
	lastAck            time.Time
	maxGap             time.Duration

	lock       sync.Mutex // of the following, which the checker shares
	unresolved map[int]bool
	checked    int
}

func produce(args []string, e *events, stop <-chan struct{}) error {
	p := &production{events: e, stop: stop, unresolved: map[int]bool{}}
	o := newOptions("produce")
	o.StringVar(&p.run, "run", "", "name of this run, written into every body")
	o.StringVar(&p.kind, "type", "normal", "normal, fifo, ordered, delay or transaction")
	o.IntVar(&p.count, "count", 0, "messages; 0: until --seconds")
	o.IntVar(&p.seconds, "seconds", 0, "stop after so long; 0: at --count")
	o.Float64Var(&p.rate, "rate", 0, "messages a second; 0: as fast as one caller can")
	o.IntVar(&p.groups, "groups", -1, "message groups; default 4 for fifo and ordered, else none")
	o.IntVar(&p.size, "size", 0, "bytes of a body, at least")
	o.IntVar(&p.attempts, "attempts", 1, "tries of ours per message")
	o.IntVar(&p.rollbackEvery, "rollback-every", 0, "roll back every K-th transaction")
	o.IntVar(&p.unresolvedEvery, "unresolved-every", 0, "leave every K-th transaction to the checker")
	o.IntVar(&p.checkTimeout, "check-timeout", 120, "seconds to wait for the checker at the end")
	delayMillis := o.Int("delay-ms", 0, "delay of each message")
	clientAttempts := o.Int("client-attempts", 3, "tries of the client's own per send")
	if err := o.read(args); err != nil {
		return err
	}
	if p.run == "" || p.count == 0 && p.seconds == 0 {
		return errors.New("--run, and --count or --seconds, are needed")
	}
	if !slices.Contains([]string{"normal", "fifo", "ordered", "delay", "transaction"}, p.kind) {
		return fmt.Errorf("unknown --type %q", p.kind)
	}
	if p.groups < 0 && (p.kind == "fifo" || p.kind == "ordered") {
		p.groups = 4
	}
	opened, err := openProducer(o, p.kind, *delayMillis, *clientAttempts, p.check)
	if err != nil {
		return err
	}
	defer opened.GracefulStop()
	p.producer = opened
	e.emit("ready", fields{})
	return e.finish(p.work())
}

func (p *production) work() (fields, error) {
	start := time.Now()
	p.lastAck = start
	seq := 0
	for ; (p.count == 0 || seq < p.count) && (p.seconds == 0 || time.Since(start).Seconds() < float64(p.seconds)); seq++ {
		pause := time.Duration(0)
		if p.rate > 0 {
			pause = time.Until(start.Add(time.Duration(float64(seq) / p.rate * float64(time.Second))))
		}
		if !sleep(pause, p.stop) {
			break
		}
		p.sendOne(seq)
	}
	p.maxGap = max(p.maxGap, time.Since(p.lastAck))
	elapsed := time.Since(start).Seconds()
	left := p.awaitChecks()

	summary := fields{"sent": seq, "acked": len(p.latencies.all) + p.checked, "rolledback": p.rolledBack, "failed": p.failed,
		"checked": p.checked, "seconds": elapsed, "p50_ms": p.latencies.percentile(50), "p99_ms": p.latencies.percentile(99),
		"max_gap_ms": p.maxGap.Milliseconds()}
	switch {
	case p.failed > 0:
		return summary, fmt.Errorf("%d of %d messages failed", p.failed, seq)
	case left > 0:
		return summary, fmt.Errorf("%d half messages were never asked about", left)
	case p.count > 0 && seq < p.count:
		return summary, fmt.Errorf("stopped after %d of %d messages", seq, p.count)
	}
	return summary, nil
}

func isEvery(n, seq int) bool { return n > 0 && seq%n == n-1 }

// fate is what becomes of a message, and the event that says so.
func (p *production) fate(seq int) (rmq.TransactionResolution, string) {
	switch {
	case p.kind == "transaction" && isEvery(p.rollbackEvery, seq):
		return rmq.ROLLBACK, "rolledback"
	case p.kind == "transaction" && isEvery(p.unresolvedEvery, seq):
		return rmq.UNKNOWN, "half"
	}
	return rmq.COMMIT, "acked"
}

func (p *production) setUnresolved(seq int, open bool) {
	p.lock.Lock()
	defer p.lock.Unlock()
	if open {
		p.unresolved[seq] = true
	} else {
		delete(p.unresolved, seq)
	}
}

func (p *production) sendOne(seq int) {
	group := ""
	if p.groups > 0 {
		group = fmt.Sprintf("g%d", seq%p.groups)
	}
	fate, event := p.fate(seq)
	p.setUnresolved(seq, fate == rmq.UNKNOWN)
	for attempt := 1; ; attempt++ {
		begin := time.Now()
		id, err := p.producer.send(writeBody(p.run, seq, group, p.size), group, fmt.Sprintf("%s-%d", p.run, seq), fate)
		took := time.Since(begin)
		if err == nil {
			p.acknowledged(fate, took)
			p.events.emit(event, fields{"seq": seq, "group": group, "id": id, "ms": millis(took)})
			return
		}
		failure := fields{"seq": seq, "group": group, "attempt": attempt, "ms": millis(took), "error": err.Error()}
		if attempt >= p.attempts {
			p.events.emit("failed", failure)
			p.failed++
			p.setUnresolved(seq, false)
			return
		}
		p.events.emit("retry", failure)
		sleep(200*time.Millisecond, p.stop)
	}
}

func (p *production) acknowledged(fate rmq.TransactionResolution, took time.Duration) {
	p.maxGap = max(p.maxGap, time.Since(p.lastAck))
	p.lastAck = time.Now()
	switch fate {
	case rmq.COMMIT:
		p.latencies.add(took)
	case rmq.ROLLBACK:
		p.rolledBack++
	}
}

// check answers the broker's question about a half message by the sender's rule, except that none stays open.
func (p *production) check(message *rmq.MessageView) rmq.TransactionResolution {
	b := readBody(message.GetBody())
	if !b.intact || b.run != p.run {
		return rmq.UNKNOWN
	}
	commit := !isEvery(p.rollbackEvery, b.seq)
	p.events.emit("checked", fields{"seq": b.seq, "group": b.group, "commit": commit})
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.unresolved[b.seq] {
		delete(p.unresolved, b.seq)
		p.checked++
	}
	if commit {
		return rmq.COMMIT
	}
	return rmq.ROLLBACK
}

// awaitChecks waits until every half message was asked about: after the broker's transactionTimeOut (6 s), every
// transactionCheckInterval (30 s). It returns how many were not.
func (p *production) awaitChecks() int {
	open := func() int {
		p.lock.Lock()
		defer p.lock.Unlock()
		return len(p.unresolved)
	}
	if open() == 0 {
		return 0
	}
	deadline := time.Now().Add(time.Duration(p.checkTimeout) * time.Second)
	for open() > 0 && time.Now().Before(deadline) && sleep(100*time.Millisecond, p.stop) {
	}
	// The answer leaves after the checker returned; closing at once would cut it off.
	sleep(time.Second, p.stop)
	return open()
}

// sleep returns false when the command was stopped.
func sleep(d time.Duration, stop <-chan struct{}) bool {
	select {
	case <-stop:
		return false
	case <-time.After(max(d, 0)):
		return true
	}
}
