"""One way to decode a photograph: every colour space, orientation and kind of damage."""

import errno
import io
import itertools
import os
import random
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from classifier.data import images
from classifier.data.images import ImageError, decode, files_below, read_rgb, square

ODD_NAMES = [
    "with space.jpg",
    'it\'s "quoted".jpg',
    "two\nlines.jpg",
    "-leading.jpg",
    "été 日本.jpg",
]
QUADRANTS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (240, 240, 10)]


def encoded(image, kind, **options):
    """Return an image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(mode, colour):
    return Image.new(mode, (16, 12), colour)


def quadrants():
    """Return a picture of 32x16 pixels that no rotation or reflection leaves as it is."""
    image = Image.new("RGB", (32, 16))
    for number, colour in enumerate(QUADRANTS):
        image.paste(colour, (number % 2 * 16, number // 2 * 8, 32, 16))
    return image


def palette(**options):
    image = Image.new("P", (16, 12), 1)
    image.putpalette([9, 8, 7, 200, 30, 40])
    return encoded(image, "PNG", **options)


def palette_with_alpha(alpha):
    image = Image.open(io.BytesIO(palette())).convert("PA")
    image.putalpha(alpha)
    return encoded(image, "TIFF")


def premultiplied(mode, colour):
    """Return a TIFF that says its colours are multiplied by its alpha already."""
    data = encoded(plain(mode, colour), "TIFF")
    return data.replace(struct.pack("<HHII", 338, 3, 1, 2), struct.pack("<HHII", 338, 3, 1, 1))


def deep(value, kind="PNG", dtype="<u2"):
    return encoded(Image.fromarray(np.full((12, 16), value, dtype)), kind)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(plain("RGB", (12, 200, 99)), "PNG"), (12, 200, 99)),
        (encoded(plain("RGB", (12, 200, 99)), "BMP"), (12, 200, 99)),
        (encoded(plain("RGB", (12, 200, 99)), "TIFF"), (12, 200, 99)),
        (encoded(plain("RGB", (12, 200, 99)), "WEBP", lossless=True), (12, 200, 99)),
        (encoded(plain("L", 77), "PNG"), (77, 77, 77)),
        (encoded(plain("L", 77), "JPEG", quality=95), (77, 77, 77)),
        (encoded(plain("1", 1), "PNG"), (255, 255, 255)),
        (encoded(plain("1", 0), "PNG"), (0, 0, 0)),
        (palette(), (200, 30, 40)),
        (palette(transparency=0), (200, 30, 40)),
        (palette(transparency=1), (255, 255, 255)),
        (palette_with_alpha(255), (200, 30, 40)),
        (palette_with_alpha(0), (255, 255, 255)),
        (encoded(plain("RGBA", (12, 200, 99, 255)), "PNG"), (12, 200, 99)),
        (encoded(plain("RGBA", (12, 200, 99, 0)), "PNG"), (255, 255, 255)),
        (encoded(plain("RGBA", (0, 100, 255, 51)), "PNG"), (204, 224, 255)),
        (encoded(plain("LA", (0, 51)), "PNG"), (204, 204, 204)),
        (premultiplied("LA", (51, 128)), (178, 178, 178)),
        (premultiplied("RGBA", (50, 20, 10, 128)), (177, 147, 137)),
        (encoded(plain("RGB", (1, 2, 3)), "PNG", transparency=(1, 2, 3)), (255, 255, 255)),
        (deep(0), (0, 0, 0)),
        (deep(300), (1, 1, 1)),
        (deep(200 * 257), (200, 200, 200)),
        (deep(65535), (255, 255, 255)),
        (deep(200 * 257, "TIFF", ">u2"), (200, 200, 200)),
    ],
)
def test_every_colour_space_becomes_rgb(data, expected):
    pixels = decode(io.BytesIO(data), 8)
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.broadcast_to(expected, (8, 8, 3)))


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "YCbCr"])
def test_jpeg_colours(mode):
    data = encoded(plain("RGB", (200, 40, 60)).convert(mode), "JPEG", quality=95)
    difference = decode(io.BytesIO(data), 8).astype(int) - (200, 40, 60)
    assert np.abs(difference).max() <= 3


def test_the_whole_picture_is_resized_to_the_square():
    pixels = decode(io.BytesIO(encoded(quadrants(), "PNG")), 40)
    corners = pixels[[2, 2, -3, -3], [2, -3, 2, -3]]
    np.testing.assert_array_equal(corners, QUADRANTS)


def test_it_is_resized_with_bicubic_weights():
    """An edge that is enlarged overshoots by 9 of 128 grey levels; bilinear weights never do."""
    edge = Image.fromarray(np.repeat([64, 192], 8)[None].astype(np.uint8)).convert("RGB")
    row = square(edge, 64)[0, :, 0]
    assert (row.min(), row.max()) == (55, 201)
    fine = Image.fromarray(np.tile([0, 255], (64, 32)).astype(np.uint8)).convert("RGB")
    assert np.abs(square(fine, 16)[4:-4, 4:-4].astype(int) - 128).max() <= 10  # antialiased


def test_first_frame_of_an_animation():
    red, blue = plain("RGB", (255, 0, 0)), plain("RGB", (0, 0, 255))
    for kind in ("GIF", "WEBP"):
        data = encoded(red, kind, save_all=True, append_images=[blue, blue], lossless=True)
        assert decode(io.BytesIO(data), 2)[0, 0].tolist() == [255, 0, 0], kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_every_orientation_gives_the_upright_picture(kind):
    turn = Image.Transpose
    stored_as = {
        1: None, 2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE, 6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270,
    }  # fmt: skip
    upright = quadrants()
    for orientation, operation in stored_as.items():
        stored = upright if operation is None else upright.transpose(operation)
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
        seen = read_rgb(io.BytesIO(encoded(stored, kind, exif=exif, **options)))
        assert seen.size == upright.size, orientation
        difference = np.abs(np.asarray(seen, int) - np.asarray(upright, int))
        assert difference.max() <= 3, orientation


@pytest.mark.parametrize("exif", [b"garbage", b"II*\0", b""])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_metadata_does_not_cost_the_picture(kind, exif):
    data = encoded(plain("RGB", (255, 255, 255)), kind, exif=b"Exif\0\0" + exif)
    assert decode(io.BytesIO(data), 2).min() > 250


def png_claiming(width, height):
    """Return a small PNG whose header claims another size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = bytearray(encoded(plain("RGB", (1, 2, 3)), "PNG"))
    data[12:33] = header + struct.pack(">I", zlib.crc32(header))
    return bytes(data)


