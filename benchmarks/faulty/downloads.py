"""Servers that do all that a server may not: the archive is fetched, resumed or refused in a line.

A case is a download by classifier/data/download.py in a process of its own, from a server in a
thread here. After each try there is the right file or none, and once the server is well, the next
try ends with it.
"""

import contextlib
import gzip
import hashlib
import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faulty.row import Ended, Row, not_refused, run, start

# The program that a case runs; its limits are lower, so that they are reached in seconds.
CHILD = """
import sys
from pathlib import Path
from classifier import cli
from classifier.data import download
download.TIMEOUT, download.MAX_ARCHIVE = 0.4, 8 << 20
def main():
    download.download(Path(sys.argv[1]), *sys.argv[2:])
    return 0
cli.run(main, name="child")
"""
DATA = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
LONGEST = 6  # seconds that a server here goes on doing something


class Server:
    """A server at 127.0.0.1 in a thread.

    Args:
        plan: what it does to each connection, in turn; then it is well.

    Attributes:
        url: of the file.
        asked: the Range of each request, "" for none.
    """

    def __init__(self, *plan: Callable):
        self.plan, self.asked = list(plan), []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/files/a.zip"

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with connection, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                block = connection.recv(4096)
                if not block:
                    return
                request += block
            _, _, after = request.partition(b"Range: bytes=")
            asked = after.split(b"\r\n")[0].decode() if after else ""
            self.asked.append(asked)
            how = self.plan.pop(0) if self.plan else well
            how(connection, int(asked.rstrip("-") or 0))


def head(line: str, *headers: str) -> bytes:
    """Return the beginning of an answer."""
    return "".join(f"{text}\r\n" for text in (f"HTTP/1.1 {line}", *headers, "")).encode("latin-1")


def length(size: object) -> str:
    """Return the header that tells the length of a body."""
    return f"Content-Length: {size}"


def part(start: int, data: bytes = DATA, first: int | None = None) -> bytes:
    """Return the beginning of an answer with all from `start` on."""
    if not start:
        return head("200 OK", length(len(data)))
    first = start if first is None else first
    return head("206 Partial Content", length(len(data) - start),
                f"Content-Range: bytes {first}-{len(data) - 1}/{len(data)}")  # fmt: skip


def well(connection: socket.socket, start: int) -> None:
    """Answer as a server should."""
    if start >= len(DATA):
        connection.sendall(head("416 Range Not Satisfiable", length(0)))
    else:
        connection.sendall(part(start) + DATA[start:])


def says(*parts: bytes) -> Callable:
    """Return a server that sends these bytes, whatever is asked, and hangs up."""

    def answer(connection, _):
        for block in parts:
            connection.sendall(block)

    return answer


def ever(first: bytes, block: bytes, pause: float = 0) -> Callable:
    """Return a server that sends `first`, then a block again and again."""

    def answer(connection, _):
        connection.sendall(first)
        ends = time.monotonic() + LONGEST
        while time.monotonic() < ends:
            connection.sendall(block)
            time.sleep(pause)

    return answer


def stalls(share: float) -> Callable:
    """Return a server that falls silent after this share of the body; below 0 before its length."""

    def answer(connection, start):
        body = DATA[start:]
        said = part(start)
        sent = said[:20] if share < 0 else said + body[: int(share * len(body))]
        connection.sendall(sent)
        time.sleep(LONGEST)

    return answer


