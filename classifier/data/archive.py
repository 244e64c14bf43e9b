"""Caltech-101's archive: fetched with resume and checksum, unpacked whole or not at all."""

import contextlib
import gzip
import hashlib
import http.client
import lzma
import os
import re
import shutil
import struct
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from classifier.errors import UserError
from classifier.files import make_folder

URL = "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip"
ZIP_MD5 = "3138e1922a9193bfa496528edbbc45d0"
TAR_NAME = "101_ObjectCategories.tar.gz"
TAR_MD5 = "b224c7392d521a49829488ab0f1120d9"
BACKGROUND = "BACKGROUND_Google"  # not one of the 101 categories: pictures of none of them
MAX_BYTES, MAX_FILES = 4 << 30, 200_000  # Caltech-101 has 130 MB in 9,144 files
MAX_HEADER = 1 << 20  # of a member's headers together; tarfile would take any size to memory
MAX_DOWNLOAD = 1 << 30
TIMEOUT = 30  # seconds without a byte

# Windows opens a device for these, whatever their suffix.
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.I | re.S)


def md5(path: str | os.PathLike) -> str:
    """Return the MD5 of a file, hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch(dataset_path: str | os.PathLike, url: str = URL, checksum: str = ZIP_MD5) -> str | None:
    """Download Caltech-101 and unpack it below `dataset_path`.

    Where its `train` stands already nothing is done, and no connection or archive is needed.

    Returns:
        a note for the user if it stood already, else None.

    Raises:
        UserError: as `download` and `unpack` do.
    """
    note = _already(Path(dataset_path))
    return note or unpack(download(dataset_path, url, checksum), dataset_path)


def _already(folder):
    train = folder / "train"
    return f"{train} is there already: left as it is" if train.is_dir() else None


def download(dataset_path: str | os.PathLike, url: str = URL, checksum: str = ZIP_MD5) -> Path:
    """Fetch the official archive into `dataset_path`, going on where an earlier try broke off.

    Returns:
        path of the archive, its checksum proven.

    Raises:
        UserError: no connection, or the file is not the official one (it is then removed).
    """
    folder = Path(dataset_path)
    make_folder(folder)
    target = folder / url.rsplit("/", 1)[-1]
    if target.is_file() and md5(target) == checksum:
        return target
    temporary = target.with_name(f".{target.name}.part")
    have = temporary.stat().st_size if temporary.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            _receive(answer, temporary, have)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416:  # 416: the part at hand is already the whole file
            raise UserError(
                f"{url}: {error}; fetch it another way and give --archive FILE"
            ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise UserError(
            f"{url}: {reason}; run the command again to go on, or fetch the file another way and "
            "give --archive FILE"
        ) from error
    if md5(temporary) != checksum:
        temporary.unlink()
        raise UserError(f"{url}: the checksum is not the official archive's; run the command again")
    temporary.replace(target)
    return target


def _receive(answer, temporary, have):
    resumed = answer.status == 206
    start = have if resumed else 0
    length = answer.headers.get("Content-Length")
    total = start + int(length) if length else None
    with (
        temporary.open("ab" if resumed else "wb") as file,
        tqdm(total=total, initial=start, unit="B", unit_scale=True, desc="Downloading") as bar,
    ):
        received = start
        while block := answer.read(1 << 16):
            received += len(block)
            if received > MAX_DOWNLOAD:
                raise OSError("more data than the archive has")
            file.write(block)
            bar.update(len(block))
    if total is not None and received < total:
        raise OSError(f"the connection broke after {received:,} of {total:,} bytes")


def unpack(archive: str | os.PathLike, dataset_path: str | os.PathLike) -> str | None:
    """Unpack Caltech-101 below `dataset_path`: train/<category>/*.jpg, BACKGROUND_Google beside.

    `train` appears in one step when all is unpacked; where it stands already, nothing is done.

    Args:
        archive: the official caltech-101.zip or the 101_ObjectCategories.tar.gz inside it.
        dataset_path: folder, made if need be.

    Returns:
        a note for the user if `train` stood already or the checksum is not the official one,
        else None.

    Raises:
        UserError: missing, damaged, encrypted, or holding anything but photographs in category
            folders.
    """
    archive, folder = Path(archive), Path(dataset_path)
    if note := _already(folder):
        return note
    if not archive.is_file():
        raise UserError(f"{archive}: no such archive; --download fetches it")
    make_folder(folder)
    temporary = folder / ".unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        official = _extract(archive, temporary)
        if not (temporary / "train").is_dir():
            raise UserError(f"{archive}: no photographs in it; give {TAR_NAME} or caltech-101.zip")
        if (temporary / BACKGROUND).is_dir():
            shutil.rmtree(folder / BACKGROUND, ignore_errors=True)
            (temporary / BACKGROUND).replace(folder / BACKGROUND)
        (temporary / "train").replace(folder / "train")
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise UserError(f"{archive}: damaged archive ({reason}); fetch it again") from error
    except OSError as error:
        if error.errno is None:  # gzip's "Not a gzipped file" and the like
            raise UserError(f"{archive}: damaged archive ({error}); fetch it again") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if not official:
        return f"{archive}: not the official archive's checksum; read all the same"
    return None


# tarfile and zipfile raise the last ones for headers that are not what they should be:
# RecursionError, a RuntimeError, for thousands of long names in a row.
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    lzma.LZMAError,
    EOFError,
    RecursionError,
    ValueError,
    LookupError,
    OverflowError,
)


def _extract(archive, temporary):
    """Unpack into `temporary`; return whether the checksum is the official one."""
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(archive.open("rb"))
        if zipfile.is_zipfile(stream):
            stream = stack.enter_context(_tar_in_zip(archive, stream))
        stream.seek(0)
        stream = _Digest(stream)
        # tarfile's own "r|gz" takes a stream that breaks off between members, and checks no CRC.
        with gzip.GzipFile(fileobj=stream) as plain:
            plain = _Bounded(archive, plain)
            with tarfile.open(fileobj=plain, mode="r|") as tar:
                _extract_members(archive, tar, plain, temporary)
            plain.left = MAX_HEADER
            while plain.read(1 << 16):
                pass
        return stream.md5.hexdigest() == TAR_MD5


@contextlib.contextmanager
def _tar_in_zip(archive, stream) -> Iterator[zipfile.ZipExtFile]:
    """Open the one TAR_NAME in a zip file."""
    try:
        with zipfile.ZipFile(stream) as outer:
            members = [m for m in outer.infolist() if PurePosixPath(m.filename).name == TAR_NAME]
            if len(members) != 1:
                raise UserError(f"{archive}: holds no {TAR_NAME}; give the official archive")
            if members[0].flag_bits & 0x1:
                raise UserError(f"{archive}: is encrypted; unpack it and give {TAR_NAME} itself")
            with outer.open(members[0]) as file:
                yield file
    except NotImplementedError as error:  # a newer zip file than Python reads
        raise UserError(
            f"{archive}: {error}; unpack it another way and give {TAR_NAME} itself"
        ) from error


def _extract_members(archive, tar, plain, temporary):
    members = size = 0
    homes = {}  # the folder in the archive that each category comes from
    for member in tqdm(tar, desc="Unpacking", unit=" files", disable=None):
        path = PurePosixPath(member.name)
        if reason := _unsafe(member):
            raise UserError(f"{archive}: {member.name[:100]!r} {reason}; not unpacked")
        members, size = members + 1, size + member.size
        if members > MAX_FILES or size > MAX_BYTES:
            raise UserError(f"{archive}: unpacks to far more than Caltech-101; not unpacked")
        plain.left = MAX_HEADER + member.size
        if member.isdir() or _of_a_mac(path):
            continue
        if len(path.parts) < 2 or path.parts[-2] == TAR_NAME.removesuffix(".tar.gz"):
            continue
        category, name = path.parts[-2:]
        home = homes.setdefault(category, path.parent)
        if home != path.parent:
            raise UserError(
                f"{archive}: {str(home)!r} and {str(path.parent)!r} are two folders of one "
                "category; give an archive with each category once"
            )
        target = (
            temporary / BACKGROUND if category == BACKGROUND else temporary / "train" / category
        )
        target.mkdir(parents=True, exist_ok=True)
        with (target / name).open("wb") as file:
            shutil.copyfileobj(tar.extractfile(member), file)


def _unsafe(member):
    """Return why a member is not unpacked, by the rules of every system on each; None if it is."""
    path = PurePosixPath(member.name)
    if ".." in path.parts or path.is_absolute() or "\\" in member.name:
        return "leads out of the folder"
    if "\0" in member.name:
        return "holds a NUL"
    if ":" in member.name:
        return "holds a colon, which Windows takes for a drive or stream"
    for part in path.parts:
        if _DEVICE.fullmatch(part):
            return "is a device on Windows"
        if part.endswith((".", " ")):
            return "ends in a dot or space, which Windows drops"
        if len(part.encode("utf-8", "surrogateescape")) > 255:
            return "is too long a name"
    if not (member.isdir() or member.isreg() or _of_a_mac(path)):
        return "is a link or device"
    return None


def _of_a_mac(path):
    return any(part.startswith(("._", ".DS_Store")) for part in path.parts)


class _Bounded:
    """A stream that refuses to give more than `left` bytes, which is set anew for each member."""

    def __init__(self, archive, stream):
        self.archive, self.stream, self.left = archive, stream, MAX_HEADER

    def read(self, size=-1):
        block = self.stream.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise UserError(
                f"{self.archive}: over {MAX_HEADER:,} bytes in one place that are of no file "
                "(a long name, padding); not unpacked"
            )
        return block


class _Digest:
    """A stream that keeps the MD5 of what was read from it."""

    def __init__(self, stream):
        self.stream = stream
        self.md5 = hashlib.md5(usedforsecurity=False)

    def read(self, size=-1):
        block = self.stream.read(size)
        self.md5.update(block)
        return block
