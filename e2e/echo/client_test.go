package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func drivenBy(t *testing.T, kind string, args ...string) report {
	t.Helper()
	o, err := parseClient(kind, args)
	if err != nil {
		t.Fatal(err)
	}
	send, err := senders[kind](o)
	if err != nil {
		t.Fatal(err)
	}
	return drive(t.Context(), o, send)
}

func startEcho(t *testing.T) (*server, *httptest.Server) {
	s := newServer(options{})
	s.id.Pod = "pod-a"
	h := httptest.NewUnstartedServer(nil)
	h.Config = s.newHTTP()
	h.Start()
	t.Cleanup(h.Close)
	return s, h
}

func TestHTTPCounts(t *testing.T) {
	s, h := startEcho(t)
	for _, extra := range [][]string{{}, {"--new-conn"}, {"--http2"}, {"--cookie-jar"}} {
		r := drivenBy(t, "http", append([]string{"--url", h.URL, "--n", "50", "--concurrency", "5"}, extra...)...)
		if r.Requests != 50 || r.Failures != 0 || r.ByPod["pod-a"] != 50 || r.Statuses[200] != 50 || r.Retries != 0 {
			t.Errorf("%v: %+v", extra, r)
		}
	}
	if n := s.counts.http.Load(); n != 200 {
		t.Errorf("server counted %d", n)
	}
}

func TestHTTPStatusIsFailure(t *testing.T) {
	_, h := startEcho(t)
	if _, err := http.Post(h.URL+"/admin/fail?path=/bad&on=true", "", nil); err != nil {
		t.Fatal(err)
	}
	r := drivenBy(t, "http", "--url", h.URL+"/bad", "--n", "3")
	if r.Requests != 3 || r.Failures != 3 || r.Errors["status 503"] != 3 || len(r.FirstErrors) != 3 || len(r.ByPod) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestHTTPTimeoutAndRefusalAreFailures(t *testing.T) {
	_, h := startEcho(t)
	r := drivenBy(t, "http", "--url", h.URL+"/sleep?ms=2000", "--timeout", "100ms")
	if r.Failures != 1 || r.Errors["timeout"] != 1 {
		t.Errorf("%+v", r)
	}
	h.Close()
	r = drivenBy(t, "http", "--url", h.URL, "--n", "2")
	if r.Failures != 2 || r.Errors["refused"] != 2 {
		t.Errorf("%+v", r)
	}
}

// A body that ends early, or a connection that is reset in mid-answer, has failed
// although its status was 200.
func TestHTTPTruncatedBodyIsFailure(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(c))
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
			c.Close()
		}
	}()
	r := drivenBy(t, "http", "--url", "http://"+l.Addr().String())
	if r.Failures != 1 || r.Errors["closed"] != 1 {
		t.Errorf("%+v", r)
	}
}

// Go's client would hide that a kept-alive connection was closed under a request.
func TestHTTPSilentRetryIsFailure(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var connections atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			first := connections.Add(1) == 1
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for i := 0; ; i++ {
					request, err := http.ReadRequest(r)
					if err != nil || first && i == 1 {
						return // with a request read and not answered
					}
					_, _ = io.Copy(io.Discard, request.Body)
					fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}()
		}
	}()
	r := drivenBy(t, "http", "--url", "http://"+l.Addr().String(), "--n", "3")
	if r.Requests != 3 || r.Failures != 1 || r.Retries != 1 || r.Errors["sent again"] != 1 {
		t.Errorf("%+v", r)
	}
}

// The schedule is kept although every answer takes longer than the interval.
func TestOpenLoop(t *testing.T) {
	_, h := startEcho(t)
	r := drivenBy(t, "http", "--url", h.URL+"/sleep?ms=300", "--rate", "100", "--duration", "500ms")
	if r.Requests < 45 || r.Requests > 51 || r.Failures != 0 || r.Duration > 2 || r.P50 < 300 {
		t.Errorf("%+v", r)
	}
}

func TestSockets(t *testing.T) {
	s, h := startEcho(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rpc := s.newGRPC()
	go func() { _ = s.serveTCP(l) }()
	go func() { _ = s.serveUDP(p) }()
	go func() { _ = rpc.Serve(g) }()
	t.Cleanup(func() { l.Close(); p.Close(); rpc.Stop() })
	for _, test := range [][]string{
		{"tcp", "--addr", l.Addr().String(), "--lines", "3"},
		{"udp", "--addr", p.LocalAddr().String()},
		{"udp", "--addr", p.LocalAddr().String(), "--new-conn"},
		{"grpc", "--addr", g.Addr().String()},
		{"grpc", "--addr", g.Addr().String(), "--new-conn"},
		{"ws", "--url", "ws" + h.URL[4:] + "/ws", "--lines", "3"},
	} {
		r := drivenBy(t, test[0], append(test[1:], "--n", "20", "--concurrency", "4")...)
		if r.Requests != 20 || r.Failures != 0 || r.ByPod["pod-a"] != 20 {
			t.Errorf("%v: %+v", test, r)
		}
	}
	s.health.SetServingStatus(echoService, 2)
	r := drivenBy(t, "grpc", "--addr", g.Addr().String(), "--health", "--service", echoService)
	if r.Failures != 1 || r.Errors["NOT_SERVING"] != 1 {
		t.Errorf("%+v", r)
	}
}

func TestTally(t *testing.T) {
	if p := percentile(nil, 99); p != 0 {
		t.Errorf("percentile of none: %s", p)
	}
	var values []time.Duration
	for i := 1; i <= 100; i++ {
		values = append(values, time.Duration(i))
	}
	for p, want := range map[int]time.Duration{50: 50, 99: 99, 100: 100} {
		if got := percentile(values, p); got != want {
			t.Errorf("p%d: %d, want %d", p, got, want)
		}
	}
	for want, err := range map[string]error{
		"timeout": context.DeadlineExceeded, "reset": fmt.Errorf("read: %w", syscall.ECONNRESET),
		"refused": syscall.ECONNREFUSED, "closed": io.ErrUnexpectedEOF, "status 503": errKind{"status 503", "x"},
		"other": errors.New("what"),
	} {
		if got := kindOf(err); got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
	}
}
