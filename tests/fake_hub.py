# SPDX-License-Identifier: LGPL-2.1-or-later
# fake_hub.py — a model hub on this machine, for tests: the API, and a second host that has the
# files. It can be told to break, to forget ranges, to lie and to refuse.
import hashlib
import http.server
import json
import re
import threading
import urllib.parse

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


class Hub:
    """Files by name; `log` has (host, method, path, headers) of every request, in order."""

    def __init__(self, files):
        self.files = dict(files)
        self.log = []
        self.commit = COMMIT
        self.token = None        # asked for by the hub when set
        self.status = {}         # path beginning -> status to answer with, of either host
        self.break_after = []    # bytes after which the next transfers end early
        self.hold = None         # (bytes, event set when they are out, event to go on)
        self.ranges = True
        self.wrong_by = 0        # bytes that an answer begins too early
        self.etag = '"one"'
        self.corrupt = 0         # so many transfers have a wrong byte
        self.linked = {}         # name -> another checksum in X-Linked-Etag
        self.listing = None      # bytes in place of the list
        self.sizes = {}          # name -> another size in the list
        self.extra = []          # entries added to the list
        self.page = 1000         # entries of a page
        self.small = set()       # names that are not in LFS
        self.direct = False      # the hub serves the files itself
        self.hub = Server(self, "hub")
        self.cdn = Server(self, "cdn")

    def close(self):
        for server in (self.hub, self.cdn):
            server.shutdown()
            server.server_close()

    def oid(self, name):
        data = self.files[name]
        if name in self.small:
            return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return hashlib.sha256(data).hexdigest()

    def entries(self):
        out = [{"type": "directory", "path": "somewhere", "oid": "0" * 40, "size": 0}]
        for name, data in self.files.items():
            size = self.sizes.get(name, len(data))
            entry = {"type": "file", "path": name, "size": size, "oid": self.oid(name)}
            if name not in self.small:
                entry["oid"] = "1" * 40
                entry["lfs"] = {"oid": self.oid(name), "size": size, "pointerSize": 134}
            out.append(entry)
        return out + self.extra

    def requests(self, host=None, method=None, part=""):
        return [r for r in self.log if host in (None, r[0]) and method in (None, r[1])
                and part in r[2]]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub, host):
        super().__init__(("127.0.0.1", 0), Handler)
        self.state, self.host = hub, host
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # clients that go away are part of the tests


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub, host = self.server.state, self.server.host
        hub.log.append((host, self.command, self.path, dict(self.headers)))
        for start, status in hub.status.items():
            if self.path.startswith(start):
                self.answer(status, b"no\x1b[2J")
                return
        url = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(url.path)
        if host == "cdn":
            self.content(path[1:])
            return
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self.answer(401)
        elif path == "/api/models/org/repo/tree/main":
            self.list(int(urllib.parse.parse_qs(url.query).get("cursor", ["0"])[0]))
        elif path.startswith("/org/repo/resolve/main/") and path[23:] in hub.files:
            self.resolve(path[23:])
        elif path.startswith("/org/old/") or path.startswith("/api/models/org/old/"):
            self.answer(307, Location=self.path.replace("/old/", "/repo/"))  # it was renamed
        else:
            self.answer(404)

    def list(self, start):
        hub = self.server.state
        entries = hub.entries()
        headers = {}
        if start + hub.page < len(entries):
            more = f"{hub.hub.url}/api/models/org/repo/tree/main?cursor={start + hub.page}"
            headers["Link"] = f'<{more}>; rel="next"'
        body = json.dumps(entries[start:start + hub.page]).encode()
        self.answer(200, body if hub.listing is None else hub.listing, **headers)

    def resolve(self, name):
        hub = self.server.state
        headers = {"X_Repo_Commit": hub.commit}
        if name not in hub.small:
            headers["X_Linked_Etag"] = f'"{hub.linked.get(name, hub.oid(name))}"'
            headers["X_Linked_Size"] = str(len(hub.files[name]))
        if hub.direct:
            self.content(name, **headers)
            return
        self.answer(302, Location=f"{hub.cdn.url}/{urllib.parse.quote(name)}?signature=secret",
                    **headers)

    def content(self, name, **headers):
        hub = self.server.state
        data = hub.files[name]
        if hub.corrupt and self.command == "GET":
            hub.corrupt -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        begin = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and hub.ranges and self.headers.get("If-Range", hub.etag) == hub.etag:
            begin = int(asked[1]) - hub.wrong_by
        if begin >= len(data):
            self.answer(416)
            return
        self.send_response(206 if begin else 200)
        for key, value in dict(headers, ETag=hub.etag).items():
            self.send_header(key.replace("_", "-"), value)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        if self.command == "HEAD":
            return
        data = data[begin:]
        if hub.break_after:
            self.wfile.write(data[:hub.break_after.pop(0)])
            self.close_connection = True
            return
        if hub.hold:
            count, out, go_on = hub.hold
            hub.hold = None
            self.wfile.write(data[:count])
            self.wfile.flush()
            data = data[count:]
            out.set()
            go_on.wait()
        self.wfile.write(data)
