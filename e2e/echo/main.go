// Command echo is the backend and the client of DirectLB's end-to-end tests.
//
// As a server it tells, over HTTP, WebSocket, gRPC, TCP and UDP, which Pod
// answered and how the connection reached it. As `echo client ...` it sends load
// and counts honestly what failed.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

type options struct {
	http, https, grpc, tcp, udp string
	tlsCert, tlsKey             string
	proxyProtocol               bool
	exitOnTerm                  bool
	termDelay, drainTimeout     time.Duration
}

// text is a string flag whose default an environment variable may set.
func text(fs *flag.FlagSet, target *string, name, value, usage string) {
	env := "ECHO_" + envName(name)
	if v, ok := os.LookupEnv(env); ok {
		value = v
	}
	fs.StringVar(target, name, value, usage+" (also "+env+")")
}

func envName(flagName string) string {
	out := []byte(flagName)
	for i, c := range out {
		if c == '-' {
			out[i] = '_'
		} else if c >= 'a' && c <= 'z' {
			out[i] = c - 'a' + 'A'
		}
	}
	return string(out)
}

func parse(args []string) options {
	var o options
	fs := flag.NewFlagSet("echo", flag.ExitOnError)
	text(fs, &o.http, "http", ":8080", "HTTP/1.1 and h2c address, empty for none")
	text(fs, &o.https, "https", "", "HTTPS address, such as :8443")
	text(fs, &o.grpc, "grpc", ":9090", "gRPC address, empty for none")
	text(fs, &o.tcp, "tcp", ":9000", "TCP line echo address, empty for none")
	text(fs, &o.udp, "udp", ":9001", "UDP echo address, empty for none")
	text(fs, &o.tlsCert, "tls-cert", "", "certificate file; self-signed if absent")
	text(fs, &o.tlsKey, "tls-key", "", "key file of the certificate")
	on := os.Getenv("ECHO_PROXY_PROTOCOL") == "true"
	fs.BoolVar(&o.proxyProtocol, "proxy-protocol", on, "understand PROXY v1 and v2 headers on TCP, HTTP and HTTPS")
	fs.BoolVar(&o.exitOnTerm, "exit-on-term", os.Getenv("ECHO_EXIT_ON_TERM") == "true",
		"exit at once on SIGTERM, dropping what is under way")
	fs.DurationVar(&o.termDelay, "term-delay", 0, "keep accepting this long after SIGTERM")
	fs.DurationVar(&o.drainTimeout, "drain-timeout", 30*time.Second, "then let what is under way finish for this long")
	_ = fs.Parse(args)
	if fs.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "unexpected argument %q\n", fs.Arg(0))
		os.Exit(2)
	}
	return o
}

func main() {
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	if len(os.Args) > 1 && os.Args[1] == "client" {
		os.Exit(clientMain(os.Args[2:]))
	}
	o := parse(os.Args[1:])
	s := newServer(o)
	if err := s.listen(); err != nil {
		log.Fatal(err)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)
	<-term
	if o.exitOnTerm {
		log.Print("SIGTERM: exiting at once")
		return
	}
	log.Printf("SIGTERM: accepting for another %s", o.termDelay)
	time.Sleep(o.termDelay)
	ctx, cancel := context.WithTimeout(context.Background(), o.drainTimeout)
	defer cancel()
	s.drain(ctx)
	log.Print("drained")
}
