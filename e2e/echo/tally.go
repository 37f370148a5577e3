package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tally counts what became of requests. A request is counted once, when it ended.
type tally struct {
	mu          sync.Mutex
	started     time.Time
	requests    int
	failures    int
	retries     int
	byPod       map[string]int
	statuses    map[int]int
	errors      map[string]int
	firstErrors []string
	latencies   []time.Duration // of those that succeeded
	lastSuccess time.Time
	maxGap      time.Duration
	last        any
}

// outcome is one request's result.
type outcome struct {
	pod     string
	status  int
	retries int // sent again by the protocol's own rules, without the caller's knowledge
	last    any // the answer itself, kept of the last request only
	err     error
}

func newTally() *tally {
	now := time.Now()
	return &tally{started: now, lastSuccess: now, byPod: map[string]int{}, statuses: map[int]int{}, errors: map[string]int{}}
}

func (t *tally) add(o outcome, latency time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.requests++
	t.retries += o.retries
	if o.status != 0 {
		t.statuses[o.status]++
	}
	if o.err != nil {
		t.failures++
		t.errors[kindOf(o.err)]++
		if len(t.firstErrors) < 10 {
			t.firstErrors = append(t.firstErrors, now.UTC().Format("15:04:05.000")+" "+o.pod+" "+o.err.Error())
		}
		return
	}
	t.byPod[o.pod]++
	t.latencies = append(t.latencies, latency)
	t.maxGap = max(t.maxGap, now.Sub(t.lastSuccess))
	t.lastSuccess = now
	if o.last != nil {
		t.last = o.last
	}
}

// report is what the client prints.
type report struct {
	Requests     int            `json:"requests"`
	Failures     int            `json:"failures"`
	Retries      int            `json:"retries"`
	ByPod        map[string]int `json:"by_pod"`
	Statuses     map[int]int    `json:"statuses,omitempty"`
	Errors       map[string]int `json:"errors"`
	FirstErrors  []string       `json:"first_errors"`
	P50          float64        `json:"p50_ms"`
	P90          float64        `json:"p90_ms"`
	P99          float64        `json:"p99_ms"`
	Max          float64        `json:"max_ms"`
	MaxGap       float64        `json:"max_gap_ms"` // longest time without a success
	Duration     float64        `json:"duration_s"`
	Rate         float64        `json:"requests_per_s"`
	LastResponse any            `json:"last_response,omitempty"`
}

func (t *tally) report() report {
	t.mu.Lock()
	defer t.mu.Unlock()
	sort.Slice(t.latencies, func(i, j int) bool { return t.latencies[i] < t.latencies[j] })
	elapsed := time.Since(t.started)
	// Failures up to the very end are an outage too.
	gap := max(t.maxGap, time.Since(t.lastSuccess))
	if t.failures == 0 {
		gap = t.maxGap
	}
	first := t.firstErrors
	if first == nil {
		first = []string{}
	}
	return report{
		Requests: t.requests, Failures: t.failures, Retries: t.retries, ByPod: t.byPod, Statuses: t.statuses,
		Errors: t.errors, FirstErrors: first,
		P50: ms(percentile(t.latencies, 50)), P90: ms(percentile(t.latencies, 90)), P99: ms(percentile(t.latencies, 99)),
		Max: ms(percentile(t.latencies, 100)), MaxGap: ms(gap), Duration: elapsed.Seconds(),
		Rate: float64(t.requests) / elapsed.Seconds(), LastResponse: t.last,
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// percentile is by nearest rank, of sorted values; 0 of none.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(rank, 1)-1]
}

// errKind is an error that knows what to be counted as.
type errKind struct{ kind, detail string }

func (e errKind) Error() string {
	if e.detail == "" {
		return e.kind
	}
	return e.kind + ": " + e.detail
}

// kindOf sorts errors into a few kinds, so that they can be counted.
func kindOf(err error) string {
	var kind errKind
	var timeout net.Error
	var dns *net.DNSError
	switch {
	case errors.As(err, &kind):
		return kind.kind
	case errors.As(err, &dns):
		return "dns"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), strings.Contains(err.Error(), "connection reset"):
		return "reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), strings.HasSuffix(err.Error(), "EOF"):
		return "closed"
	case strings.Contains(err.Error(), "tls:"), strings.Contains(err.Error(), "x509:"):
		return "tls"
	}
	return "other"
}
