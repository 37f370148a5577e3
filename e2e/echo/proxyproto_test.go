package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func v2(command, family byte, body string) string {
	return string(proxyV2Signature) + string([]byte{command, family, byte(len(body) >> 8), byte(len(body))}) + body
}

func TestReadProxyHeader(t *testing.T) {
	v4 := "\xcb\x00\x71\x07" + "\x0a\x00\x00\x01" + "\x30\x39" + "\x00\x50"
	v6 := "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01" + strings.Repeat("\x00", 16) + "\x30\x39\x00\x50"
	tests := []struct {
		name, input, source, rest string
		fails                     bool
	}{
		{"v1 TCP4", "PROXY TCP4 203.0.113.7 10.0.0.1 12345 80\r\nGET /", "203.0.113.7:12345", "GET /", false},
		{"v1 TCP6", "PROXY TCP6 2001:db8::1 ::1 12345 80\r\nx", "[2001:db8::1]:12345", "x", false},
		{"v1 unknown", "PROXY UNKNOWN\r\nx", "", "x", false},
		{"v1 malformed", "PROXY TCP4 203.0.113.7\r\n", "", "", true},
		{"v1 no address", "PROXY TCP4 nobody 10.0.0.1 1 2\r\n", "", "", true},
		{"v1 too long", "PROXY " + strings.Repeat("x", 200) + "\r\n", "", "", true},
		{"v1 cut short", "PROXY TCP4 203", "", "", true},
		{"v2 TCP4", v2(0x21, 0x11, v4) + "x", "203.0.113.7:12345", "x", false},
		{"v2 TCP6", v2(0x21, 0x21, v6) + "x", "[2001:db8::1]:12345", "x", false},
		{"v2 with TLVs", v2(0x21, 0x11, v4+"\x04\x00\x01\x00") + "x", "203.0.113.7:12345", "x", false},
		{"v2 local", v2(0x20, 0x00, "") + "x", "", "x", false},
		{"v2 unix", v2(0x21, 0x31, strings.Repeat("x", 216)) + "y", "", "y", false},
		{"v2 wrong version", v2(0x11, 0x11, v4), "", "", true},
		{"v2 addresses cut short", v2(0x21, 0x11, "abc"), "", "", true},
		{"none", "GET / HTTP/1.1\r\n", "", "GET / HTTP/1.1\r\n", false},
		{"none, also with P", "POST / HTTP/1.1\r\n", "", "POST / HTTP/1.1\r\n", false},
		{"none, also with CR", "\r\n\r\nhello, hello", "", "\r\n\r\nhello, hello", false},
		{"none, short", "P\n", "", "P\n", false},
		{"nothing", "", "", "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := bufio.NewReader(strings.NewReader(test.input))
			source, err := readProxyHeader(r)
			if (err != nil) != test.fails || source != test.source {
				t.Fatalf("got %q, %v; want %q, failure %v", source, err, test.source, test.fails)
			}
			if rest, _ := io.ReadAll(r); !test.fails && string(rest) != test.rest {
				t.Errorf("left %q, want %q", rest, test.rest)
			}
		})
	}
}

// A client that waits for the server to speak first must be greeted all the same.
func TestProxyListenerWithoutHeader(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(options{})
	s.id.Pod = "pod-a"
	go func() { _ = s.serveTCP(&proxyListener{l}) }()
	defer l.Close()
	for header, want := range map[string]string{"": "-", "PROXY TCP4 203.0.113.7 10.0.0.1 5 6\r\n": "203.0.113.7:5"} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprint(c, header)
		r := bufio.NewReader(c)
		greeting, err := r.ReadString('\n')
		if words := strings.Fields(greeting); err != nil || len(words) != 4 || words[1] != "pod-a" || words[3] != want {
			t.Fatalf("greeting %q, %v; want source %s", greeting, err, want)
		}
		fmt.Fprint(c, "line\n")
		if line, err := r.ReadString('\n'); line != "line\n" {
			t.Errorf("echo %q, %v", line, err)
		}
	}
}
