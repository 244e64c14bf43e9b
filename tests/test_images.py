"""One way to decode a photograph: every colour space, orientation and kind of damage."""

import io
import os
import random
import signal
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from classifier.data.images import ImageError, decode, files_below, read_rgb

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
        (encoded(plain("RGBA", (12, 200, 99, 255)), "PNG"), (12, 200, 99)),
        (encoded(plain("RGBA", (12, 200, 99, 0)), "PNG"), (255, 255, 255)),
        (encoded(plain("RGBA", (0, 100, 255, 51)), "PNG"), (204, 224, 255)),
        (encoded(plain("LA", (0, 51)), "PNG"), (204, 204, 204)),
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
    "108 megapixels": (png_claiming(12_000, 9_000), "12000x9000 pixels, over 100,000,000"),
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
