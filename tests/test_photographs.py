"""Bad photographs: seeded damage of every kind of file, and files that ask for too much."""

import contextlib
import io
import random
import struct
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import ROOT, run
from PIL import Image

sys.path.insert(0, str(ROOT / "benchmarks"))

from faulty import pictures
from faulty.pictures import chunk, encoded, photo, png, tiff

from classifier.data import images
from classifier.data.arrays import Arrays
from classifier.data.images import ImageError, read_rgb
from classifier.data.splits import SPLITS

USUAL = {256: 24, 257: 18, 258: [8] * 3, 262: 2, 277: 3}  # tags of a TIFF of 24x18 pixels
JPEG, GIF = encoded(photo(0), "JPEG"), encoded(photo(0), "GIF")
FIRST = GIF.index(b",\0\0\0\0")


def refusal(data):
    """Return why a file is refused."""
    with pytest.raises(ImageError) as caught:
        read_rgb(io.BytesIO(data))
    return str(caught.value)


def test_every_kind_is_read_or_refused():
    refused = {*pictures._refused(), "samples f8 3.tif"}  # Pillow reads no double precision
    for name, data in pictures.seeds().items():
        if name in refused:
            assert refusal(data) in ("not an image", "empty file"), name
        else:
            assert min(read_rgb(io.BytesIO(data)).size) > 10, name


def test_damage_gives_a_picture_or_a_reason_in_one_line():
    read = 0
    for name, data in pictures.bad(seed=1, count=150):
        try:
            read += read_rgb(io.BytesIO(data)).mode == "RGB"
        except ImageError as error:
            assert str(error).isprintable(), name
            assert 0 < len(str(error)) < 200, name
    assert 15 < read < 100


@pytest.mark.parametrize(
    "data",
    [
        GIF[:FIRST] + b"!\xfe\1a\0" * 1000 + GIF[FIRST:],
        GIF[:FIRST] + b"!\xfe" + b"\1a" * 1000 + b"\0" + GIF[FIRST:],
        GIF[:FIRST] + b"\1" * 1000 + GIF[FIRST:],
        png(19, 13, 8, 2, more=chunk(b"prVt", b"") * 1000),
        png(19, 13, 8, 2, more=chunk(b"IDAT", b"") * 1000),
        JPEG[:2] + b"\xff" * 1000 + JPEG[2:],
        JPEG[:2] + b"\xff\xe9\0\2" + b"\xff\0" * 1000 + JPEG[2:],
        b"P6\n#" + b"x" * 1000 + b"\n24 18 255\n" + bytes(24 * 18 * 3),
        b"P6 24 48 7\n" + bytes(24 * 48 * 3),
        b"P6 24 48 65535\n" + bytes(24 * 48 * 6),
        pictures.bmp(8, 1, b"\1\1" * 1000, 40, 30),
        tiff({**USUAL, 257: 1000, 278: 1}, [bytes(72)] * 1000),
    ],
)
def test_a_file_of_very_many_parts_is_refused(data, monkeypatch):
    """Each costs a call of Python: ten million of them are a minute."""
    monkeypatch.setattr(images, "MAX_READS", 500)
    assert refusal(data) == "made of over 500 parts"


def test_ordinary_pictures_have_few_parts(monkeypatch):
    monkeypatch.setattr(images, "MAX_READS", 500)
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        assert read_rgb(io.BytesIO(encoded(photo(0, 640, 480), kind))).size == (640, 480)


def test_a_decoder_that_hides_the_limit_does_not_get_past_it(monkeypatch):
    monkeypatch.setattr(images, "MAX_READS", 500)
    read = images._Reader.read

    def hidden(reader, size=-1):
        try:
            return read(reader, size)
        except ImageError:
            raise OSError("hidden") from None

    monkeypatch.setattr(images._Reader, "read", hidden)
    exif = struct.pack("<H", 1000) + struct.pack("<HHLL", 40_000, 3, 1, 0) * 1000 + bytes(4)
    data = tiff({**USUAL, 0x8769: 8 + 24 * 18 * 3}, [bytes(24 * 18 * 3) + exif])
    assert refusal(data) == "made of over 500 parts"