def resets(connection: socket.socket, start: int) -> None:
    """Send half, then reset the connection."""
    body = DATA[start:]
    connection.sendall(part(start) + body[: len(body) // 2])
    time.sleep(0.1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def breaks_off(connection: socket.socket, start: int) -> None:
    """Send half, and hang up."""
    body = DATA[start:]
    connection.sendall(part(start) + body[: len(body) // 2])


def trickles(connection: socket.socket, start: int) -> None:
    """Send all, a second long."""
    connection.sendall(part(start))
    for place in range(start, len(DATA), 15_000):
        connection.sendall(DATA[place : place + 15_000])
        time.sleep(0.1)


def elsewhere(connection: socket.socket, start: int) -> None:
    """Send another part than was asked for, and say so."""
    connection.sendall(part(start, first=start + 1000) + DATA[start:])


def elsewhere_in_silence(connection: socket.socket, start: int) -> None:
    """Send another part than was asked for."""
    connection.sendall(part(start) + OTHER[start:])


def silent_part(connection: socket.socket, start: int) -> None:
    """Send what was asked for, without Content-Range."""
    connection.sendall(head("206 Partial Content", length(len(DATA) - start)) + DATA[start:])


def redirects(place: str, *more: str) -> Callable:
    """Return a server that says the file is elsewhere."""
    return says(head("302 Found", f"Location: {place}", *more))


def chunked(*blocks: bytes) -> bytes:
    """Return an answer in chunks, without its last one."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(block), block) for block in blocks)
    return head("200 OK", "Transfer-Encoding: chunked") + body


OK = head("200 OK", length(len(DATA)))
HALF = DATA[: len(DATA) // 2]
SERVERS: dict[str, Callable] = {
    "well": well,
    "slow but well": trickles,
    "in chunks": says(chunked(HALF, DATA[len(HALF) :]), b"0\r\n\r\n"),
    "without a length": says(head("200 OK"), DATA),
    "ignores Range": says(OK, DATA),
    "a part without Content-Range": silent_part,
    "another part, said so": elsewhere,
    "another part, in silence": elsewhere_in_silence,
    "a part unasked": says(
        head("206 Partial Content", length(1000), "Content-Range: bytes 500-1499/300000"),
        DATA[500:1500],
    ),
    "a part in several": says(
        head("206 Partial Content", "Content-Type: multipart/byteranges; boundary=x", length(9)),
        b"--x\r\n\r\nab",
    ),
    "breaks off": breaks_off,
    "breaks off without a length": says(head("200 OK"), HALF),
    "breaks off in a chunk": says(chunked(HALF) + b"ffff\r\nabc"),
    "breaks off in its headers": says(OK[:25]),
    "resets": resets,
    "says nothing": says(),
    "stalls before all": ever(b"", b"", 1),
    "stalls in its headers": stalls(-1),
    "stalls before the body": stalls(0),
    "stalls in the body": stalls(0.6),
    "drips its headers": ever(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.1),
    "drips the body": ever(OK, b"x", 0.1),
    "drips a chunk's size": ever(head("200 OK", "Transfer-Encoding: chunked"), b"0", 0.1),
    "goes on to say go on": ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
    "another file": says(OK, OTHER),
    "a longer file": says(head("200 OK", length(400_000)), OTHER, OTHER[:100_000]),
    "an empty file": says(head("200 OK", length(0))),
    "a page of HTML": says(head("200 OK", "Content-Type: text/html"), b"<html>Log in</html>"),
    "too long a length": says(head("200 OK", length(10**6)), DATA),
    "a length of 10^30": says(head("200 OK", length(10**30)), DATA),
    "too short a length": says(head("200 OK", length(1000)), DATA),
    "a negative length": says(head("200 OK", length(-5)), DATA),
    "a length that is none": says(head("200 OK", length("many")), DATA),
    "a length of other digits": says(head("200 OK", length("\xb2")), DATA),
    "two lengths": says(head("200 OK", length(len(DATA)), length(7)), DATA),
    "two lengths, the wrong first": says(head("200 OK", length(7), length(len(DATA))), DATA),
    "a body without end": ever(head("200 OK"), bytes(1 << 16)),
    "packed": says(head("200 OK", "Content-Encoding: gzip"), gzip.compress(DATA)),
    "10,000 headers": says(head("200 OK", *(f"X-{n}: x" for n in range(10_000))), DATA),
    "a header of 5 MB": says(head("200 OK", "X: " + "x" * (5 << 20)), DATA),
    "a status line of 5 MB": says(head("200 " + "x" * (5 << 20)), DATA),
    "another protocol": says(b"SSH-2.0-server\r\n"),
    "TLS": says(bytes.fromhex("15030100020246")),
    "a chunk of 2^64": says(head("200 OK", "Transfer-Encoding: chunked"), b"f" * 16 + b"\r\nabc"),
    "a chunk of -1": says(head("200 OK", "Transfer-Encoding: chunked"), b"-1\r\nabc"),
    "404": says(head("404 Not Found", length(0))),
    "404, with escapes": says(head("404 \033[2J\033]0;x\007" + "x" * 5000, length(0))),
    "404 without end": ever(head("404 Not Found"), bytes(1 << 16)),
    "416, asked or not": says(head("416 Range Not Satisfiable", length(0))),
    "503": says(head("503 Service Unavailable", "Retry-After: 9999", length(0))),
    "204": says(head("204 No Content")),
    "304": says(head("304 Not Modified")),
    "status 999": says(head("999 ?", length(len(DATA))), DATA),
    "leads on, in plain HTTP": redirects("/elsewhere/a.zip"),
    "leads on to file:": redirects("file:///etc/hostname"),
    "leads on to ftp:": redirects("ftp://127.0.0.1/a.zip"),
    "leads on to data:": redirects("data:,abc"),
    "leads on to nothing": redirects(""),
    "leads on to no address": redirects("http://[::1"),
    "leads on to a closed port": redirects("http://127.0.0.1:9/a.zip"),
    "leads on without a place": says(head("302 Found")),
    "leads on with a body without end": ever(head("302 Found", "Location: /b"), bytes(1 << 16)),
    "another place in escapes": redirects("gopher:\033[2J"),
}


def fetched(folder: Path, url: str, **options) -> Ended:
    """Run the program that downloads, once."""
    words = "-c", CHILD, folder / "set", url, MD5
    return run(*words, folder=folder, limit=30, env={"no_proxy": "*"}, **options)


def problem_of(folder: Path, ended: Ended, well_now: bool = False) -> str:
    """Return what is wrong after a try, "" if nothing is."""
    there = {path.name: path for path in (folder / "set").iterdir()}
    whole = there.pop("a.zip", None)
    if whole and whole.read_bytes() != DATA:
        return "a bad archive"
    if ended.status == 0 and whole:
        return f"left behind: {sorted(there)}" if there else ""
    if well_now:
        return f"not fetched from a server that is well: {ended.err[-200:]}"
    if whole:
        return "an archive, and an error"
    there.pop(".a.zip.part", None)
    if not ended.err.isprintable() and not ended.err.rstrip("\n").isprintable():
        return f"what a terminal obeys: {ended.err!a}"
    return f"left behind: {sorted(there)}" if there else not_refused(ended)


def tried(folder: Path, names: list[str]) -> tuple[str, Ended]:
    """Try servers in turn, then one that is well; return what was lost, and the longest try."""
    folder.mkdir()
    longest = None
    loop = "leads on in a circle"
    plan = [redirects("/a.zip")] * 12 if names == [loop] else [SERVERS[name] for name in names]
    for how in [plan, *[[]]] if names == [loop] else [*([one] for one in plan), []]:
        with Server(*how) as server:
            ended = fetched(folder, server.url)
        longest = max(longest or ended, ended, key=lambda one: one.seconds)
        if problem := problem_of(folder, ended, well_now=not how):
            return problem, ended
    return "", longest


def killed(folder: Path) -> tuple[str, Ended]:
    """Kill a download in the middle, then run it again."""
    folder.mkdir()
    kept = folder / "set/.a.zip.part"
    with Server(trickles) as server:
        words = "-c", CHILD, folder / "set", server.url, MD5
        process = start(*words, folder=folder, env={"no_proxy": "*"})
        ends = time.monotonic() + 20
        while time.monotonic() < ends and not (kept.exists() and kept.stat().st_size):
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        size = kept.stat().st_size
        ended = fetched(folder, server.url)
        problem = problem_of(folder, ended, well_now=True)
        if server.asked != ["", f"{size}-"]:
            problem = problem or f"not gone on with: {server.asked}"
    return problem, ended


def full(folder: Path) -> tuple[str, Ended]:
    """Download to a full disk, then to one that has room again."""
    folder.mkdir()
    program = ("bash", "-c", 'trap "" XFSZ; ulimit -f 100; exec "$@"', "bash")
    with Server() as server:
        ended = fetched(folder, server.url, program=program)
        problem = problem_of(folder, ended)
        if "disk space" not in ended.err:
            problem = problem or f"no word of the disk: {ended.err}"
        ended = fetched(folder, server.url)
    return problem or problem_of(folder, ended, well_now=True), ended


def downloads(row: Row, folder: Path, seed: int) -> None:
    """Try each server, then some in turn, drawn by seed; two cases at a time."""
    draw, names = random.Random(seed), sorted(SERVERS)
    plans = [[name] for name in names] + [["leads on in a circle"]]
    plans += [["breaks off", name] for name in names]  # which a Range is asked of
    plans += [draw.choices(names, k=4) for _ in range(8)]
    cases = {" > ".join(plan): lambda place, plan=plan: tried(place, plan) for plan in plans}
    cases |= {f"killed {number}": killed for number in range(3)} | {"a full disk": full}
    with ThreadPoolExecutor(3) as pool:  # most wait
        places = [folder / str(number) for number in range(len(cases))]
        ended = pool.map(lambda case: case[0](case[1]), zip(cases.values(), places, strict=True))
        for case, result in zip(cases, ended, strict=True):
            row.add(case, *result)
