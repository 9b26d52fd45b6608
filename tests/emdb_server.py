"""A local stand-in for EMDB and the PDB: the real layout of paths, over real HTTP, with faults.

    python tests/emdb_server.py FOLDER [PORT]

serves a folder laid out like the archives (see `EmdbServer.add_map` and its like) until Ctrl-C.
"""

import base64
import collections
import contextlib
import functools
import gzip
import hashlib
import http.server
import json
import random
import re
import socket
import struct
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

EMDB = "pub/databases/emdb"
PDB = "pub/databases/pdb/data/structures"
API = "emdb/api"
SEQUENCES = "pub/pdb/derived_data/pdb_seqres.txt.gz"
CLUSTERS = "resources/sequence/clusters/clusters-by-entity-30.txt"
HTML = b"<!DOCTYPE html>\n<html><body>Please sign in to the network</body></html>\n"
BOMB_BYTES = 1 << 28  # unpacked


class _Handler(http.server.SimpleHTTPRequestHandler):
    server: "EmdbServer"

    def do_GET(self):
        with self.server.counted(self.path):
            fault, _, self.value = (self.server.next_fault(self.path) or "ok").partition(":")
            if fault.isdecimal():
                extra = {"Retry-After": self.value} if self.value else {}
                self._answer(b"", status=int(fault), length=0, **extra)
                return
            content = self._content()
            if content is None:
                self._answer(b"", status=404, length=0)
            else:
                getattr(self, f"_{fault}")(content)

    def _content(self):
        address = urlsplit(self.path)
        if address.path.startswith(f"/{API}/search/"):
            return self.server.search(address)
        path = Path(self.translate_path(address.path))
        return path.read_bytes() if path.is_file() else None

    def _answer(self, body, *, status=200, length=None, **headers):
        self.send_response(status)
        if length is not None:
            headers["Content-Length"] = str(length)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self._send(body)

    def _send(self, body):
        self.wfile.write(body)
        self.server.count_bytes(urlsplit(self.path).path, len(body))

    def _rest(self, content):
        """The part of the content that is asked for, with status and headers that say so."""
        headers = self._digest(content)
        if self.server.tags:
            headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        path = Path(self.translate_path(urlsplit(self.path).path))
        if path.is_file():
            headers["Last-Modified"] = formatdate(path.stat().st_mtime, usegmt=True)
        valid = (None, headers.get("ETag"), headers.get("Last-Modified"))
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked or self.headers.get("If-Range") not in valid:
            return content, 200, headers
        start, total = int(asked[1]), len(content)
        if start >= total:
            return b"", 416, headers | {"Content-Range": f"bytes */{total}"}
        headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        return content[start:], 206, headers

    def _digest(self, content):
        field, sha256 = self.server.digest, hashlib.sha256(content).digest()
        forms = {
            "Repr-Digest": f"sha-256=:{base64.b64encode(sha256).decode()}:",
            "Digest": f"sha-256={base64.b64encode(sha256).decode()}",
            "Content-MD5": base64.b64encode(hashlib.md5(content).digest()).decode(),
        }
        return {field: forms[field]} if field else {}

    def _whole(self, content, send=None, extra=0):
        """Answer as a good server does, but send with ``send`` and announce ``extra`` bytes."""
        body, status, headers = self._rest(content)
        self._answer(b"", status=status, length=len(body) + extra, **headers)
        (send or self._send)(body)

    def _half(self, body):
        self._send(body[: len(body) // 2])

    def _wait(self, _=b""):
        self.server.stopping.wait(30)

    def _ok(self, content):
        self._whole(content)

    def _truncated(self, content):  # the length is announced, half of it comes
        self._whole(content, self._half)

    def _reset(self, content):  # the same, but with a reset (RST) instead of an orderly end
        self._whole(content, self._half)
        time.sleep(0.02)  # what was sent should arrive
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()

    def _hangup(self, _):  # no answer at all
        self.close_connection = True

    def _stall(self, content):  # half of it comes, then nothing before the server stops
        self._whole(content, lambda body: (self._half(body), self._wait()))

    def _slow(self, content):  # the headers come at once, the body not before the server stops
        self._whole(content, self._wait)

    def _drip(self, content):  # 100 bytes at a time, "drip:s": s seconds between them
        def send(body):
            for start in range(0, len(body), 100):
                self._send(body[start : start + 100])
                if self.server.stopping.wait(float(self.value or 0.02)):
                    break

        self._whole(content, send)

    def _cut(self, content):  # half of it comes, no length is announced
        self._answer(content[: len(content) // 2])

    def _incomplete(self, content):  # a file that was cut before it came to the server
        half = content[: len(content) // 2]
        self._answer(half, length=len(half))

    def _longer(self, content):  # a wrong length: more is announced than there is
        self._whole(content, extra=10)

    def _rangeless(self, content):  # "Range" is not understood, no version is stated
        self._answer(content, length=len(content))

    def _nothing(self, _):  # no rest of any file
        self._answer(b"", status=416, length=0)

    def _shifted(self, content):  # another rest than was asked for
        body, status, headers = self._rest(content)
        if status == 206:
            headers["Content-Range"] = f"bytes 0-{len(content) - 1}/{len(content)}"
        self._answer(body, status=status, length=len(body), **headers)

    def _html(self, _):
        self._answer(HTML, length=len(HTML), Content_Type="text/html")

    def _encoded(self, content):  # as Apache does to .gz files if it takes .gz for an encoding
        self._answer(content, length=len(content), Content_Encoding="gzip")

    def _zipped(self, content):  # a compression that was not asked for
        body = gzip.compress(content)
        self._answer(body, length=len(body), Content_Encoding="gzip", ETag='"zipped"')

    def _huge(self, _):
        self._answer(b"", length=1 << 60)

    def _redirect(self, _):
        self._answer(b"", status=302, length=0, Location=f"{self.server.url}{self.path}")

    def _corrupt(self, content):  # another file of the same kind, with the digests of the right one
        wrong = bytearray(gzip.decompress(content) if self.path.endswith(".gz") else content)
        wrong[-1] ^= 1
        body = gzip.compress(wrong) if self.path.endswith(".gz") else bytes(wrong)
        self._answer(body, length=len(body), **self._digest(content))

    def _bomb(self, content):  # the start of the file, then zeros without end
        member = gzip.compress(bytes(1 << 24))
        start = gzip.compress(gzip.decompress(content)[:1024])
        body = start + member * (BOMB_BYTES >> 24)
        self._answer(body, length=len(body))

    def log_message(self, *_):
        pass


class EmdbServer(http.server.ThreadingHTTPServer):
    """Serves ``folder`` while used as a context manager, with ranges (206) and versions (ETag).

    ``faults`` maps a part of a path to faults, which its next requests meet one by one; after them
    all is well, unless the last is "...", which repeats the one before. Faults: an HTTP status as
    text ("503:20" also says Retry-After: 20), "ok", and the methods of the handler: "truncated",
    "reset", "hangup", "stall", "slow", "drip", "cut", "incomplete", "longer", "rangeless",
    "nothing", "shifted", "html", "encoded", "zipped", "huge", "redirect", "corrupt", "bomb".
    """

    def __init__(self, folder, port=0):
        handler = functools.partial(_Handler, directory=str(folder))
        super().__init__(("127.0.0.1", port), handler)
        self.folder = Path(folder)
        self.faults: dict[str, list[str]] = {}
        self.requests: list[str] = []
        self.searches: list[str] = []  # their queries
        self.bytes_served: collections.Counter[str] = collections.Counter()  # of bodies, by path
        self.digest: str | None = None  # Repr-Digest | Digest | Content-MD5: stated in answers
        self.tags = True  # versions by ETag, not only by date
        self.most_at_once = 0  # requests
        self.stopping = threading.Event()
        self._at_once = 0
        self._lock = threading.Lock()
        self._chance = None

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

    @property
    def sequences_mirror(self):
        return f"{self.url}/{SEQUENCES}"

    @property
    def clusters_mirror(self):
        return f"{self.url}/{CLUSTERS}"

    def add(self, path, content):
        """Serve ``content`` at ``path``; returns the content."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return content

    def add_map(self, emdb_id, content):
        name = f"{emdb_id.lower().replace('-', '_')}.map.gz"
        return self.add(f"{EMDB}/structures/{emdb_id}/map/{name}", gzip.compress(content))

    def add_half_maps(self, emdb_id, first, second):
        """Both as served."""
        stem = f"{EMDB}/structures/{emdb_id}/other/{emdb_id.lower().replace('-', '_')}_half_map"
        return [
            self.add(f"{stem}_{number}.map.gz", gzip.compress(content))
            for number, content in enumerate((first, second), start=1)
        ]

    def add_metadata(self, emdb_id, entry):
        return self.add(f"{API}/entry/{emdb_id}", json.dumps(entry).encode())

    def add_model(self, pdb_id, text):
        key = pdb_id.lower()
        path = f"{PDB}/divided/mmCIF/{key[1:3]}/{key}.cif.gz"
        return self.add(path, gzip.compress(text.encode()))

    def add_sequences(self, fasta):
        return self.add(SEQUENCES, gzip.compress(fasta.encode()))

    def add_clusters(self, text):
        return self.add(CLUSTERS, text.encode())

    def search(self, address):
        """A page of EMDB's search, as JSON: all entries with metadata, whatever is asked for."""
        options = {name: values[-1] for name, values in parse_qs(address.query).items()}
        rows, page = int(options.get("rows", 10)), int(options.get("page", 1))
        self.searches.append(unquote(address.path.removeprefix(f"/{API}/search/")))
        folder = self.folder / API / "entry"
        files = sorted(folder.iterdir(), key=lambda path: int(path.name.partition("-")[2]))
        entries = [json.loads(path.read_bytes()) for path in files[rows * (page - 1) : rows * page]]
        if "fl" in options:
            wanted = {"emdb_id", *options["fl"].split(",")}
            entries = [{key: e[key] for key in e if key in wanted} for e in entries]
        return json.dumps(entries).encode()

    def random_faults(self, share, seed):
        """Let this share of requests fail at random, as on a bad network: never with a 404."""
        self._chance = share, random.Random(seed)

    def next_fault(self, path):
        for part, faults in self.faults.items():
            if part in path and faults:
                return faults[0] if faults[1:] == ["..."] else faults.pop(0)
        if self._chance:
            share, chance = self._chance
            with self._lock:
                if chance.random() < share:
                    return chance.choice(["reset", "503", "truncated"])
        return None

    @contextlib.contextmanager
    def counted(self, path):
        """Note a request, and how many there are at once."""
        with self._lock:
            self.requests.append(path)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def count_bytes(self, path, number):
        with self._lock:
            self.bytes_served[path] += number

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # the client may hang up
            super().handle_error(request, client_address)

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
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
