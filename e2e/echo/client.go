package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const clientUsage = `usage: echo client http|tcp|udp|ws|grpc [flags]

Sends requests and prints what became of them as JSON. Exits with 0 unless the
arguments are wrong: failures are for the caller to judge.

A request fails if it is not answered as it should be within --timeout: any HTTP
status but 2xx, a reset, an early end, a wrong echo. With --rate, requests start
on schedule whatever became of those before, and latency counts from the time at
which the request was due.`

type clientOptions struct {
	url, host, sni, service string
	headers                 headerFlag
	method, proxyProtocol   string
	n, concurrency, lines   int
	rate                    float64
	duration, timeout       time.Duration
	interval                time.Duration
	insecure, http2, newConn,
	cookieJar, useTLS, tolerateRetries,
	health, last bool
}

type headerFlag [][2]string

func (h *headerFlag) String() string { return fmt.Sprint(*h) }

func (h *headerFlag) Set(v string) error {
	for i := range v {
		if v[i] == ':' || v[i] == '=' {
			value := v[i+1:]
			for value != "" && value[0] == ' ' {
				value = value[1:]
			}
			*h = append(*h, [2]string{v[:i], value})
			return nil
		}
	}
	return fmt.Errorf("want NAME:VALUE, not %q", v)
}

func parseClient(kind string, args []string) (clientOptions, error) {
	var o clientOptions
	fs := flag.NewFlagSet("echo client "+kind, flag.ContinueOnError)
	fs.StringVar(&o.url, "url", "", "what to call: a URL for http and ws, HOST:PORT for the others")
	fs.StringVar(&o.url, "addr", "", "the same")
	fs.IntVar(&o.n, "n", 0, "number of requests; without --duration the default is 1")
	fs.IntVar(&o.concurrency, "concurrency", 1, "requests at a time (closed loop)")
	fs.Float64Var(&o.rate, "rate", 0, "requests started per second (open loop)")
	fs.DurationVar(&o.duration, "duration", 0, "how long to start requests")
	fs.DurationVar(&o.timeout, "timeout", 5*time.Second, "when an unanswered request has failed")
	fs.BoolVar(&o.newConn, "new-conn", false, "a new connection for each request")
	fs.BoolVar(&o.insecure, "insecure", false, "accept any certificate")
	fs.StringVar(&o.sni, "sni", "", "TLS server name, if not the URL's host")
	fs.BoolVar(&o.last, "last", false, "include the last answer in the report")
	fs.Bool("json", true, "print JSON; there is no other format")
	switch kind {
	case "http":
		fs.StringVar(&o.method, "method", "GET", "HTTP method")
		fs.BoolVar(&o.http2, "http2", false, "HTTP/2: h2c for http, h2 for https")
		fs.BoolVar(&o.cookieJar, "cookie-jar", false, "keep cookies, one jar for each of --concurrency")
		fs.BoolVar(&o.tolerateRetries, "tolerate-retries", false,
			"do not count as failed what HTTP/1.1 had to send again because its connection was closed under it")
		fallthrough
	case "ws":
		fs.StringVar(&o.host, "host", "", "Host header, if not the URL's")
		fs.Var(&o.headers, "header", "NAME:VALUE, may be repeated")
	case "grpc":
		fs.BoolVar(&o.useTLS, "tls", false, "use TLS")
		fs.StringVar(&o.host, "host", "", ":authority, if not the address")
		fs.BoolVar(&o.health, "health", false, "call the health service rather than Echo")
		fs.StringVar(&o.service, "service", "", "whose health to ask for")
	case "tcp":
		fs.BoolVar(&o.useTLS, "tls", false, "use TLS")
	}
	if kind == "http" || kind == "tcp" {
		fs.StringVar(&o.proxyProtocol, "proxy-protocol", "", "start each connection with this PROXY v1 header's source IP:PORT")
	}
	if kind == "tcp" || kind == "ws" {
		fs.IntVar(&o.lines, "lines", 1, "messages to echo on each connection, which is one request")
		fs.DurationVar(&o.interval, "interval", 0, "pause between the messages of a connection")
	}
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if o.url == "" || fs.NArg() > 0 {
		return o, fmt.Errorf("want --url or --addr and no arguments without a flag")
	}
	if o.n == 0 && o.duration == 0 {
		o.n = 1
	}
	if o.concurrency < 1 {
		return o, fmt.Errorf("--concurrency must be at least 1")
	}
	return o, nil
}

