"""A file from a server: it goes on where it broke off, and no bad one is left, whatever comes."""

import hashlib
import socket
import sys
import threading
import urllib.error
import urllib.request

import pytest
from conftest import ROOT
from test_archive import files_in

from classifier.data import download as module
from classifier.data.download import download, md5
from classifier.errors import UserError

sys.path.insert(0, str(ROOT / "benchmarks"))
from faulty import downloads
from faulty.downloads import DATA, HALF, MD5, SERVERS, Server


@pytest.fixture(autouse=True)
def limits(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "MAX_ARCHIVE", 8 << 20)


def fails(folder, server, *parts):
    """Assert that a download ends in one line with these parts, and leaves no file."""
    with pytest.raises(UserError) as caught:
        download(folder, server.url, MD5)
    told = str(caught.value)
    assert told.startswith(server.url)
    assert told.isprintable()
    assert len(told) < 450
    for part in parts:
        assert part in told
    assert set(files_in(folder)) <= {".a.zip.part"}


def test_md5(tmp_path):
    (tmp_path / "file").write_bytes(DATA)
    assert md5(tmp_path / "file") == MD5 == hashlib.md5(DATA).hexdigest()


def test_it_is_whole_and_done_once(tmp_path):
    with Server() as server:
        for _ in range(2):
            assert download(tmp_path / "set", server.url, MD5) == tmp_path / "set/a.zip"
            assert files_in(tmp_path) == {"set/a.zip": DATA}
    assert server.asked == [""]


def test_it_goes_on_where_it_broke_off(tmp_path):
    with Server(downloads.breaks_off, downloads.breaks_off) as server:
        for received in ("150,000", "225,000"):
            fails(tmp_path, server, f"after {received} of 300,000 bytes; run the command again to")
        download(tmp_path, server.url, MD5)
    assert files_in(tmp_path) == {"a.zip": DATA}
    assert server.asked == ["", "150000-", "225000-"]


def test_it_starts_again_where_the_server_cannot_go_on(tmp_path):
    with Server(downloads.breaks_off, SERVERS["ignores Range"]) as server:
        fails(tmp_path, server)
        download(tmp_path, server.url, MD5)
    assert files_in(tmp_path) == {"a.zip": DATA}


def test_a_part_that_is_the_whole_is_taken(tmp_path):
    (tmp_path / ".a.zip.part").write_bytes(DATA)
    with Server() as server:
        download(tmp_path, server.url, MD5)
    assert files_in(tmp_path) == {"a.zip": DATA}


@pytest.mark.parametrize("part", [b"", b"of another file", DATA, DATA + b"and more"])
def test_a_wrong_checksum_removes_the_file(part, tmp_path):
    (tmp_path / ".a.zip.part").write_bytes(part)
    with Server() as server, pytest.raises(UserError, match="zip: the checksum is not"):
        download(tmp_path, server.url, "0" * 32)
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("part", [b"of another file", bytes(len(DATA)), DATA + b"and more"])
def test_a_part_of_another_file_is_given_up(part, tmp_path):
    (tmp_path / ".a.zip.part").write_bytes(part)
    with Server() as server:
        download(tmp_path, server.url, MD5)
    assert files_in(tmp_path) == {"a.zip": DATA}
    assert server.asked == [f"{len(part)}-", ""]


def test_another_part_than_asked_for_is_not_joined(tmp_path):
    (tmp_path / ".a.zip.part").write_bytes(HALF)
    with Server(downloads.elsewhere) as server:
        fails(tmp_path, server, "another part came than was asked for")
        assert files_in(tmp_path) == {}
        download(tmp_path, server.url, MD5)
    assert server.asked == ["150000-", ""]


def test_a_download_without_end_is_broken_off_and_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_ARCHIVE", len(DATA))
    with Server() as server:
        download(tmp_path / "whole", server.url, MD5)
    monkeypatch.setattr(module, "MAX_ARCHIVE", len(DATA) - 1)
    with Server() as server:
        fails(tmp_path / "more", server, "more data than the archive has")
    assert files_in(tmp_path) == {"whole/a.zip": DATA}


