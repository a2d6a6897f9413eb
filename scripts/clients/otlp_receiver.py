"""A collector for tests: takes spans by OTLP over gRPC and over HTTP on free ports, and prints what came.

The first line says where it listens: {"grpc": PORT, "http": PORT}. Then a line for each span, its times in nanoseconds,
its ids in hexadecimal, with the protocol that brought it, the headers of its batch and the resource it came from. With
--refuse N the first N batches of each protocol are turned away as a collector does that is overloaded. It ends when its
standard input does.
"""

import argparse
import gzip
import json
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

printing = threading.Lock()


def say(line):
    with printing:
        print(json.dumps(line), flush=True)


def plain(attributes):
    def value(any_value):
        kind = any_value.WhichOneof("value")
        return getattr(any_value, kind) if kind else None

    return {attribute.key: value(attribute.value) for attribute in attributes}


def tell(protocol, headers, request):
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                say(
                    {
                        "protocol": protocol,
                        "headers": headers,
                        "resource": plain(resource.resource.attributes),
                        "scope": scope.scope.name,
                        "trace": span.trace_id.hex(),
                        "span": span.span_id.hex(),
                        "parent": span.parent_span_id.hex(),
                        "flags": span.flags,
                        "name": span.name,
                        "kind": trace_pb2.Span.SpanKind.Name(span.kind),
                        "start": span.start_time_unix_nano,
                        "end": span.end_time_unix_nano,
                        "attributes": plain(span.attributes),
                        "status": trace_pb2.Status.StatusCode.Name(span.status.code),
                        "message": span.status.message,
                    }
                )


class Refusals:
    def __init__(self, number):
        self.left = number
        self.lock = threading.Lock()

    def next(self):
        with self.lock:
            self.left -= 1
            return self.left >= 0


class Traces(service_grpc.TraceServiceServicer):
    def __init__(self, refuse):
        self.refusals = Refusals(refuse)

    def Export(self, request, context):
        if self.refusals.next():
            context.abort(grpc.StatusCode.UNAVAILABLE, "overloaded")
        tell("grpc", dict(context.invocation_metadata()), request)
        return service.ExportTraceServiceResponse()


def http_handler(refuse):
    refusals = Refusals(refuse)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path != "/v1/traces":
                return self.answer(404, b"")
            if self.headers["content-type"] != "application/x-protobuf":
                return self.answer(415, b"")
            if refusals.next():
                return self.answer(503, b"", ("retry-after", "1"))
            if self.headers["content-encoding"] == "gzip":
                body = gzip.decompress(body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            tell("http", headers, service.ExportTraceServiceRequest.FromString(body))
            return self.answer(200, service.ExportTraceServiceResponse().SerializeToString())

        def answer(self, status, body, *headers):
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(body)))
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--refuse", type=int, default=0, help="batches of each protocol to turn away first")
    refuse = parser.parse_args().refuse
    server = grpc.server(futures.ThreadPoolExecutor(4))
    service_grpc.add_TraceServiceServicer_to_server(Traces(refuse), server)
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    web = ThreadingHTTPServer(("127.0.0.1", 0), http_handler(refuse))
    web.daemon_threads = True
    threading.Thread(target=web.serve_forever, daemon=True).start()
    say({"grpc": grpc_port, "http": web.server_address[1]})
    sys.stdin.read()
    web.shutdown()
    server.stop(grace=1).wait()


if __name__ == "__main__":
    main()