NOISE = encoded(Image.frombytes("RGB", (64, 64), random.Random(0).randbytes(64 * 64 * 3)), "JPEG")
BAD = {
    "zero bytes": (b"", "empty file"),
    "text": (b"no image at all\n" * 20, "not an image"),
    "half a JPEG": (NOISE[: len(NOISE) // 2], "truncated"),
    "nearly all of a JPEG": (NOISE[:-100], "truncated"),
    "JPEG header": (NOISE[:100], "(?i)truncated"),
    "half a PNG": (encoded(quadrants(), "PNG")[:60], "truncated"),
    "absurd size": (png_claiming(100_000, 100_000), "too many pixels"),
    "108 megapixels": (png_claiming(12_000, 9_000), "12000x9000 pixels, over 25,000,000"),
    "26 megapixels": (png_claiming(5_200, 5_000), "5200x5000 pixels, over 25,000,000"),
    "a thread": (png_claiming(65_536, 1), "65536x1 pixels, a side over 65,535"),
    "script for another program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an"),
}


@pytest.mark.parametrize("as_path", [True, False])
@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_why_in_a_few_words(name, as_path, tmp_path):
    data, reason = BAD[name]
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=reason) as caught:
        decode(path if as_path else io.BytesIO(data), 8)
    text = str(caught.value)
    assert 0 < len(text) < 100
    assert text.isprintable()


def test_what_is_no_file_says_so(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        decode(tmp_path / "none.jpg", 8)
    with pytest.raises(ImageError):
        decode(tmp_path, 8)


def test_a_pipe_is_no_photograph(tmp_path):
    def too_long(_signal, _frame):
        raise TimeoutError("waits for the pipe")

    os.mkfifo(tmp_path / "pipe.jpg")
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(2)
    try:
        with pytest.raises(ImageError) as caught:
            decode(tmp_path / "pipe.jpg", 8)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert "waits" not in str(caught.value)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=20),
    st.floats(0, 1),
)
def test_damage_gives_pixels_or_bad_image_and_nothing_else(kind, changes, kept):
    data = bytearray(encoded(quadrants(), kind))
    for place, value in changes:
        data[int(place * len(data))] = value
    try:
        pixels = decode(io.BytesIO(data[: round(kept * len(data))]), 8)
    except ImageError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert (pixels.shape, pixels.dtype) == ((8, 8, 3), np.uint8)


