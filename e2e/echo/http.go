package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/websocket"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// answer is what an HTTP request is answered with.
type answer struct {
	identity
	Remote              string              `json:"remote"`
	Method              string              `json:"method"`
	Host                string              `json:"host"`
	Path                string              `json:"path"`
	Query               string              `json:"query"`
	Proto               string              `json:"proto"`
	TLS                 bool                `json:"tls"`
	SNI                 string              `json:"sni,omitempty"`
	Headers             map[string][]string `json:"headers"`
	BodyBytes           int64               `json:"body_bytes"`
	ProxyProtocolSource string              `json:"proxy_protocol_source"`
}

type connKey struct{}

func (s *server) newHTTP() *http.Server {
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/lbhealth"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	}
	mux.HandleFunc("/count", s.handleCount)
	mux.HandleFunc("POST /admin/fail", s.handleFail)
	mux.HandleFunc("/", s.counted(func(w http.ResponseWriter, r *http.Request) { s.respond(w, r) }))
	mux.HandleFunc("/sleep", s.counted(s.handleSleep))
	mux.HandleFunc("/stream", s.counted(s.handleStream))
	ws := websocket.Server{Handler: s.handleWebSocket} // no Handshake: any origin will do
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		s.counts.ws.Add(1)
		ws.ServeHTTP(w, r)
	})

	h := &http.Server{Handler: s.failable(mux), ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols)}
	h.Protocols.SetHTTP1(true)
	h.Protocols.SetHTTP2(true)
	h.Protocols.SetUnencryptedHTTP2(true)
	h.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if t, ok := c.(interface{ NetConn() net.Conn }); ok {
			c = t.NetConn()
		}
		return context.WithValue(ctx, connKey{}, c)
	}
	s.httpServers = append(s.httpServers, h)
	return h
}

func (s *server) counted(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.counts.http.Add(1)
		next(w, r)
	}
}

// failable answers 503 on the paths that a test made fail.
func (s *server) failable(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Pod", s.id.Pod)
		s.mu.Lock()
		fails := s.failing[r.URL.Path]
		s.mu.Unlock()
		if fails {
			http.Error(w, "made to fail", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *server) respond(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body)
	a := answer{
		identity: s.id, Remote: r.RemoteAddr, Method: r.Method, Host: r.Host, Path: r.URL.Path,
		Query: r.URL.RawQuery, Proto: r.Proto, Headers: r.Header, BodyBytes: n,
	}
	if r.TLS != nil {
		a.TLS, a.SNI = true, r.TLS.ServerName
	}
	if c, ok := r.Context().Value(connKey{}).(*proxyConn); ok {
		a.ProxyProtocolSource = c.Source()
	}
	writeJSON(w, a)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (s *server) handleCount(w http.ResponseWriter, _ *http.Request) {
	c := &s.counts
	writeJSON(w, map[string]any{
		"pod": s.id.Pod, "requests": c.http.Load(), "websockets": c.ws.Load(),
		"grpc": c.grpc.Load(), "tcp": c.tcp.Load(), "udp": c.udp.Load(),
	})
}

// handleFail makes an HTTP path, or a gRPC service's health, fail or work again.
func (s *server) handleFail(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	on, err := strconv.ParseBool(q.Get("on"))
	if err != nil || q.Has("path") == q.Has("service") {
		http.Error(w, "want on=true or on=false, and path=/... or service=...", http.StatusBadRequest)
		return
	}
	if q.Has("service") {
		status := healthpb.HealthCheckResponse_SERVING
		if on {
			status = healthpb.HealthCheckResponse_NOT_SERVING
		}
		s.health.SetServingStatus(q.Get("service"), status)
	} else {
		s.mu.Lock()
		s.failing[q.Get("path")] = on
		s.mu.Unlock()
	}
	fmt.Fprintln(w, "ok")
}

func (s *server) handleSleep(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.Atoi(r.URL.Query().Get("ms"))
	if err != nil {
		http.Error(w, "want ms=NUMBER", http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		s.respond(w, r)
	case <-r.Context().Done():
	}
}

// handleStream answers in many chunks: one line each interval_ms, for seconds.
func (s *server) handleStream(w http.ResponseWriter, r *http.Request) {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(r.URL.Query().Get(name)); err == nil && n > 0 {
			return n
		}
		return otherwise
	}
	interval := time.Duration(number("interval_ms", 100)) * time.Millisecond
	lines := int(time.Duration(number("seconds", 10)) * time.Second / interval)
	flush := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/plain")
	for i := range lines {
		if _, err := fmt.Fprintf(w, "%s %d of %d\n", s.id.Pod, i+1, lines); err != nil {
			return
		}
		_ = flush.Flush()
		select {
		case <-time.After(interval):
		case <-r.Context().Done():
			return
		}
	}
	fmt.Fprintln(w, "end")
}

func (s *server) handleWebSocket(c *websocket.Conn) {
	if websocket.Message.Send(c, s.id.Pod) != nil {
		return
	}
	for {
		var message string
		if websocket.Message.Receive(c, &message) != nil || websocket.Message.Send(c, message) != nil {
			return
		}
	}
}