def test_words_of_a_ppm_are_bounded(monkeypatch):
    """Pillow deletes comments one by one, each time copying the rest."""
    data = b"P3 24 18 255\n" + b"1 " * (24 * 18 * 3)
    assert read_rgb(io.BytesIO(data)).size == (24, 18)
    some, more = (data[:13] + b"#\n" * count + data[13:] for count in (10_000, 10_001))
    assert read_rgb(io.BytesIO(some)).size == (24, 18)
    assert refusal(more) == "over 10,000 comments"
    monkeypatch.setattr(images, "MAX_WORDS", len(data) - 1)
    assert refusal(data) == f"{len(data):,} bytes in words, over {len(data) - 1:,}"


def test_segments_of_exif_are_bounded():
    """Pillow joins them, each time copying what it has."""
    exif = b"\xff\xe1\x00\x10Exif\0\0" + bytes(8)
    assert read_rgb(io.BytesIO(JPEG[:2] + exif * 100 + JPEG[2:])).size == (24, 18)
    for hidden in (b"", b"\xff\xd9", b"\xff\xf0\xff\xff"):  # an end; a segment Pillow steps into
        more = JPEG[:2] + hidden + exif * 101 + JPEG[2:]
        assert refusal(more) == "over 100 segments of EXIF"


def test_segments_behind_an_end_count_where_there_was_no_scan():
    data = JPEG[:2] + b"\xff\xd9" + b"\xff\xe9\0\2" * 20_000 + JPEG[2:]
    assert refusal(data) == "over 10,000 segments"


@pytest.mark.parametrize("tag", [273, 320, 34_675, 65_000])
def test_numbers_in_tags_of_a_tiff_are_bounded(tag):
    """Pillow makes each of them an object, of 36 bytes, and each strip one of some hundred."""
    values, offsets = [70_000] * 300_000, 279 if tag == 273 else 273
    data = tiff({**USUAL, 278: 18, tag: values}, [bytes(24 * 18 * 3)], offsets=offsets)
    assert refusal(data).endswith(" bytes of numbers in tags, over 1,048,576")


@pytest.mark.parametrize("tag", [0x8769, 0x8825])
def test_numbers_in_metadata_of_a_tiff_are_bounded(tag):
    inner = struct.pack("<H", 1) + struct.pack("<HHLL", 40_000, 4, 300_000, 8) + bytes(4)
    body = bytes(1_200_000)
    data = tiff({**USUAL, 278: 18, tag: 8 + len(body)}, [body + inner])
    assert refusal(data).endswith(" bytes of numbers in tags, over 1,048,576")


def test_bytes_in_tags_of_a_tiff_are_not():
    file = io.BytesIO()
    layers = b"8BIM" * 500_000
    photo(0).save(file, "TIFF", tiffinfo={37_724: layers})
    assert file.getvalue().count(b"8BIM") == 500_000
    assert read_rgb(file).size == (24, 18)


def test_strips_of_a_tiff_are_bounded(monkeypatch):
    monkeypatch.setattr(images, "MAX_STRIPS", 17)
    data = tiff({**USUAL, 278: 1}, [bytes(72)] * 18)
    assert refusal(data) == "18 strips, over 17"


def test_long_metadata_are_not_searched_for_the_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6
    for more, size in ((0, (18, 24)), (images.MAX_METADATA, (24, 18))):
        data = encoded(photo(0), "PNG", exif=exif.tobytes() + bytes(more))
        assert read_rgb(io.BytesIO(data)).size == size


