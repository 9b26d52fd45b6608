"""A local stand-in for EMDB and the PDB: the real layout of paths, over real HTTP, with faults.

    python tests/emdb_server.py FOLDER [PORT]

serves a folder laid out like the archives (see `EmdbServer.add_map` and its like) until Ctrl-C.
"""

import functools
import gzip
import http.server
import json
import socket
import sys
import threading
from pathlib import Path

EMDB = "pub/databases/emdb"
PDB = "pub/databases/pdb/data/structures"
API = "emdb/api"
HTML = b"<!DOCTYPE html>\n<html><body>Please sign in to the network</body></html>\n"


class _Handler(http.server.SimpleHTTPRequestHandler):
    server: "EmdbServer"

    def do_GET(self):
        self.server.requests.append(self.path)
        fault = self.server.next_fault(self.path)
        if fault in (None, "ok"):
            super().do_GET()
        elif fault.isdecimal():
            self.send_error(int(fault))
        else:
            getattr(self, f"_{fault}")(Path(self.translate_path(self.path)))

    def _answer(self, body, length=None, **headers):
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _truncated(self, path):  # the length is announced, half of it comes
        content = path.read_bytes()
        self._answer(content[: len(content) // 2], len(content))

    def _cut(self, path):  # half of it comes, no length is announced
        content = path.read_bytes()
        self._answer(content[: len(content) // 2])

    def _html(self, _):
        self._answer(HTML, len(HTML), Content_Type="text/html")

    def _encoded(
        self, path
    ):  # as Apache does to .gz files if it takes their suffix for an encoding
        content = path.read_bytes()
        self._answer(content, len(content), Content_Encoding="gzip")

    def _huge(self, path):
        self._answer(b"", 1 << 60)

    def _slow(self, path):  # the headers come at once, the body not before the server stops
        content = path.read_bytes()
        self._answer(b"", len(content))
        self.server.stopping.wait(30)

    def log_message(self, *_):
        pass


class EmdbServer(http.server.ThreadingHTTPServer):
    """Serves ``folder`` while used as a context manager.

    ``faults`` maps a part of a path to faults, which its next requests meet one by one; after them
    all is well, unless the last is "...", which repeats the one before. Faults: an HTTP status as
    text, "truncated", "cut", "html", "encoded", "huge", "slow", "ok".
    """

    def __init__(self, folder, port=0):
        handler = functools.partial(_Handler, directory=str(folder))
        super().__init__(("127.0.0.1", port), handler)
        self.folder = Path(folder)
        self.faults: dict[str, list[str]] = {}
        self.requests: list[str] = []
        self.stopping = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def emdb_mirror(self):
        return f"{self.url}/{EMDB}"

    @property
    def pdb_mirror(self):
        return f"{self.url}/{PDB}"

    @property
    def api_mirror(self):
        return f"{self.url}/{API}"

    def add(self, path, content):
        """Serve ``content`` at ``path``; returns the content."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return content

    def add_map(self, emdb_id, content):
        name = f"{emdb_id.lower().replace('-', '_')}.map.gz"
        return self.add(f"{EMDB}/structures/{emdb_id}/map/{name}", gzip.compress(content))

    def add_metadata(self, emdb_id, entry):
        return self.add(f"{API}/entry/{emdb_id}", json.dumps(entry).encode())

    def add_model(self, pdb_id, text):
        key = pdb_id.lower()
        path = f"{PDB}/divided/mmCIF/{key[1:3]}/{key}.cif.gz"
        return self.add(path, gzip.compress(text.encode()))

    def next_fault(self, path):
        for part, faults in self.faults.items():
            if part in path and faults:
                return faults[0] if faults[1:] == ["..."] else faults.pop(0)
        return None

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # the client may hang up
            super().handle_error(request, client_address)

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.shutdown()
        self.thread.join()
        self.server_close()


def closed_url():
    """The address of a port at which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


if __name__ == "__main__":
    with EmdbServer(sys.argv[1], int(sys.argv[2]) if sys.argv[2:] else 0) as running:
        print(running.url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped")
