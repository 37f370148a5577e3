package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// How long to wait for a PROXY header before taking the connection to have none:
// the client of a protocol in which the server speaks first sends nothing else.
const proxyHeaderWait = time.Second

var proxyV2Signature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// proxyListener accepts connections that may start with a PROXY header.
type proxyListener struct{ net.Listener }

func (l *proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &proxyConn{Conn: c, reader: bufio.NewReader(c)}, nil
}

// proxyConn reads the header, if there is one, before the first byte of payload.
// RemoteAddr stays that of the peer, which is the load balancer.
type proxyConn struct {
	net.Conn
	reader *bufio.Reader
	once   sync.Once
	source string
	err    error
}

func (c *proxyConn) parse() {
	c.once.Do(func() {
		_ = c.SetReadDeadline(time.Now().Add(proxyHeaderWait))
		c.source, c.err = readProxyHeader(c.reader)
		_ = c.SetReadDeadline(time.Time{})
	})
}

func (c *proxyConn) Read(b []byte) (int, error) {
	c.parse()
	if c.err != nil {
		return 0, c.err
	}
	return c.reader.Read(b)
}

// Source is the client's address that the header names; empty without a header.
func (c *proxyConn) Source() string {
	c.parse()
	return c.source
}

// readProxyHeader consumes a PROXY header of version 1 or 2 and returns its source
// address: empty if there is no header, or one that names no address.
func readProxyHeader(r *bufio.Reader) (string, error) {
	first, err := r.Peek(1)
	if err != nil {
		return "", ignoreAbsence(err)
	}
	switch first[0] {
	case 'P':
		if start, err := r.Peek(6); err != nil || string(start) != "PROXY " {
			return "", ignoreAbsence(err)
		}
		return readProxyV1(r)
	case proxyV2Signature[0]:
		if start, err := r.Peek(12); err != nil || !bytes.Equal(start, proxyV2Signature) {
			return "", ignoreAbsence(err)
		}
		return readProxyV2(r)
	}
	return "", nil
}

// ignoreAbsence keeps those errors that the payload's reader would not see itself.
func ignoreAbsence(err error) error {
	var timeout net.Error
	if err == nil || errors.Is(err, io.EOF) || errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	return err
}

func readProxyV1(r *bufio.Reader) (string, error) {
	line := make([]byte, 0, 107) // the longest that the specification allows
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		b, err := r.ReadByte()
		if err != nil {
			return "", fmt.Errorf("PROXY v1: %w", err)
		}
		if line = append(line, b); len(line) > 107 {
			return "", errors.New("PROXY v1: line too long")
		}
	}
	words := strings.Fields(string(line))
	if len(words) >= 2 && words[1] == "UNKNOWN" {
		return "", nil
	}
	if len(words) != 6 || words[1] != "TCP4" && words[1] != "TCP6" {
		return "", fmt.Errorf("PROXY v1: malformed %q", line)
	}
	source, err := netip.ParseAddrPort(net.JoinHostPort(words[2], words[4]))
	if err != nil {
		return "", fmt.Errorf("PROXY v1: %w", err)
	}
	return source.String(), nil
}

func readProxyV2(r *bufio.Reader) (string, error) {
	header := make([]byte, 16)
	if _, err := io.ReadFull(r, header); err != nil {
		return "", fmt.Errorf("PROXY v2: %w", err)
	}
	body := make([]byte, binary.BigEndian.Uint16(header[14:]))
	if _, err := io.ReadFull(r, body); err != nil {
		return "", fmt.Errorf("PROXY v2: %w", err)
	}
	if header[12]>>4 != 2 {
		return "", fmt.Errorf("PROXY v2: version %d", header[12]>>4)
	}
	if header[12]&0xf == 0 { // LOCAL: the load balancer's own, such as a health check
		return "", nil
	}
	var size int
	switch header[13] >> 4 {
	case 1:
		size = 4
	case 2:
		size = 16
	default:
		return "", nil
	}
	if len(body) < 2*size+4 {
		return "", errors.New("PROXY v2: addresses cut short")
	}
	address, _ := netip.AddrFromSlice(body[:size])
	return netip.AddrPortFrom(address, binary.BigEndian.Uint16(body[2*size:])).String(), nil
}
