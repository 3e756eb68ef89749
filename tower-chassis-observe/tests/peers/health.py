"""A client of grpc.health.v1 that shares no code with ours: grpcio, messages by hand.

Called with an address; prints what it sees, a line each.
"""

import sys

import grpc


def request(service):
    name = service.encode()
    return b"\x0a" + bytes([len(name)]) + name if name else b""


def status(message):
    return message[1] if message else 0


def main(address):
    channel = grpc.insecure_channel(address)
    grpc.channel_ready_future(channel).result(timeout=10)
    check = channel.unary_unary("/grpc.health.v1.Health/Check", request, status)
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch", request, status)
    listed = channel.unary_unary("/grpc.health.v1.Health/List", request, status)
    print("check", check("", timeout=5), flush=True)
    print("named", check("shop.Cart", timeout=5), flush=True)
    for method, service in ((check, "shop.None"), (listed, "")):
        try:
            print(method(service, timeout=5), flush=True)
        except grpc.RpcError as error:
            print("error", error.code().name, flush=True)
    try:
        for seen in watch("", timeout=30):
            print("watch", seen, flush=True)
    except grpc.RpcError as error:
        print("end", error.code().name, flush=True)


main(sys.argv[1])
