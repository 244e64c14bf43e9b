"""A file fetched from a server: it goes on where it broke off, and its checksum is proven."""

import contextlib
import hashlib
import http.client
import os
import re
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from tqdm import tqdm

from classifier.data.members import MAX_ARCHIVE
from classifier.errors import UserError
from classifier.files import make_folder, named

TIMEOUT = 30  # seconds without a byte
SLOWEST = 1000  # bytes a second, less is not waited for; looked at every 2 * TIMEOUT seconds


def md5(path: str | os.PathLike) -> str:
    """Return the MD5 of a file, hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def download(folder: Path, url: str, checksum: str) -> Path:
    """Fetch a file into `folder`, under its name in `url`, unless it is there.

    Returns:
        its path, its checksum proven.

    Raises:
        UserError: no connection, a bad one, or another file; run again, it goes on with what was
            received, or from the beginning where that is not the file asked for.
    """
    make_folder(folder)
    target = folder / url.rsplit("/", 1)[-1]
    if target.is_file() and md5(target) == checksum:
        return target
    part = target.with_name(f".{target.name}.part")
    went_on = True
    while went_on:  # what an earlier try left may be of another file: then once more, from nothing
        went_on = _receive(url, part)
        if md5(part) == checksum:
            part.replace(target)
            return target
        part.unlink()
    raise UserError(f"{url}: the checksum is not the official archive's; run the command again")


def _receive(url, part):
    """Receive a file, or what is missing of `part`; return whether there was some of it before."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with _Line(url) as line:
        try:
            answer = line.open(request)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and have:  # the part at hand is already the whole file
                return True
            raise line.failed(error) from error
        with answer:
            return _store(line, answer, part, have)


def _store(line, answer, part, have):
    """Write an answer to `part`; return whether it went on with what was there."""
    went_on = answer.status == 206 and have > 0
    start = have if went_on else 0
    said = answer.headers.get("Content-Range", "")
    if went_on and said and not said.startswith(f"bytes {start}-"):
        part.unlink()
        raise line.failed("another part came than was asked for")
    length = answer.headers.get("Content-Length", "")
    total = start + int(length) if re.fullmatch("[0-9]{1,15}", length) else None
    with (
        named(part),
        part.open("ab" if went_on else "wb") as file,
        tqdm(total=total, initial=start, unit="B", unit_scale=True, desc="Downloading",
             disable=None) as bar,
    ):  # fmt: skip
        while block := line.read(answer):
            if start + line.received > MAX_ARCHIVE:
                part.unlink()
                raise line.failed("more data than the archive has")
            file.write(block)
            bar.update(len(block))
    if total is not None and start + line.received < total:
        raise line.failed(
            f"the connection broke after {start + line.received:,} of {total:,} bytes"
        )
    return went_on


class _Line:
    """A connection, with its redirections, that is broken off where almost nothing comes.

    A socket's own timeout begins again with each byte: a server could make one wait for months.

    Attributes:
        received: bytes read so far.
    """

    def __init__(self, url):
        self.url, self.received = url, 0
        self._sockets, self._slow, self._ended = [], False, threading.Event()
        self._watch = threading.Thread(target=self._hang_up_if_slow, daemon=True)

    def __enter__(self):
        self._watch.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._watch.join()

    def open(self, request):
        """Return the answer to a request; raise HTTPError or UserError."""
        opener = urllib.request.build_opener(_Redirects, _Http(self), _Https(self))
        with self._errors():
            return opener.open(request, timeout=TIMEOUT)

    def read(self, answer):
        """Return some bytes of an answer, b"" at its end; raise UserError."""
        with self._errors():
            block = answer.read1(1 << 16)
        self.received += len(block)
        return block

    def connected(self, connection):
        """Watch a connection that has just been made."""
        if self._slow:
            raise TimeoutError
        self._sockets.append(connection)

    def failed(self, reason):
        """Return the error that tells of a reason."""
        if not isinstance(reason, urllib.error.HTTPError):
            reason = getattr(reason, "reason", reason)  # of a URLError
        text = " ".join(str(reason).split())[:200]
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
        return UserError(
            f"{self.url}: {text}; run the command again to go on, or fetch the file another way "
            "and give --archive FILE"
        )

    @contextlib.contextmanager
    def _errors(self):
        try:
            yield
        except urllib.error.HTTPError:
            raise
        except (OSError, ValueError, http.client.HTTPException) as error:
            if not self._slow:
                raise self.failed(error) from error
        if self._slow:
            raise self.failed(f"fewer than {SLOWEST:,} bytes a second came")

    def _hang_up_if_slow(self):
        before = 0
        while not self._ended.wait(2 * TIMEOUT):
            if self.received - before < SLOWEST * 2 * TIMEOUT:
                self._slow = True
                for connection in self._sockets:
                    with contextlib.suppress(OSError):  # closed already
                        socket.socket.shutdown(connection, socket.SHUT_RDWR)
                return
            before = self.received


class _Watched:
    """A handler of urllib that tells a _Line of its connections."""

    def __init__(self, line):
        super().__init__()
        self._line = line

    def do_open(self, http_class, request, **options):
        line = self._line

        class Connection(http_class):
            def connect(self):
                super().connect()
                line.connected(self.sock)

        return super().do_open(Connection, request, **options)


class _Http(_Watched, urllib.request.HTTPHandler):
    pass


class _Https(_Watched, urllib.request.HTTPSHandler):
    pass


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections over HTTPS, and plain ones from a plain address."""

    def redirect_request(self, request, answer, code, text, headers, url):
        answer.close()  # urllib would read all that stands in it, of any size
        scheme = urllib.parse.urlsplit(url).scheme
        if scheme != "https" and not scheme == request.type == "http":
            raise urllib.error.URLError(f"it leads on to {scheme}:, which is not safe")
        return super().redirect_request(request, answer, code, text, headers, url)