def test_a_jpeg_kept_whole_until_its_last_scan_has_a_limit_of_its_own(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS_WHOLE", 400)
    assert read_rgb(io.BytesIO(JPEG)).size == (24, 18)
    progressive = encoded(photo(0), "JPEG", progressive=True)
    start = JPEG.index(b"\xff\xda")
    apart = JPEG[: start + 4] + b"\1\1\0" + JPEG[start + 4 + 7 :]  # a scan of one component
    for data in (progressive, progressive[: progressive.rindex(b"\xff\xda")], apart):
        assert refusal(data) == "24x18 pixels, over 400"


def test_threads_share_the_memory_that_decoding_takes(monkeypatch):
    asked = []

    def taken(size):
        asked.append(size)
        return contextlib.nullcontext()

    room = SimpleNamespace(taken=taken, most=1000)
    monkeypatch.setattr(images, "_room", room)
    progressive, pixels = encoded(photo(0), "JPEG", progressive=True), 24 * 18
    for data in (encoded(photo(0), "PNG"), progressive, JPEG):
        read_rgb(io.BytesIO(data))
    assert [asked.pop(0) for _ in range(3)] == [20 * pixels, 20 * pixels, 10 * pixels]
    monkeypatch.setattr(images, "HALVE_ABOVE", 400)  # the JPEG is halved as it is decoded
    read_rgb(io.BytesIO(JPEG))
    assert asked.pop() == 10 * pixels / 4
    read_rgb(io.BytesIO(progressive))
    assert asked.pop() == 20 * pixels  # kept whole all the same
    for options in ({}, {"lossless": True}, {"icc_profile": b"x"}):  # the three kinds of header
        read_rgb(io.BytesIO(encoded(photo(0), "WEBP", **options)))
        assert asked.pop() == 20 * pixels
    monkeypatch.setattr(images, "LONG", 100)
    read_rgb(io.BytesIO(JPEG))
    assert asked == [1000]  # all of it


def test_libraries_say_nothing_of_their_own(tmp_path):
    """Pillow's log and libtiff's C code would: a line more for a damaged file."""
    many = tiff({**USUAL, 277: 8195, 258: 8, 278: 18}, [bytes(24 * 18 * 3)])
    codes = bytearray(encoded(photo(0), "TIFF", compression="tiff_lzw"))
    codes[8:40] = b"\xff" * 32
    for name, content in (("many.tif", many), ("codes.tif", codes)):
        (tmp_path / name).write_bytes(content)
    script = (
        "import sys\n"
        "from classifier.data.images import ImageError, read_rgb\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        read_rgb(name)\n"
        "    except ImageError as error:\n"
        "        print(error)\n"
    )
    command = [sys.executable, "-c", script, "many.tif", "codes.tif"]
    told = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=True, timeout=300,
    )  # fmt: skip
    assert told.stdout.splitlines() == ["not an image", "decoder error -2"]
    assert told.stderr == ""


def test_bad_files_of_odd_names_leave_the_arrays_of_good_ones_alone(tmp_path):
    """prepro.py as users run it; predict.py is put to thousands in benchmarks/faulty."""
    chance = random.Random(0)
    good = set()
    for label in ("one", "two"):
        folder = tmp_path / "data/train" / label
        folder.mkdir(parents=True)
        for number in range(5):
            picture = Image.frombytes("RGB", (40, 30), chance.randbytes(40 * 30 * 3))
            picture.save(folder / f"good {number}.png")
            good.add(f"train/{label}/good {number}.png")
    bad = dict(pictures.bad(seed=2, count=74))
    for number, (name, data) in enumerate(bad.items()):
        (tmp_path / "data/train" / ("one", "two")[number % 2] / name).write_bytes(data)
    made = run("prepro.py", "--dataset-path", "data", "--image-size", 32, "--workers", 2,
               "--target-per-class", 0, cwd=tmp_path)  # fmt: skip
    assert made.returncode == 0, made.stderr
    skipped = [line for line in made.stderr.splitlines() if line.startswith("skipped: ")]
    with Arrays(tmp_path / "data.h5") as arrays:
        used = {name for split in SPLITS for name in arrays.sources(split)}
    assert good < used
    assert 0 < len(used - good) < len(bad)
    assert len(used - good) + len(skipped) == len(bad)
