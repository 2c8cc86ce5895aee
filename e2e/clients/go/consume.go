package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
)

const (
	// Long poll of one receive call; the proxy refuses less (grpcClientConsumerMinLongPollingTimeoutMillis, 5 s).
	await     = 5 * time.Second
	invisible = 30 * time.Second
	batch     = 32
)

// consumption is one consume command under way.
type consumption struct {
	events         *events
	quiet, ordered bool
	expect         int

	lock               sync.Mutex // of everything below
	ledger             *ledger
	over               bool
	failedCalls        int
	first, last        time.Time
	maxGap             time.Duration
	minDelay, maxDelay time.Duration
	news               chan struct{}
}

func consume(args []string, e *events, stop <-chan struct{}) error {
	c := &consumption{events: e, news: make(chan struct{}, 1)}
	o := newOptions("consume")
	run := o.String("run", "", "run to count")
	mode := o.String("mode", "push", "push or simple")
	o.IntVar(&c.expect, "expect", -1, "messages of the run to wait for")
	idle := o.Int("until-idle", 0, "stop after so many ms without a message")
	timeout := o.Int("timeout", 60, "seconds in all")
	linger := o.Int("linger-ms", 500, "look so long for more after the last expected message")
	abandon := o.Bool("abandon", false, "leave without the client's graceful close")
	o.BoolVar(&c.ordered, "ordered", false, "fail when a group's order is broken")
	o.BoolVar(&c.quiet, "quiet", false, "print the summary only")
	if err := o.read(args); err != nil {
		return err
	}
	if *run == "" || *o.group == "" || c.expect < 0 && *idle == 0 {
		return errors.New("--run, --consumer-group, and --expect or --until-idle, are needed")
	}
	c.ledger = newLedger(*run)
	open := c.openPush
	if *mode == "simple" {
		open = c.openSimple
	} else if *mode != "push" {
		return fmt.Errorf("unknown --mode %q", *mode)
	}
	closer, err := open(o)
	if err != nil {
		return err
	}
	if !*abandon {
		defer closer()
	}
	e.emit("ready", fields{})
	inTime := c.wait(time.Duration(*timeout)*time.Second, time.Duration(*idle)*time.Millisecond, stop)
	if inTime && c.expect >= 0 {
		sleep(time.Duration(*linger)*time.Millisecond, stop)
	}
	return e.finish(c.summary(inTime))
}

func (c *consumption) openPush(o options) (func() error, error) {
	consumer, err := rmq.NewPushConsumer(o.config(), rmq.WithPushAwaitDuration(await),
		rmq.WithPushSubscriptionExpressions(map[string]*rmq.FilterExpression{*o.topic: rmq.SUB_ALL}),
		rmq.WithPushMessageListener(&rmq.FuncMessageListener{Consume: func(view *rmq.MessageView) rmq.ConsumerResult {
			c.take(view)
			return rmq.SUCCESS
		}}))
	if err != nil {
		return nil, err
	}
	return consumer.GracefulStop, consumer.Start()
}

func (c *consumption) openSimple(o options) (func() error, error) {
	consumer, err := rmq.NewSimpleConsumer(o.config(), rmq.WithClientFuncForSimpleConsumer(o.newClient), rmq.WithSimpleAwaitDuration(await),
		rmq.WithSimpleSubscriptionExpressions(map[string]*rmq.FilterExpression{*o.topic: rmq.SUB_ALL}))
	if err != nil {
		return nil, err
	}
	if err := consumer.Start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			c.receive(ctx, consumer)
		}
	}()
	return func() error {
		cancel()
		<-done
		return consumer.GracefulStop()
	}, nil
}

func (c *consumption) receive(ctx context.Context, consumer rmq.SimpleConsumer) {
	views, err := consumer.Receive(ctx, batch, invisible)
	status, isStatus := rmq.AsErrRpcStatus(err)
	if isStatus && status.GetCode() == int32(v2.Code_MESSAGE_NOT_FOUND) {
		return // Nothing there: this client says so by an error.
	}
	if err != nil && ctx.Err() == nil {
		c.failed("receive", err)
		sleep(100*time.Millisecond, ctx.Done())
	}
	for _, view := range views {
		c.take(view)
		if err := consumer.Ack(ctx, view); err != nil && ctx.Err() == nil {
			c.failed("ack", err)
		}
	}
}

func (c *consumption) failed(call string, err error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.failedCalls++
	c.events.emit("call_failed", fields{"call": call, "error": err.Error()})
}

func (c *consumption) take(view *rmq.MessageView) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.over {
		return
	}
	b := readBody(view.GetBody())
	ours := c.ledger.book(b)
	delay := time.Duration(0)
	if born := view.GetBornTimestamp(); born != nil {
		delay = time.Since(*born)
	}
	if ours {
		c.clock(delay)
	}
	if (ours || !b.intact) && !c.quiet {
		c.events.emit("received", fields{"seq": b.seq, "group": b.group, "id": view.GetMessageId(), "body_ok": b.intact,
			"attempt": view.GetDeliveryAttempt(), "delay_ms": delay.Milliseconds()})
	}
	select {
	case c.news <- struct{}{}:
	default:
	}
}

func (c *consumption) clock(delay time.Duration) {
	now := time.Now()
	if c.first.IsZero() {
		c.first, c.minDelay = now, delay
	} else {
		c.maxGap = max(c.maxGap, now.Sub(c.last))
	}
	c.last, c.minDelay, c.maxDelay = now, min(c.minDelay, delay), max(c.maxDelay, delay)
}

// wait returns true when the expectation was met before the time was up.
func (c *consumption) wait(timeout, idle time.Duration, stop <-chan struct{}) bool {
	over := time.After(timeout)
	quiet := make(<-chan time.Time)
	for {
		if idle > 0 {
			quiet = time.After(idle)
		}
		c.lock.Lock()
		met := c.expect >= 0 && len(c.ledger.seen) >= c.expect
		c.lock.Unlock()
		if met {
			return true
		}
		select {
		case <-c.news:
		case <-quiet:
			return c.expect < 0
		case <-stop:
			return c.expect < 0
		case <-over:
			return false
		}
	}
}

func (c *consumption) summary(inTime bool) (fields, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.over = true
	l := c.ledger
	firstMillis := int64(-1)
	if !c.first.IsZero() {
		firstMillis = c.first.Sub(c.events.start).Milliseconds()
	}
	f := fields{"received": l.received, "distinct": len(l.seen), "duplicates": l.duplicates, "bad_bodies": l.badBodies,
		"foreign": l.foreign, "order_violations": l.orderViolations, "missing": l.missing(10), "missing_count": l.top + 1 - len(l.seen),
		"failed_calls": c.failedCalls, "first_ms": firstMillis, "delay_min_ms": c.minDelay.Milliseconds(),
		"delay_max_ms": c.maxDelay.Milliseconds(), "max_gap_ms": c.maxGap.Milliseconds(), "seconds": time.Since(c.events.start).Seconds()}
	switch {
	case l.badBodies > 0:
		return f, fmt.Errorf("%d bodies were not as they were sent", l.badBodies)
	case c.ordered && l.orderViolations > 0:
		return f, fmt.Errorf("%d messages came out of order", l.orderViolations)
	case c.expect >= 0 && len(l.seen) != c.expect:
		return f, fmt.Errorf("expected %d messages, received %d", c.expect, len(l.seen))
	case !inTime:
		return f, errors.New("still receiving when the time was up")
	}
	return f, nil
}
