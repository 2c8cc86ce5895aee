package main

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

// bench sends as fast as --threads callers can for --seconds, after a warm-up that is not counted.
func bench(args []string, e *events, stop <-chan struct{}) error {
	o := newOptions("bench")
	kind := o.String("type", "normal", "normal, fifo or ordered")
	size := o.Int("size", 256, "bytes of a body")
	seconds := o.Int("seconds", 10, "how long to measure")
	warmup := o.Int("warmup", 3, "seconds before that")
	threads := o.Int("threads", 4, "callers side by side")
	if err := o.read(args); err != nil {
		return err
	}
	p, err := openProducer(o, *kind, 0, 3, func(*rmq.MessageView) rmq.TransactionResolution { return rmq.UNKNOWN })
	if err != nil {
		return err
	}
	defer p.GracefulStop()

	var lat latencies
	var counting, over atomic.Bool
	var failures atomic.Int64
	var callers sync.WaitGroup
	for i := range *threads {
		group := fmt.Sprintf("g%d", i)
		message := writeBody("bench", 0, group, *size)
		callers.Go(func() {
			for !over.Load() {
				begin := time.Now()
				if _, err := p.send(message, group, "bench", rmq.COMMIT); err != nil {
					if failures.Add(1) <= 10 {
						e.emit("failed", fields{"error": err.Error()})
					}
				} else if counting.Load() {
					lat.add(time.Since(begin))
				}
			}
		})
	}
	sleep(time.Duration(*warmup)*time.Second, stop)
	counting.Store(true)
	start := time.Now()
	sleep(time.Duration(*seconds)*time.Second, stop)
	counting.Store(false)
	elapsed := time.Since(start).Seconds()
	over.Store(true)
	callers.Wait()

	summary := fields{"messages": len(lat.all), "failed": failures.Load(), "threads": *threads, "size": *size, "seconds": elapsed,
		"per_second": math.Round(float64(len(lat.all)) / elapsed), "p50_ms": lat.percentile(50), "p99_ms": lat.percentile(99)}
	if failures.Load() > 0 {
		return e.finish(summary, fmt.Errorf("%d sends failed", failures.Load()))
	}
	if len(lat.all) == 0 {
		return e.finish(summary, errors.New("nothing was sent"))
	}
	return e.finish(summary, nil)
}