class Failing(io.BytesIO):
    """A file whose reads fail with `error` from byte `place` on."""

    def __init__(self, data, place, error):
        super().__init__(data)
        self.place, self.failure = place, error

    def read(self, size=-1):
        if size < 0 or self.tell() + size > self.place:
            raise self.failure
        return super().read(size)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_a_failing_disk_is_not_a_bad_image(kind):
    data = encoded(quadrants().resize((640, 480)), kind)
    for place in (0, 1, 20, len(data) // 2):
        with pytest.raises(OSError) as caught:
            decode(Failing(data, place, OSError(errno.EIO, "Input/output error")), 8)
        assert caught.value.errno == errno.EIO, place


def test_a_failing_disk_is_no_damaged_metadata():
    # TIFF keeps its metadata where the pixels are; Pillow goes on without what it cannot read.
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a long description " * 1000
    data = encoded(quadrants(), "TIFF", exif=exif)
    for place in range(0, len(data), 997):
        with pytest.raises(OSError) as caught:
            decode(Failing(data, place, OSError(errno.EIO, "Input/output error")), 8)
        assert caught.value.errno == errno.EIO, place


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_one_read_that_fails_is_told_whatever_a_decoder_makes_of_it(kind):
    class FailingOnce(io.BytesIO):
        left = 0

        def read(self, size=-1):
            self.left -= 1
            if self.left == 0:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a long description " * 100
    options = {"exif": exif} if kind in ("JPEG", "PNG", "TIFF", "WEBP") else {}
    data = encoded(quadrants(), kind, **options)
    for number in itertools.count(1):
        file = FailingOnce(data)
        file.left = number
        try:
            decode(file, 8)
        except OSError as error:
            assert error.errno == errno.EIO, number
        else:
            break
    assert file.left > 0, "it went on without what it could not read"
    assert number > 3


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENFILE, errno.EMFILE])
def test_a_file_that_does_not_open_is_not_a_bad_image(number, tmp_path, monkeypatch):
    (tmp_path / "photo.png").write_bytes(encoded(quadrants(), "PNG"))

    def fail(path, *_args, **_options):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError, match="photo.png") as caught:
        decode(tmp_path / "photo.png", 8)
    assert caught.value.errno == number


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "photo.png").write_bytes(b"")
    failing = Failing(b"", -1, OSError(errno.EIO, "Input/output error"))
    failing.seek = lambda *_: 1000
    monkeypatch.setattr(Path, "open", lambda *_: failing)
    with pytest.raises(OSError, match="photo.png"):
        decode(tmp_path / "photo.png", 8)


@pytest.mark.parametrize("place", [0, 20, 60])
def test_want_of_memory_is_not_a_bad_image(place):
    for kind in ("JPEG", "PNG", "TIFF"):
        data = encoded(quadrants(), kind)
        with pytest.raises(MemoryError, match="not enough memory"):
            decode(Failing(data, place, MemoryError()), 8)


@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory error when reading")])
def test_want_of_memory_in_a_decoder_names_the_photograph(error, tmp_path, monkeypatch):
    (tmp_path / "photo.png").write_bytes(encoded(quadrants(), "PNG"))

    def fail(*_):
        raise error

    for name in ("load", "getexif"):
        with monkeypatch.context() as patch:
            patch.setattr(f"PIL.PngImagePlugin.PngImageFile.{name}", fail)
            if name == "load" or isinstance(error, MemoryError):
                with pytest.raises(MemoryError, match="photo.png: not enough memory"):
                    decode(tmp_path / "photo.png", 8)


def test_no_read_asks_for_more_than_a_file_may_have():
    asked = []
    reader = images._Reader(SimpleNamespace(read=asked.append))
    reader.read(1 << 60)
    reader.read(5)
    assert asked == [images.MAX_BYTES, 5]


