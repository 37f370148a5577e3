package main

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The one service besides health. Its messages are well-known types, so nothing
// needs to be generated: a string goes in, "<pod> <string>" comes out.
const (
	echoService = "directlb.echo.v1.Echo"
	echoMethod  = "/" + echoService + "/Echo"
)

func (s *server) newGRPC() *grpc.Server {
	g := grpc.NewServer()
	s.health.SetServingStatus(echoService, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(g, s.health)
	g.RegisterService(&grpc.ServiceDesc{
		ServiceName: echoService,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Echo", Handler: handleEcho}},
	}, s)
	return g
}

func handleEcho(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.StringValue)
	if err := decode(in); err != nil {
		return nil, err
	}
	s := srv.(*server)
	s.counts.grpc.Add(1)
	return wrapperspb.String(s.id.Pod + " " + in.GetValue()), nil
}

// splitAnswer undoes "<pod> <payload>", as gRPC and UDP answer.
func splitAnswer(answer string) (pod, payload string) {
	pod, payload, _ = strings.Cut(answer, " ")
	return pod, payload
}
