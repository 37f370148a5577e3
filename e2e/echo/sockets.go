package main

import (
	"bufio"
	"fmt"
	"net"
	"time"
)

// serveTCP greets each connection with a line that tells who answers whom, and
// then sends every line back.
func (s *server) serveTCP(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		s.tcpOpen.Go(func() {
			defer c.Close()
			s.counts.tcp.Add(1)
			source := "-"
			if p, ok := c.(*proxyConn); ok && p.Source() != "" {
				source = p.Source()
			}
			if _, err := fmt.Fprintf(c, "hello %s %s %s\n", s.id.Pod, c.RemoteAddr(), source); err != nil {
				return
			}
			lines := bufio.NewReader(c)
			for {
				_ = c.SetReadDeadline(time.Now().Add(time.Hour))
				line, err := lines.ReadBytes('\n')
				if err != nil {
					return
				}
				if _, err := c.Write(line); err != nil {
					return
				}
			}
		})
	}
}

// serveUDP answers each datagram with the Pod's name before its payload.
func (s *server) serveUDP(p net.PacketConn) error {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := p.ReadFrom(buffer)
		if err != nil {
			return err
		}
		s.counts.udp.Add(1)
		_, _ = p.WriteTo(append([]byte(s.id.Pod+" "), buffer[:n]...), from)
	}
}