def test_a_damaged_length_is_not_want_of_memory(tmp_path):
    data = bytearray(encoded(quadrants(), "TIFF", description="x" * 100))
    start = data.index(struct.pack("<HH", 0x010E, 2))
    data[start + 4 : start + 8] = struct.pack("<I", 2**32 - 1)
    (tmp_path / "photo.tif").write_bytes(data)
    assert read_rgb(tmp_path / "photo.tif").size == (32, 16)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.25, 1], [0, 64, 255]),
        ([0, 0.5, 1.02], [0, 128, 255]),  # a resize overshoots
        ([-0.1, 0.5, 0.8], [0, 128, 204]),
        ([0, 0.1, 0.2], [0, 26, 51]),
        ([0, 100.4, 255], [0, 100, 255]),
        ([-7, 3, 300], [0, 3, 255]),
        ([0, 0, 0], [0, 0, 0]),
        ([np.nan, 0.5, 1], [0, 128, 255]),
        ([np.nan, 100, 200], [0, 100, 200]),
        ([np.nan, np.nan, np.nan], [0, 0, 0]),
        ([-np.inf, 0.5, np.inf], [0, 128, 255]),
    ],
)
def test_float_pictures_are_scaled_by_what_they_span(values, expected):
    image = Image.fromarray(np.array([values], np.float32))
    seen = np.asarray(read_rgb(io.BytesIO(encoded(image, "TIFF"))))
    np.testing.assert_array_equal(seen, np.array(expected)[None, :, None].repeat(3, axis=2))


def test_32_bit_grey_is_scaled_as_16_bit():
    image = Image.fromarray(np.array([[-5, 0, 200 * 257, 65535, 10**6]], np.int32))
    seen = np.asarray(read_rgb(io.BytesIO(encoded(image, "TIFF"))))
    assert seen[0, :, 0].tolist() == [0, 0, 200, 255, 255]


