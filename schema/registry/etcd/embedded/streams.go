package embedded

import (
	"context"

	"google.golang.org/grpc"
)

// streams are the watches of other processes, which a stop would else wait
// for, for seconds.
type streams struct {
	stopping context.Context
	end      context.CancelFunc
}

func newStreams() streams {
	ctx, cancel := context.WithCancel(context.Background())
	return streams{ctx, cancel}
}

// option has a server end its streams once end is called.
func (s streams) option() grpc.ServerOption {
	return grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		ctx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(s.stopping, cancel)()
		return handle(srv, endingStream{stream, ctx})
	})
}

type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s endingStream) Context() context.Context { return s.ctx }
