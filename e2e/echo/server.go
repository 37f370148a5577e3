package main

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
)

// identity is who answers.
type identity struct {
	Pod       string `json:"pod"`
	Node      string `json:"node"`
	Namespace string `json:"namespace"`
	PodIP     string `json:"pod_ip"`
}

func identityFromEnv() identity {
	id := identity{os.Getenv("POD_NAME"), os.Getenv("NODE_NAME"), os.Getenv("POD_NAMESPACE"), os.Getenv("POD_IP")}
	if id.Pod == "" {
		id.Pod, _ = os.Hostname()
	}
	return id
}

// counts are of what was served, health checks left out.
type counts struct {
	http, ws, grpc, tcp, udp atomic.Int64
}

type server struct {
	options
	id     identity
	counts counts

	mu      sync.Mutex
	failing map[string]bool // HTTP paths that answer 503

	httpServers []*http.Server
	grpcServer  *grpc.Server
	health      *health.Server
	tcpListener net.Listener
	tcpOpen     sync.WaitGroup
	udpSocket   net.PacketConn
}

func newServer(o options) *server {
	return &server{options: o, id: identityFromEnv(), failing: map[string]bool{}, health: health.NewServer()}
}

// listen opens every port before it serves any, so that a Pod that answers its
// probe answers everywhere.
func (s *server) listen() error {
	open := func(address string) (net.Listener, error) {
		l, err := net.Listen("tcp", address)
		if err == nil && s.proxyProtocol {
			l = &proxyListener{l}
		}
		return l, err
	}
	var serve []func() error
	if s.tcp != "" {
		l, err := open(s.tcp)
		if err != nil {
			return err
		}
		s.tcpListener = l
		serve = append(serve, func() error { return s.serveTCP(l) })
	}
	if s.udp != "" {
		p, err := net.ListenPacket("udp", s.udp)
		if err != nil {
			return err
		}
		s.udpSocket = p
		serve = append(serve, func() error { return s.serveUDP(p) })
	}
	if s.options.grpc != "" {
		l, err := net.Listen("tcp", s.options.grpc)
		if err != nil {
			return err
		}
		s.grpcServer = s.newGRPC()
		serve = append(serve, func() error { return s.grpcServer.Serve(l) })
	}
	if s.https != "" {
		l, err := open(s.https)
		if err != nil {
			return err
		}
		h := s.newHTTP()
		if h.TLSConfig, err = tlsConfig(s.tlsCert, s.tlsKey); err != nil {
			return err
		}
		serve = append(serve, func() error { return h.ServeTLS(l, "", "") })
	}
	if s.options.http != "" {
		l, err := open(s.http)
		if err != nil {
			return err
		}
		h := s.newHTTP()
		serve = append(serve, func() error { return h.Serve(l) })
	}
	for _, f := range serve {
		go func() {
			if err := f(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				log.Fatal(err)
			}
		}()
	}
	log.Printf("%s serves http=%s https=%s grpc=%s tcp=%s udp=%s", s.id.Pod, s.http, s.https, s.options.grpc, s.tcp, s.udp)
	return nil
}

// drain stops accepting and lets what is under way finish until the context ends.
func (s *server) drain(ctx context.Context) {
	var done sync.WaitGroup
	for _, h := range s.httpServers {
		done.Go(func() {
			if h.Shutdown(ctx) != nil {
				_ = h.Close()
			}
		})
	}
	if s.grpcServer != nil {
		stopped := make(chan struct{})
		go func() { s.grpcServer.GracefulStop(); close(stopped) }()
		done.Go(func() {
			select {
			case <-stopped:
			case <-ctx.Done():
				s.grpcServer.Stop()
			}
		})
	}
	if s.tcpListener != nil {
		_ = s.tcpListener.Close()
		closed := make(chan struct{})
		go func() { s.tcpOpen.Wait(); close(closed) }()
		done.Go(func() {
			select {
			case <-closed:
			case <-ctx.Done():
			}
		})
	}
	done.Wait()
	// UDP has no connections to wait for; it goes last.
	if s.udpSocket != nil {
		_ = s.udpSocket.Close()
	}
}
