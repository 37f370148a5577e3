package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

func newHTTPSender(o clientOptions) (sender, error) {
	if _, err := http.NewRequest(o.method, o.url, nil); err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: o.timeout}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return c, sendProxyHeader(c, o.proxyProtocol)
		},
		TLSClientConfig: o.tlsConfig(), DisableKeepAlives: o.newConn, DisableCompression: true,
		MaxIdleConnsPerHost: max(o.concurrency, 512), IdleConnTimeout: time.Minute, Protocols: new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(!o.http2)
	transport.Protocols.SetHTTP2(o.http2)
	transport.Protocols.SetUnencryptedHTTP2(o.http2)
	clients := make([]*http.Client, o.concurrency)
	for i := range clients {
		clients[i] = &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		if o.cookieJar {
			clients[i].Jar, _ = cookiejar.New(nil)
		}
	}
	return func(ctx context.Context, worker int) outcome { return httpRequest(ctx, clients[worker], o) }, nil
}

func httpRequest(ctx context.Context, client *http.Client, o clientOptions) outcome {
	// Go's client silently sends a request again when a kept-alive connection was
	// closed under it. Other clients report that to their users, so it is counted.
	var sent atomic.Int32
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { sent.Add(1) },
	})
	request, err := http.NewRequestWithContext(ctx, o.method, o.url, nil)
	if err != nil {
		return outcome{err: err}
	}
	for _, h := range o.headers {
		request.Header.Add(h[0], h[1])
	}
	request.Host = o.host
	response, err := client.Do(request)
	result := outcome{retries: max(int(sent.Load())-1, 0), err: err}
	if err != nil {
		return result
	}
	defer response.Body.Close()
	result.status, result.pod = response.StatusCode, response.Header.Get("X-Pod")
	// The answer has come only when its last byte has.
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		result.err = fmt.Errorf("body: %w", err)
	case result.status < 200 || result.status > 299:
		result.err = errKind{fmt.Sprintf("status %d", result.status), string(body[:min(len(body), 200)])}
	case result.retries > 0 && !o.http2 && !o.tolerateRetries:
		// HTTP/2 tells which requests it did not begin, so sending those again is safe.
		result.err = errKind{"sent again", "the connection was closed under the request"}
	}
	var parsed any
	if json.Unmarshal(body, &parsed) == nil {
		result.last = parsed
	} else {
		result.last = string(body[:min(len(body), 4096)])
	}
	return result
}

// sendProxyHeader starts a connection with a PROXY v1 header that names the source.
func sendProxyHeader(c net.Conn, source string) error {
	if source == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(source)
	if err != nil {
		return err
	}
	to, err := net.ResolveTCPAddr("tcp", c.RemoteAddr().String())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c, "PROXY TCP4 %s %s %s %d\r\n", host, to.IP, port, to.Port)
	return err
}
