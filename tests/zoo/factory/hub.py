"""A stand-in of the Hub: the HTTP interface that an upload of a data set uses, over a local socket.

Repositories, files and the requests are kept in memory. Weights go as LFS where the client asks for it.
"""

import base64
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What the server knows."""

    def __init__(self, *, lfs=False, refuses=False):
        self.lfs, self.refuses = lfs, refuses
        self.repos, self.files, self.objects = {}, {}, {}
        self.tokens, self.requests = set(), []

    def answer(self, method, path, headers, body):
        """Status and JSON for a request."""
        self.tokens.add(headers.get("Authorization"))
        self.requests.append((method, path))
        if self.refuses:
            return 403, {"error": "You have no right to write here"}
        if method == "PUT":
            self.objects[path.rsplit("/", 1)[1]] = body
            return 200, {}
        return self.answer_json(path, headers, body)

    def answer_json(self, path, headers, body):
        if path.startswith("/api/repos/create"):
            return self.create(json.loads(body), headers["Host"])
        if path.startswith("/api/validate-yaml"):
            return 200, {"errors": [], "warnings": []}
        if "/preupload/" in path:
            return 200, {"files": [self.mode(f["path"]) for f in json.loads(body)["files"]]}
        if path.endswith("/info/lfs/objects/batch"):
            return 200, self.batch(json.loads(body), headers["Host"])
        if "/commit/" in path:
            for line in body.decode().splitlines():
                self.commit(json.loads(line))
            url = f"http://{headers['Host']}/datasets/anna/my-zoo/commit/{SHA}"
            return 200, {"commitUrl": url, "commitOid": SHA, "success": True}
        if path.startswith("/api/datasets/"):
            return 200, {"id": "anna/my-zoo", "sha": SHA, "siblings": [], "private": True}
        return 404, {"error": "no such page"}

    def create(self, asked, host):
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.repos:
            return 409, {
                "error": "You already created this",
                "url": f"http://{host}/datasets/{name}",
            }
        self.repos[name] = asked
        return 200, {"url": f"http://{host}/datasets/{name}", "name": name}

    def mode(self, path):
        large = self.lfs and path.endswith(".safetensors")
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}

    def batch(self, asked, host):
        objects = []
        for item in asked["objects"]:
            upload = {"href": f"http://{host}/put/{item['oid']}", "header": {}}
            objects.append({**item, "actions": {"upload": upload}})
        return {"transfer": "basic", "objects": objects}

    def commit(self, line):
        value = line["value"]
        if line["key"] == "file":
            self.files[value["path"]] = base64.b64decode(value["content"])
        if line["key"] == "lfsFile":
            data = self.objects[value["oid"]]
            assert hashlib.sha256(data).hexdigest() == value["oid"]
            self.files[value["path"]] = data


@contextlib.contextmanager
def serving(hub):
    """A running server's address."""

    class Handler(BaseHTTPRequestHandler):
        def serve(self):
            length = self.headers.get("Content-Length")
            body = self.rfile.read(int(length)) if length else self.chunks()
            status, data = hub.answer(self.command, self.path, self.headers, body)
            text = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        def chunks(self):
            if self.headers.get("Transfer-Encoding") != "chunked":
                return b""
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        do_GET = do_POST = do_PUT = do_HEAD = serve  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
