// Command rmq-go drives the official Go client of RocketMQ from a command line: produce, consume, bench (gRPC only), and idle.
// One JSON object per line on standard output; everything else goes to standard error.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
	"go.uber.org/zap"
)

type fields map[string]any

// events writes one line each. t_ms counts from the start on a clock that never jumps; wall_ms is Unix time.
type events struct {
	sync.Mutex
	out     *os.File
	start   time.Time
	summary bool // printed
}

func (e *events) millis() int64 { return time.Since(e.start).Milliseconds() }

func (e *events) emit(event string, f fields) {
	e.Lock()
	defer e.Unlock()
	f["event"], f["t_ms"], f["wall_ms"] = event, e.millis(), time.Now().UnixMilli()
	line, err := json.Marshal(f)
	if err != nil {
		fmt.Fprintln(os.Stderr, "event:", err)
		return
	}
	fmt.Fprintf(e.out, "%s\n", line)
}

// finish prints the summary, which has the last word, and hands the error on.
func (e *events) finish(f fields, err error) error {
	e.summary = true
	f["ok"], f["reason"] = err == nil, ""
	if err != nil {
		f["reason"] = err.Error()
	}
	e.emit("summary", f)
	return err
}

// options are those that every command has.
type options struct {
	*flag.FlagSet
	protocol, endpoint, topic, group *string
	tls                              *bool
	timeoutMillis                    *int
}

func newOptions(verb string) options {
	f := flag.NewFlagSet(verb, flag.ContinueOnError)
	return options{
		FlagSet:       f,
		protocol:      f.String("protocol", "grpc", "grpc: the only one of this client"),
		endpoint:      f.String("endpoint", "", "HOST:PORT of the proxy"),
		topic:         f.String("topic", "", "topic"),
		group:         f.String("consumer-group", "", "consumer group"),
		tls:           f.Bool("tls", false, "talk TLS (any certificate is taken)"),
		timeoutMillis: f.Int("timeout-ms", 3000, "time-out of one request"),
	}
}

func (o options) read(args []string) error {
	if err := o.Parse(args); err != nil {
		return err
	}
	switch {
	case o.NArg() > 0:
		return fmt.Errorf("expected an option, found %q", o.Arg(0))
	case *o.protocol != "grpc":
		return errors.New("this client speaks grpc only")
	case *o.endpoint == "" || *o.topic == "":
		return errors.New("--endpoint and --topic are needed")
	}
	rmq.EnableSsl = *o.tls
	return nil
}

func (o options) timeout() time.Duration { return time.Duration(*o.timeoutMillis) * time.Millisecond }

// newClient is the client's own, less a log file in /tmp that has a line for every call.
func (o options) newClient(config *rmq.Config, more ...rmq.ClientOption) (rmq.Client, error) {
	return rmq.NewClient(config, append(more, rmq.WithQueryRouteTimeout(o.timeout()),
		rmq.WithConnOptions(rmq.WithZapLogger(zap.NewNop())))...)
}

func (o options) config() *rmq.Config {
	return &rmq.Config{Endpoint: *o.endpoint, ConsumerGroup: *o.group, Credentials: &credentials.SessionCredentials{}}
}

func main() {
	// The client logs to a file under the home directory, or to what os.Stdout is when the logger is made.
	out := os.Stdout
	os.Stdout = os.Stderr
	os.Setenv(rmq.ENABLE_CONSOLE_APPENDER, "true")
	if os.Getenv(rmq.CLIENT_LOG_LEVEL) == "" {
		os.Setenv(rmq.CLIENT_LOG_LEVEL, "error")
	}
	rmq.ResetLogger()
	stop := make(chan struct{})
	go func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		<-signals
		close(stop)
	}()
	e := &events{out: out, start: time.Now()}
	if err := dispatch(os.Args[1:], e, stop); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func dispatch(args []string, e *events, stop <-chan struct{}) error {
	verbs := map[string]func([]string, *events, <-chan struct{}) error{"produce": produce, "consume": consume, "bench": bench}
	if len(args) == 1 && args[0] == "idle" {
		<-stop // The main process of a pod that tests run commands in.
		return nil
	}
	if len(args) == 0 || verbs[args[0]] == nil {
		return errors.New("one of produce, consume, bench, idle is missing")
	}
	err := verbs[args[0]](args[1:], e, stop)
	if !e.summary {
		return e.finish(fields{}, err)
	}
	return err
}
