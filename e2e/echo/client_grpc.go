package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// newGRPCSender calls Echo, or the health service, over one connection for each
// worker, or a new one for each request.
func newGRPCSender(o clientOptions) (sender, error) {
	security := insecure.NewCredentials()
	if o.useTLS {
		security = credentials.NewTLS(o.tlsConfig())
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(security), grpc.WithDisableRetry()}
	if o.host != "" {
		options = append(options, grpc.WithAuthority(o.host))
	}
	dial := func() (*grpc.ClientConn, error) { return grpc.NewClient("passthrough:///"+o.url, options...) }
	shared := make([]*grpc.ClientConn, o.concurrency)
	for i := range shared {
		var err error
		if shared[i], err = dial(); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, worker int) outcome {
		c := shared[worker]
		if o.newConn {
			var err error
			if c, err = dial(); err != nil {
				return outcome{err: err}
			}
			defer c.Close()
		}
		if o.health {
			answer, err := healthpb.NewHealthClient(c).Check(ctx, &healthpb.HealthCheckRequest{Service: o.service})
			if err == nil && answer.Status != healthpb.HealthCheckResponse_SERVING {
				err = errKind{answer.Status.String(), ""}
			}
			return outcome{last: answer.GetStatus().String(), err: grpcError(err)}
		}
		answer := new(wrapperspb.StringValue)
		err := c.Invoke(ctx, echoMethod, wrapperspb.String("ping"), answer)
		pod, payload := splitAnswer(answer.GetValue())
		if err == nil && payload != "ping" {
			err = errKind{"wrong answer", answer.GetValue()}
		}
		return outcome{pod: pod, last: answer.GetValue(), err: grpcError(err)}
	}, nil
}

// grpcError counts a failed call by its status code.
func grpcError(err error) error {
	if s, ok := status.FromError(err); ok && err != nil {
		return errKind{fmt.Sprintf("grpc %s", s.Code()), s.Message()}
	}
	return err
}
