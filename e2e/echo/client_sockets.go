package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/websocket"
)

// newTCPSender makes each request a connection: its greeting, then lines to echo.
func newTCPSender(o clientOptions) (sender, error) {
	return func(ctx context.Context, _ int) outcome {
		c, err := (&net.Dialer{Timeout: o.timeout}).DialContext(ctx, "tcp", o.url)
		if err != nil {
			return outcome{err: err}
		}
		defer c.Close()
		if err := sendProxyHeader(c, o.proxyProtocol); err != nil {
			return outcome{err: err}
		}
		if o.useTLS {
			config := o.tlsConfig()
			if config.ServerName == "" {
				config.ServerName, _, _ = net.SplitHostPort(o.url)
			}
			c = tls.Client(c, config)
		}
		reader := bufio.NewReader(c)
		receive := func() (string, error) {
			_ = c.SetDeadline(time.Now().Add(o.timeout))
			line, err := reader.ReadString('\n')
			return strings.TrimSuffix(line, "\n"), err
		}
		greeting, err := receive()
		if err != nil {
			return outcome{err: fmt.Errorf("greeting: %w", err)}
		}
		words := strings.Fields(greeting)
		if len(words) != 4 || words[0] != "hello" {
			return outcome{err: errKind{"wrong answer", greeting}}
		}
		last := map[string]string{"pod": words[1], "remote": words[2], "proxy_protocol_source": words[3]}
		err = echoes(o, func(m string) error { _, err := fmt.Fprintln(c, m); return err }, receive)
		return outcome{pod: words[1], last: last, err: err}
	}, nil
}

// echoes sends messages one by one and wants each of them back.
func echoes(o clientOptions, send func(string) error, receive func() (string, error)) error {
	for i := range o.lines {
		if i > 0 {
			time.Sleep(o.interval)
		}
		message := fmt.Sprintf("message %d", i)
		if err := send(message); err != nil {
			return fmt.Errorf("message %d of %d: %w", i+1, o.lines, err)
		}
		answer, err := receive()
		if err != nil {
			return fmt.Errorf("message %d of %d: %w", i+1, o.lines, err)
		}
		if answer != message {
			return errKind{"wrong answer", answer}
		}
	}
	return nil
}

func newWebSocketSender(o clientOptions) (sender, error) {
	origin := "http" + strings.TrimPrefix(o.url, "ws")
	config, err := websocket.NewConfig(o.url, origin)
	if err != nil {
		return nil, err
	}
	for _, h := range o.headers {
		config.Header.Add(h[0], h[1])
	}
	address := config.Location.Host
	if config.Location.Port() == "" {
		address = net.JoinHostPort(config.Location.Hostname(), map[string]string{"ws": "80", "wss": "443"}[config.Location.Scheme])
	}
	secure := config.Location.Scheme == "wss"
	if o.host != "" {
		config.Location.Host = o.host
	}
	return func(ctx context.Context, _ int) outcome {
		c, err := (&net.Dialer{Timeout: o.timeout}).DialContext(ctx, "tcp", address)
		if err != nil {
			return outcome{err: err}
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(o.timeout))
		if secure {
			t := o.tlsConfig()
			if t.ServerName == "" {
				t.ServerName = config.Location.Hostname()
			}
			c = tls.Client(c, t)
		}
		ws, err := websocket.NewClient(config, c)
		if err != nil {
			return outcome{err: fmt.Errorf("handshake: %w", err)}
		}
		receive := func() (m string, err error) {
			_ = c.SetDeadline(time.Now().Add(o.timeout))
			err = websocket.Message.Receive(ws, &m)
			return m, err
		}
		pod, err := receive()
		if err == nil {
			err = echoes(o, func(m string) error { return websocket.Message.Send(ws, m) }, receive)
		}
		return outcome{pod: pod, err: err}
	}, nil
}

// newUDPSender sends each datagram from a socket, and so a port, of its own with
// --new-conn or --rate, or from one socket for each worker.
func newUDPSender(o clientOptions) (sender, error) {
	// A shared socket would make requests wait for a lost answer to an earlier one.
	o.newConn = o.newConn || o.rate > 0
	type socket struct{ conn net.Conn }
	sockets := make([]socket, o.concurrency)
	var serial atomic.Int64
	return func(ctx context.Context, worker int) outcome {
		s := &sockets[worker]
		if o.newConn {
			s = &socket{}
		}
		if s.conn == nil {
			c, err := net.Dial("udp", o.url)
			if err != nil {
				return outcome{err: err}
			}
			s.conn = c
		}
		if o.newConn {
			defer s.conn.Close()
		}
		deadline, _ := ctx.Deadline()
		_ = s.conn.SetDeadline(deadline)
		payload := fmt.Sprintf("datagram %d", serial.Add(1))
		if _, err := s.conn.Write([]byte(payload)); err != nil {
			return outcome{err: err}
		}
		buffer := make([]byte, 2048)
		for {
			n, err := s.conn.Read(buffer)
			if err != nil {
				return outcome{err: err}
			}
			// An answer that came after its request had failed is passed over.
			if pod, back := splitAnswer(string(buffer[:n])); back == payload {
				return outcome{pod: pod}
			}
		}
	}, nil
}
