package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

type latencies struct {
	sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.Lock()
	defer l.Unlock()
	l.all = append(l.all, d)
}

// percentile is in milliseconds with two decimals; 0 when there is nothing.
func (l *latencies) percentile(percent float64) float64 {
	l.Lock()
	defer l.Unlock()
	if len(l.all) == 0 {
		return 0
	}
	slices.Sort(l.all)
	return millis(l.all[max(int(math.Ceil(percent/100*float64(len(l.all))))-1, 0)])
}

func millis(d time.Duration) float64 { return math.Round(float64(d.Microseconds())/10) / 100 }

// producer sends one kind of message.
type producer struct {
	rmq.Producer
	topic, kind string
	delay       time.Duration
	timeout     time.Duration // of one send with all the client's own tries
}

func openProducer(o options, kind string, delayMillis, clientAttempts int, check func(*rmq.MessageView) rmq.TransactionResolution) (*producer, error) {
	p, err := rmq.NewProducer(o.config(), rmq.WithClientFunc(o.newClient), rmq.WithTopics(*o.topic),
		rmq.WithMaxAttempts(int32(clientAttempts)), rmq.WithTransactionChecker(&rmq.TransactionChecker{Check: check}))
	if err != nil {
		return nil, err
	}
	if err := p.Start(); err != nil {
		return nil, err
	}
	return &producer{p, *o.topic, kind, time.Duration(delayMillis) * time.Millisecond, o.timeout() * time.Duration(clientAttempts)}, nil
}

// send returns the message id once the broker has acknowledged. An error means that the outcome is unknown.
func (p *producer) send(bytes []byte, group, key string, fate rmq.TransactionResolution) (string, error) {
	message := &rmq.Message{Topic: p.topic, Body: bytes}
	message.SetKeys(key)
	switch p.kind {
	case "fifo", "ordered":
		message.SetMessageGroup(group)
	case "delay":
		message.SetDelayTimestamp(time.Now().Add(p.delay))
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.timeout)
	defer cancel()
	if p.kind != "transaction" {
		return receiptID(p.Send(ctx, message))
	}
	transaction := p.BeginTransaction()
	id, err := receiptID(p.SendWithTransaction(ctx, message, transaction))
	if err == nil && fate == rmq.COMMIT {
		err = transaction.Commit()
	} else if err == nil && fate == rmq.ROLLBACK {
		err = transaction.RollBack()
	}
	return id, err
}

func receiptID(receipts []*rmq.SendReceipt, err error) (string, error) {
	if err != nil {
		return "", err
	}
	if len(receipts) != 1 {
		return "", fmt.Errorf("%d receipts for one message", len(receipts))
	}
	return receipts[0].MessageID, nil
}