def test_a_file_that_is_not_the_official_one_is_fetched_again(tmp_path):
    (tmp_path / "a.zip").write_bytes(DATA[:-1])
    with Server() as server:
        download(tmp_path, server.url, MD5)
    assert files_in(tmp_path) == {"a.zip": DATA}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("404", "HTTP Error 404: Not Found"),
        ("404, with escapes", "HTTP Error 404: ?[2J?]0;x?xxx"),
        ("416, asked or not", "HTTP Error 416"),
        ("says nothing", "closed connection"),
        ("another protocol", "SSH-2.0"),
        ("breaks off in a chunk", "IncompleteRead"),
        ("10,000 headers", "got more than 100 headers"),
        ("a header of 5 MB", "header line"),
        ("another file", "the checksum is not the official archive's"),
        ("packed", "the checksum is not the official archive's"),
        ("a part unasked", "the checksum is not the official archive's"),
        ("leads on to file:", "to url 'file:///etc/hostname' is not allowed"),
        ("leads on to ftp:", "it leads on to ftp:, which is not safe"),
    ],
)
def test_a_bad_answer_fails_in_one_line_and_the_next_try_is_not_harmed(name, told, tmp_path):
    with Server(SERVERS[name]) as server:
        fails(tmp_path, server, told)
        download(tmp_path, server.url, MD5)
    assert files_in(tmp_path) == {"a.zip": DATA}


def test_a_circle_of_addresses_is_left(tmp_path):
    with Server(*[downloads.redirects("/a.zip")] * 20) as server:
        fails(tmp_path, server, "infinite loop")


def test_a_redirection_is_read_no_further_than_its_headers(tmp_path):
    """urllib would take all that stands behind them to memory."""
    sent = threading.Event()

    def answer(connection, _):
        connection.sendall(downloads.head("302 Found", "Location: /b", downloads.length(1 << 30)))
        sent.wait(20)  # the rest does not come before the file was fetched

    with Server(answer) as server:
        download(tmp_path, server.url, MD5)
        sent.set()
    assert server.asked == ["", ""]


@pytest.mark.parametrize(
    ("url", "to", "followed"),
    [
        ("https://a.b/c", "https://d.e/f", True),
        ("https://a.b/c", "http://a.b/c", False),
        ("https://a.b/c", "ftp://a.b/c", False),
        ("https://a.b/c", "HTTP://a.b/c", False),
        ("http://a.b/c", "http://d.e/f", True),
        ("http://a.b/c", "https://d.e/f", True),
        ("http://a.b/c", "file:///etc/passwd", False),
    ],
)
def test_no_redirection_leaves_https(url, to, followed):
    request = urllib.request.Request(url, headers={"Range": "bytes=5-"})
    answer = urllib.request.addinfourl(open("/dev/null", "rb"), {}, url, 302)  # noqa: PTH123, SIM115
    handler = module._Redirects()
    if followed:
        new = handler.redirect_request(request, answer, 302, "Found", {}, to)
        assert new.full_url == to
        assert new.headers == {"Range": "bytes=5-"}
    else:
        with pytest.raises(urllib.error.URLError, match="which is not safe"):
            handler.redirect_request(request, answer, 302, "Found", {}, to)


@pytest.mark.parametrize("name", ["stalls before all", "stalls in its headers",
                                  "stalls in the body"])  # fmt: skip
def test_a_silent_server_is_not_waited_for_without_end(name, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    with Server(SERVERS[name]) as server:
        fails(tmp_path, server, "timed out; run the command again to go on")


@pytest.mark.parametrize("name", ["drips its headers", "drips the body", "drips a chunk's size",
                                  "goes on to say go on"])  # fmt: skip
def test_nor_is_one_that_gives_almost_nothing(name, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    with Server(SERVERS[name]) as server, pytest.raises(UserError) as caught:
        download(tmp_path, server.url, MD5)
    told = "fewer than 1,000 bytes a second came", "timed out"  # or so, where drops come late
    assert any(f"{text}; run the command again" in str(caught.value) for text in told)


def test_no_server_fails_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(UserError, match="refused.*--archive FILE"):
        download(tmp_path, f"http://127.0.0.1:{port}/a.zip", MD5)


def test_a_full_disk_is_told_as_such(tmp_path):
    problem, _ = downloads.full(tmp_path / "full")
    assert not problem


def test_a_killed_download_goes_on(tmp_path):
    problem, _ = downloads.killed(tmp_path / "killed")
    assert not problem
