"""A gRPC peer without generated code: messages are bytes.

Prints its port. `/peer.Peer/Echo` answers with the metadata that it was given, a line each. `/peer.Peer/Call` is given
an address, calls `/peer.Back/Hello` there with the trace and the baggage that it was given, within a span of its own,
and answers as Echo does. Ends when its input does.
"""

import sys
from concurrent import futures

import grpc

SPAN = "00f067aa0ba902b7"


def metadata_of(context):
    return [(name, value) for name, value in context.invocation_metadata()
            if isinstance(value, str)]


def within_our_span(metadata):
    """The same trace, and our span in place of the caller's."""
    passed = []
    for name, value in metadata:
        if name == "traceparent":
            version, trace, _, flags = value.split("-")
            passed.append((name, "-".join([version, trace, SPAN, flags])))
        elif name == "b3":
            trace, _, sampled = value.split("-")
            passed.append((name, "-".join([trace, SPAN, sampled])))
        elif name == "x-b3-spanid":
            passed.append((name, SPAN))
        elif name.startswith("x-b3-") or name in ("tracestate", "baggage"):
            passed.append((name, value))
    return passed


def told(metadata):
    return "".join(f"{name}: {value}\n" for name, value in metadata).encode()


def echo(_, context):
    return told(metadata_of(context))


def call(address, context):
    metadata = metadata_of(context)
    with grpc.insecure_channel(address.decode()) as channel:
        hello = channel.unary_unary("/peer.Back/Hello")
        hello(b"", metadata=within_our_span(metadata), timeout=10)
    return told(metadata)


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Call": grpc.unary_unary_rpc_method_handler(call),
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("peer.Peer", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None)


main()
