"""A local HTTP server with ranges that can drop connections, answer with errors and omit headers."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """Files to serve, faults, and a log of requests.

    Attributes:
        files: content by name.
        drops: the number of bytes after which each answer ends, in order; None for a complete answer.
        statuses: the status of each answer instead of the file, in order; None for the file.
        ranges: whether Range is supported.
        validators: whether ETag is sent and If-Range compared with it.
        lengths: whether Content-Length is sent.
        requests: the name, Range and If-Range of each request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    drops: list[int | None] = field(default_factory=list)
    statuses: list[int | None] = field(default_factory=list)
    ranges: bool = True
    validators: bool = True
    lengths: bool = True
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    url: str = ""

    @property
    def asked_ranges(self) -> list[str | None]:
        return [asked for _, asked, _ in self.requests]


@contextlib.contextmanager
def serving() -> Iterator[FileServer]:
    """Serve at `FileServer.url` until the block ends."""
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, asked, condition = self.path.strip("/"), self.headers["Range"], self.headers["If-Range"]
            state.requests.append((name, asked, condition))
            status = state.statuses.pop(0) if state.statuses else None
            if status is not None or name not in state.files:
                self.send_error(status or 404)
                return
            content = state.files[name]
            etag = f'"{hashlib.md5(content).hexdigest()}"'
            start = 0
            if asked and state.ranges and (condition is None or condition == etag):
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            if state.validators:
                self.send_header("ETag", etag)
            if state.lengths:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = state.drops.pop(0) if state.drops else None
            with contextlib.suppress(ConnectionError):  # a client that refuses the headers closes
                self.wfile.write(content[start:] if end is None else content[start : start + end])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