func (o *clientOptions) tlsConfig() *tls.Config {
	return &tls.Config{InsecureSkipVerify: o.insecure, ServerName: o.sni, MinVersion: tls.VersionTLS12}
}

// sender sends one request; worker tells which of the concurrent loops asks.
type sender func(ctx context.Context, worker int) outcome

var senders = map[string]func(clientOptions) (sender, error){
	"http": newHTTPSender, "tcp": newTCPSender, "udp": newUDPSender, "ws": newWebSocketSender, "grpc": newGRPCSender,
}

func clientMain(args []string) int {
	if len(args) == 0 || senders[args[0]] == nil {
		fmt.Fprintln(os.Stderr, clientUsage)
		return 2
	}
	o, err := parseClient(args[0], args[1:])
	if err == nil {
		var send sender
		if send, err = senders[args[0]](o); err == nil {
			stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer cancel()
			r := drive(stop, o, send)
			if !o.last {
				r.LastResponse = nil
			}
			out := json.NewEncoder(os.Stdout)
			out.SetIndent("", "  ")
			_ = out.Encode(r)
			return 0
		}
	}
	if err != flag.ErrHelp {
		fmt.Fprintln(os.Stderr, "echo client:", err)
	}
	return 2
}

// drive starts requests until there were enough, the time is over, or it is told to
// stop; then it waits for those under way and reports.
func drive(stop context.Context, o clientOptions, send sender) report {
	t := newTally()
	if o.duration > 0 {
		var cancel context.CancelFunc
		stop, cancel = context.WithTimeout(stop, o.duration)
		defer cancel()
	}
	// A stopped run lets requests under way finish: cutting them would look like failures.
	one := func(worker int, due time.Time) {
		limit := o.timeout
		if o.lines > 1 {
			limit = 0 // the sender limits each message instead
		}
		ctx, cancel := context.Background(), context.CancelFunc(func() {})
		if limit > 0 {
			ctx, cancel = context.WithTimeout(ctx, limit)
		}
		defer cancel()
		result := send(ctx, worker)
		t.add(result, time.Since(due))
	}
	if o.rate > 0 {
		openLoop(stop, o, one)
	} else {
		closedLoop(stop, o, one)
	}
	return t.report()
}

func openLoop(stop context.Context, o clientOptions, one func(int, time.Time)) {
	var underWay sync.WaitGroup
	defer underWay.Wait()
	start := time.Now()
	for i := 0; o.n == 0 || i < o.n; i++ {
		due := start.Add(time.Duration(float64(i) / o.rate * float64(time.Second)))
		select {
		case <-stop.Done():
			return
		case <-time.After(time.Until(due)):
			if stop.Err() != nil {
				return
			}
		}
		underWay.Go(func() { one(i%o.concurrency, due) })
	}
}

func closedLoop(stop context.Context, o clientOptions, one func(int, time.Time)) {
	tickets := make(chan struct{})
	var workers sync.WaitGroup
	for w := range o.concurrency {
		workers.Go(func() {
			for range tickets {
				one(w, time.Now())
			}
		})
	}
	for i := 0; o.n == 0 || i < o.n; i++ {
		select {
		case tickets <- struct{}{}:
			continue
		case <-stop.Done():
		}
		break
	}
	close(tickets)
	workers.Wait()
}