def many_scans(count):
    """Return a progressive JPEG whose last scan stands there `count` times more."""
    data = encoded(quadrants(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + data[-2:]


def test_a_jpeg_of_very_many_scans_is_refused():
    ordinary = many_scans(0).count(b"\xff\xda")
    assert 4 < ordinary < 20
    assert read_rgb(io.BytesIO(many_scans(50 - ordinary))).size == (32, 16)
    for more in (51 - ordinary, 5000):
        with pytest.raises(ImageError, match=f"^{ordinary + more} scans, over 50$"):
            read_rgb(io.BytesIO(many_scans(more)))


def test_only_scans_of_the_picture_itself_count():
    marker = b"\xff\xda"
    exif = encoded(quadrants(), "JPEG", exif=b"Exif\0\0" + marker * 200)
    assert exif.count(marker) > 200
    restarts = encoded(quadrants().resize((640, 480)), "JPEG", restart_marker_blocks=1)
    assert sum(restarts.count(bytes([0xFF, 0xD0 + i])) for i in range(8)) > 1000
    filled = many_scans(0).replace(marker, b"\xff" * 300 + marker)  # fill bytes are allowed
    after = many_scans(0) + marker * 200  # behind the end: another picture of the camera's, say
    for data in (exif, restarts, filled, after):
        read_rgb(io.BytesIO(data))


def test_a_jpeg_of_very_many_segments_is_refused():
    data = encoded(quadrants(), "JPEG")
    with pytest.raises(ImageError, match="^over 10,000 segments$"):
        read_rgb(io.BytesIO(data[:2] + b"\xff\xe9\0\2" * 20_000 + data[2:]))


def test_a_file_too_long_is_refused(monkeypatch):
    data = encoded(quadrants(), "PNG")
    monkeypatch.setattr(images, "MAX_BYTES", len(data))
    assert read_rgb(io.BytesIO(data)).size == (32, 16)
    with pytest.raises(ImageError, match=f"{len(data) + 1:,} bytes, over {len(data):,}"):
        read_rgb(io.BytesIO(data + b"x"))


def test_each_format_has_its_limit(monkeypatch):
    data = {kind: encoded(quadrants(), kind) for kind in ("JPEG", "PNG", "TIFF", "WEBP")}
    for name, kinds in {
        "MAX_PIXELS": ["JPEG"], "MAX_PIXELS_WHOLE": ["PNG", "TIFF"], "MAX_PIXELS_WEBP": ["WEBP"],
    }.items():  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(images, name, 511)
            for kind in kinds:
                with pytest.raises(ImageError, match="^32x16 pixels, over 511$"):
                    read_rgb(io.BytesIO(data[kind]))
            for kind in data.keys() - {*kinds}:
                assert read_rgb(io.BytesIO(data[kind])).size == (32, 16)
    assert images.MAX_PIXELS == 50_000_000


def test_only_pictures_above_the_limit_are_halved(monkeypatch):
    for kind in ("JPEG", "PNG"):
        for limit, size in ((512, (32, 16)), (511, (16, 8))):
            monkeypatch.setattr(images, "HALVE_ABOVE", limit)
            assert read_rgb(io.BytesIO(encoded(quadrants(), kind))).size == size, kind


def large_pictures():
    """Return pictures of 203x101 pixels in every mode: (format, picture)."""
    smooth = quadrants().resize((203, 101), Image.Resampling.BICUBIC)
    grey = np.asarray(smooth.convert("L"))
    pale = smooth.convert("RGBA")
    pale.putalpha(Image.fromarray(grey))
    modes = {mode: smooth.convert(mode) for mode in ("RGB", "L", "P", "1")}
    return [
        *(("PNG", modes[mode]) for mode in modes),
        ("PNG", pale),
        ("PNG", pale.convert("LA")),
        ("PNG", Image.fromarray(grey.astype(np.uint16) * 257)),
        ("TIFF", Image.fromarray(grey.astype(np.int32) * 257)),
        ("TIFF", Image.fromarray(grey.astype(np.float32) / 255)),
        ("TIFF", smooth.convert("CMYK")),
        ("JPEG", smooth),
        ("JPEG", smooth.convert("CMYK")),
        ("WEBP", pale),
        ("GIF", smooth),
    ]


@pytest.mark.parametrize("orientation", [1, 6])
def test_large_pictures_are_halved_and_look_the_same(orientation, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind, image in large_pictures():
        options = {} if kind == "GIF" else {"exif": exif}
        data = encoded(image, kind, **options)
        whole = read_rgb(io.BytesIO(data))
        with monkeypatch.context() as patch:
            patch.setattr(images, "HALVE_ABOVE", 20_000)
            patch.setattr(images, "BAND", 1000)
            half = read_rgb(io.BytesIO(data))
        assert half.size == ((whole.width + 1) // 2, (whole.height + 1) // 2), (kind, image.mode)
        difference = square(half, 16).astype(int) - square(whole, 16)
        assert np.abs(difference).max() <= 20, (kind, image.mode)
        assert np.abs(difference).mean() <= 2, (kind, image.mode)


def test_smaller_pictures_keep_every_pixel():
    random = np.random.default_rng(0)
    photo = Image.fromarray(random.integers(0, 256, (31, 47, 3), np.uint8)).resize((470, 310))
    for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF"):
        for mode in ("RGB", "L", "P", "CMYK"):
            for orientation in (1, 3, 8):
                exif = Image.Exif()
                exif[0x0112] = orientation
                try:
                    options = {} if kind == "BMP" else {"exif": exif}
                    data = encoded(photo.convert(mode), kind, **options)
                except OSError:  # a mode that the format has not
                    continue
                with Image.open(io.BytesIO(data)) as image:
                    expected = ImageOps.exif_transpose(image).convert("RGB")
                assert read_rgb(io.BytesIO(data)).tobytes() == expected.tobytes(), (kind, mode)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory: Linux only")
@pytest.mark.parametrize("mode", ["RGBA", "I;16"])
def test_the_largest_pictures_fit_in_memory(mode, tmp_path):
    image = Image.new(mode, (5_000, 5_000), 30_000 if mode == "I;16" else (200, 30, 40, 128))
    image.save(tmp_path / "large.png", compress_level=1)
    script = (
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from classifier.data.images import decode\n"
        "decode(sys.argv[1], 64)\n"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "large.png")]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert int(result.stdout) < 300_000  # kB


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain("RGB", (9, 8, 7)).save(tmp_path / name, "PNG")
    assert files_below(tmp_path) == [tmp_path / name]
    for path in (tmp_path / name, str(tmp_path / name), name):
        assert decode(path, 2)[0, 0].tolist() == [9, 8, 7]


def test_files_below_are_sorted_and_not_hidden(tmp_path):
    wanted = ["a/2.jpg", "a/10.jpg", "a/b/1.jpg", "a b/1.jpg", "Z.jpg", "é.jpg"]
    for name in [*reversed(wanted), ".hidden.jpg", "a/.DS_Store", ".git/1.jpg", "a/.x/y/1.jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = files_below(tmp_path)
    assert found == sorted(tmp_path / name for name in wanted)
    assert files_below(tmp_path / "none") == []


def test_files_below_follows_links_but_not_in_circles(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/1.jpg").touch()
    folder = tmp_path / "class"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/2.jpg").touch()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "deep/circle").symlink_to(folder)
    assert files_below(folder) == [folder / "deep/2.jpg", folder / "linked/1.jpg"]


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "class").mkdir()
    scandir = os.scandir

    def fail(path):
        if Path(path).name == "class":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(PermissionError, match="class"):
        files_below(tmp_path)
