"""The members of a tar.gz, or of one in a zip file, read so that none takes all memory or hours.

tarfile keeps each member with a copy of the headers that hold for all: 1 MB of them in a small file
became gigabytes. Some headers cost it hours, by a regular expression, and GzipFile and ZipFile have
no bounds either. Here the headers are read one by one, and all there is is bounded.
"""

import contextlib
import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from classifier.errors import UserError

TAR_NAME = "101_ObjectCategories.tar.gz"
MAX_ARCHIVE = 256 << 20  # bytes; caltech-101.zip has 137 MB
MAX_BYTES = 512 << 20  # that it unpacks to; Caltech-101 has 146 MB
MAX_HEADERS = 50_000  # Caltech-101 has 9,248; some programs write two or four for each file
MAX_EXTENDED = 64 << 10  # bytes of a header with a long name
MAX_LIST = 1 << 20  # bytes of a zip file's list of files
BLOCK = 512  # bytes; a tar file is made of them
FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
OF_NEXT = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
EXTENDED = (*OF_NEXT, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


@contextlib.contextmanager
def open_archive(archive: Path) -> Iterator[BinaryIO]:
    """Open a tar.gz, or the one TAR_NAME in a zip file, as a stream that is still packed.

    Raises:
        UserError: far too large; or of a zip file: without TAR_NAME, encrypted, or packed in a way
            that Python does not read, or only without bounds.
        zipfile.BadZipFile, OSError and others: a damaged zip file.
    """
    with archive.open("rb") as file:
        if archive.stat().st_size > MAX_ARCHIVE:
            raise too_much(archive)
        if not zipfile.is_zipfile(file):
            file.seek(0)
            yield file
            return
        other = f"give {TAR_NAME} itself"
        try:
            with zipfile.ZipFile(_BoundedReads(archive, file)) as outer:
                found = [m for m in outer.infolist() if PurePosixPath(m.filename).name == TAR_NAME]
                if len(found) != 1:
                    raise UserError(f"{archive}: holds no {TAR_NAME}; give the official archive")
                if found[0].flag_bits & 0x1:
                    raise UserError(f"{archive}: is encrypted; unpack it and {other}")
                if found[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UserError(
                        f"{archive}: is packed in an unusual way; unpack it another way and {other}"
                    )
                if found[0].file_size > MAX_ARCHIVE:
                    raise too_much(archive)
                with outer.open(found[0]) as stream:
                    yield stream
        except NotImplementedError as error:  # a newer zip file than Python reads
            raise UserError(f"{archive}: {error}; unpack it another way and {other}") from error


class _BoundedReads:
    """A zip file of which not more than MAX_LIST bytes are read at once: so long is its list."""

    def __init__(self, archive, file):
        self.archive, self.file = archive, file

    def read(self, size=-1):
        if size > MAX_LIST:
            raise too_much(self.archive)
        return self.file.read(size)

    def __getattr__(self, name):
        return getattr(self.file, name)


class Unpacked:
    """What a gzip file unpacks to, as a stream that ends with MAX_BYTES.

    Args:
        archive: its path, for errors.
        stream: of `open_archive`.

    Attributes:
        archive: its path.
        digest: MD5 of what was read from the stream.
        left: bytes that it may still unpack to.
    """

    def __init__(self, archive: Path, stream: BinaryIO):
        self.archive, self.left = archive, MAX_BYTES
        self.digest = hashlib.md5(usedforsecurity=False)
        self._stream, self._inflate = stream, zlib.decompressobj(16 + zlib.MAX_WBITS)

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end alone.

        Raises:
            UserError: there are more than MAX_BYTES.
            zlib.error, EOFError, ValueError: it is damaged.
        """
        blocks = []
        while size and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._more()
            blocks.append(self._inflate.decompress(packed, size))
            size -= len(blocks[-1])
            self.left -= len(blocks[-1])
        if self._inflate.eof and (self._inflate.unused_data or self._stream.read(1)):
            raise ValueError("there is more behind its end")
        if self.left < 0:
            raise too_much(self.archive)
        return b"".join(blocks)

    def _more(self):
        packed = self._stream.read(1 << 14)
        if not packed:
            raise EOFError("it breaks off")
        self.digest.update(packed)
        return packed


class Content:
    """The bytes of a member, as a stream."""

    def __init__(self, plain: Unpacked, size: int):
        self._plain, self._left, self._padding = plain, size, -size % BLOCK

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end alone."""
        block = exactly(self._plain, min(size, self._left))
        self._left -= len(block)
        return block

    def skip(self) -> None:
        """Go on to the next header."""
        while self.read(1 << 16):
            pass
        exactly(self._plain, self._padding)


def members(plain: Unpacked) -> Iterator[tuple[tarfile.TarInfo, Content]]:
    """Yield each member of a tar file, name and size as they hold, with its bytes.

    They are to be read before the next member is asked for.

    Raises:
        UserError: it holds far more than Caltech-101.
        tarfile.TarError, EOFError, ValueError: it is damaged.
    """
    extended = {}  # what headers say of the member after them
    for _ in range(MAX_HEADERS):
        block = plain.read(BLOCK)
        if not block.strip(b"\0"):  # the end
            while plain.read(1 << 16):
                pass
            return
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if member.type in EXTENDED:
            extended |= _extended(plain, member)
            continue
        if b"path" in extended:
            member.name = extended[b"path"].decode("utf-8", "surrogateescape").rstrip("/")
        member.size = int(extended.get(b"size", member.size))
        if any(name.startswith(b"GNU.sparse") for name in extended):
            member.type = tarfile.GNUTYPE_SPARSE
        if member.size < 0:
            raise ValueError("a negative size")
        if member.size > plain.left:
            raise too_much(plain.archive)
        extended = {}
        content = Content(plain, member.size if member.type in FILES else 0)
        yield member, content
        content.skip()
    raise too_much(plain.archive)


def _extended(plain, member):
    """Return what a header says of the next member, {b"path": ...}."""
    if not 0 <= member.size <= MAX_EXTENDED:
        raise UserError(f"{plain.archive}: a name or header of over {MAX_EXTENDED:,} bytes in it")
    text = exactly(plain, member.size)
    exactly(plain, -member.size % BLOCK)
    if member.type == tarfile.GNUTYPE_LONGNAME:
        return {b"path": text.split(b"\0")[0]}
    return dict(_records(text)) if member.type in OF_NEXT else {}


def _records(text):
    """Yield the (name, value) of an extended header: "12 path=a/b" and a line feed for each."""
    start = 0
    while start < len(text):
        length = text[start : start + 20].split(b" ")[0]
        end = start + int(length)
        name, equals, value = text[start + len(length) + 1 : end].partition(b"=")
        if end > len(text) or not equals or not value.endswith(b"\n"):  # nor if `end` < `start`
            raise ValueError("an extended header that is none")
        yield name, value[:-1]
        start = end


def exactly(plain: Unpacked, size: int) -> bytes:
    """Return `size` bytes; raise EOFError where there are fewer."""
    block = plain.read(size)
    if len(block) < size:
        raise EOFError("it breaks off")
    return block


def too_much(archive: Path) -> UserError:
    """Return the error of an archive beyond the bounds above."""
    return UserError(
        f"{archive}: holds far more than Caltech-101; not unpacked: give the official archive"
    )
