"""Picture files: every format and kind that is read, and every broken one as a row with its words.

One more bad file is one more row of `BAD`. Each row also asserts that nothing is printed by a decoder.
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cam_onnx.errors import CamOnnxError, InputError, LimitExceeded, RunFailed, WriteFailed
from cam_onnx.render import image
from cam_onnx.render.header import read_header
from tests.pictures import bomb, chunk, cmyk_jpeg, exif, gif, png, turned

Y, X = np.mgrid[0:40, 0:60]
RGB = np.stack([X * 4, Y * 6, 255 - X * 4], axis=2).astype(np.uint8)  # smooth, so that JPEG keeps it within a few


def encoded(suffix, pixels=RGB):
    """Encode with OpenCV itself, RGB or RGBA in."""
    order = [2, 1, 0, 3][: pixels.shape[2]] if pixels.ndim == 3 else slice(None)
    return cv2.imencode(suffix, np.ascontiguousarray(pixels[..., order]) if pixels.ndim == 3 else pixels)[1].tobytes()


PNG, JPEG = encoded(".png"), encoded(".jpg")
RGBA = np.dstack([RGB, np.full(RGB.shape[:2], 128, np.uint8)])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".gif", ".tiff"])
def test_formats(suffix):
    data = encoded(suffix)
    header = read_header(data)
    assert (header.width, header.height) == (60, 40)
    picture = image.load(data)
    assert picture.pixels.shape == (40, 60, 3)
    assert picture.pixels.dtype == np.uint8
    assert picture.notes == ()
    allowed = {".jpg": 6, ".webp": 6, ".gif": 20}.get(suffix, 0)  # OpenCV writes a GIF with few colours
    assert np.abs(picture.pixels.astype(int) - RGB).mean() <= allowed


@pytest.mark.parametrize(
    ("data", "expected", "note"),
    [
        (encoded(".png", RGB[..., 0]), RGB[..., :1].repeat(3, 2), ""),
        (encoded(".png", RGBA), np.rint(RGB * (128 / 255) + 127).astype(np.uint8), "transparent"),
        (encoded(".webp", RGBA), None, "transparent"),
        (encoded(".png", RGB.astype(np.uint16) * 257), RGB, "16 bits"),
        (encoded(".png", RGBA.astype(np.uint16) * 257), np.rint(RGB * (128 / 255) + 127).astype(np.uint8), "16 bits"),
        (encoded(".tiff", RGB.astype(np.uint16) * 257), RGB, "16 bits"),
        (png(2, 1, 0, 1, b"\0\x40"), [[[0] * 3, [255] * 3]], ""),
        (png(2, 1, 4, 8, b"\0\0\0\x64\xff"), [[[255] * 3, [100] * 3]], "transparent"),
        (
            png(2, 1, 3, 8, b"\0\0\1", chunk(b"PLTE", bytes([9, 8, 7, 6, 5, 4])) + chunk(b"tRNS", b"\0\xff")),
            [[[255] * 3, [6, 5, 4]]],
            "transparent",
        ),
        (cmyk_jpeg(), None, "CMYK"),
        (encoded(".bmp", RGBA), RGB, ""),  # the fourth byte is padding as often as alpha
        (PNG + b"something behind the end", RGB, ""),
        (png(1, 1, 2, 8, b"\0\1\2\3"), [[[1, 2, 3]]], ""),
        (png(10000, 1, 0, 8, b"\0" + bytes(10000)), np.zeros((1, 10000, 3)), ""),
    ],
    ids=["grey", "rgba", "webp alpha", "16 bit", "16 bit rgba", "tiff 16", "1 bit", "grey alpha", "palette", "cmyk",
         "bmp 32", "trailing", "1x1", "1x10000"],
)  # fmt: skip
def test_kinds(data, expected, note):
    picture = image.load(data)
    assert picture.pixels.flags.c_contiguous
    assert note in " ".join(picture.notes)
    assert bool(note) == bool(picture.notes)
    if expected is not None:
        assert np.abs(picture.pixels.astype(int) - np.asarray(expected)).max() <= 1


def test_an_animation_gives_its_first_frame_and_says_so():
    animated = image.load(gif(1, 2))
    assert animated.pixels.tolist() == [[[255, 0, 0]]]
    assert animated.notes == ("an animation: its first frame is used",)
    assert image.load(gif(2)).notes == ()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_what_opencv_makes_of_it(orientation, order):
    data = turned(JPEG, orientation, order)
    expected = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))[..., ::-1]
    picture = image.load(data)
    np.testing.assert_array_equal(picture.pixels, expected)
    assert picture.notes == (() if orientation == 1 else (f"turned upright (EXIF orientation {orientation})",))


def test_exif_orientation_6_is_a_quarter_turn_also_with_alpha():
    """Orientation 6: the camera's first row is the picture's right side."""
    data = PNG[:33] + chunk(b"eXIf", exif(6)) + PNG[33:]
    np.testing.assert_array_equal(image.load(data).pixels, np.rot90(RGB, -1))
    opaque = encoded(".png", np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)]))
    np.testing.assert_array_equal(
        image.load(opaque[:33] + chunk(b"eXIf", exif(6)) + opaque[33:]).pixels, np.rot90(RGB, -1)
    )


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_tiff_orientation_is_applied_once(orientation, quarter_turns):
    data = encoded(".tiff")
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    entries = [data[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(count)]
    entries = sorted([*entries, struct.pack("<HHIHH", 274, 3, 1, orientation, 0)], key=lambda e: e[1::-1])
    directory = struct.pack("<H", count + 1) + b"".join(entries) + bytes(4)
    picture = image.load(data[:4] + struct.pack("<I", len(data)) + data[8:] + directory)
    np.testing.assert_array_equal(picture.pixels, np.rot90(RGB, quarter_turns))


def test_damaged_exif_does_not_make_a_picture_unreadable():
    assert image.load(PNG[:33] + chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff") + PNG[33:]).pixels.shape == RGB.shape


BAD = [
    ("empty", b"", "is empty"),
    ("text", b"hello, this is no picture", "looks like text"),
    ("svg", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "looks like SVG"),
    ("html", b"<!DOCTYPE html><title>404</title>", "looks like an HTML page"),
    ("pdf", b"%PDF-1.7", "looks like PDF"),
    ("npy", b"\x93NUMPY\x01\0", "NumPy array"),
    ("lfs", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    ("heic", b"\0\0\0\x18ftypheic", "HEIC"),
    ("random", bytes(range(256)), "binary data"),
    ("half a JPEG", JPEG[: len(JPEG) // 2], "JPEG picture that is cut off"),
    ("JPEG without its end", JPEG[:-2], "JPEG picture that is cut off"),
    ("a JPEG's first bytes", JPEG[:30], "broken JPEG"),
    ("half a PNG", PNG[: len(PNG) // 2], "broken PNG"),
    ("PNG without its last byte", PNG[:-1], "broken PNG"),
    ("PNG with a bad CRC", PNG[:-20] + bytes([PNG[-20] ^ 1]) + PNG[-19:], "broken PNG"),
    ("PNG 2^31-1 wide", png(2**31 - 1, 1, 0), "2147483647 x 1"),
    ("PNG 0 high", png(5, 0, 0), "5 x 0"),
    ("half a GIF", encoded(".gif")[:400], "GIF picture"),
    ("half a BMP", encoded(".bmp")[:400], "BMP picture"),
    ("half a WebP", encoded(".webp")[:60], "broken WebP"),
    ("half a TIFF", encoded(".tiff")[:400], "broken TIFF"),
    ("float TIFF", encoded(".tiff", RGB.astype(np.float32) / 255), "TIFF picture"),
]


@pytest.mark.parametrize(("data", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_file_is_refused_in_one_line_and_quietly(data, words, tmp_path, capfd):
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words) as caught:
        image.load(path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "device"])
def test_what_is_no_file_is_refused_at_once(kind, tmp_path):
    path = tmp_path / "x"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    start = time.perf_counter()
    with pytest.raises(InputError, match="picture"):
        image.load(path)
    assert time.perf_counter() - start < 1


def test_a_bomb_is_refused_before_it_is_decoded():
    data = bomb()
    start = time.perf_counter()
    with pytest.raises(
        LimitExceeded, match=r"20000 x 20000 pixels, more than the limit of 178,000,000: .*--max-pixels"
    ):
        image.load(data)
    assert time.perf_counter() - start < 0.5


def test_the_pixel_limit_is_an_argument():
    assert image.load(PNG, max_pixels=2400).pixels.shape == RGB.shape
    with pytest.raises(LimitExceeded, match="2,399"):
        image.load(PNG, max_pixels=2399)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.sampled_from([".png", ".jpg", ".webp", ".bmp", ".gif", ".tiff"]), st.data())
def test_only_our_errors_leave_for_mutated_files(suffix, draw):
    data = bytearray(encoded(suffix))
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, min(len(data) - 1, 120)))] = draw.draw(st.integers(0, 255))
    try:
        picture = image.load(bytes(data[: draw.draw(st.integers(0, len(data)))]), max_pixels=10**6)
    except CamOnnxError:
        return
    assert picture.pixels.shape[2] == 3


@pytest.mark.parametrize("name", ["käfer 猫.png", "a b'\".png", "new\nline.png", "\x1b[31m.png", b"\xff\xfe.png"])
def test_any_file_name_works_and_is_printed_escaped(name, tmp_path):
    path = os.path.join(os.fspath(tmp_path), os.fsdecode(name))
    image.save(path, RGB)
    np.testing.assert_array_equal(image.load(path).pixels, RGB)
    with pytest.raises(LimitExceeded) as caught:
        image.load(path, max_pixels=1)
    assert str(caught.value).isprintable()


def test_a_picture_comes_from_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PNG)))
    picture = image.load("-")
    assert picture.name == "standard input"
    np.testing.assert_array_equal(picture.pixels, RGB)


def test_what_is_no_source_is_refused(monkeypatch):
    with pytest.raises(InputError, match="path or its bytes, got int"):
        image.load(3)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="no standard input"):
        image.load("-")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RGB, RGB),
        (RGB[:, ::-1], RGB[:, ::-1]),
        (RGB[..., 0], RGB[..., :1].repeat(3, 2)),
        (RGB[..., :1], RGB[..., :1].repeat(3, 2)),
        (RGBA, np.rint(RGB * (128 / 255) + 127)),
    ],
    ids=["rgb", "strided", "grey", "one channel", "rgba"],
)
def test_arrays_that_are_pictures(array, expected):
    picture = image.as_picture(array)
    assert picture.flags.c_contiguous
    np.testing.assert_allclose(picture, expected, atol=1)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (RGB.astype(np.float32) / 255, "float32: multiply by 255"),
        (RGB.astype(np.int64), "got int64"),
        (RGB.transpose(2, 0, 1), r"channels stand first, use array.transpose\(1, 2, 0\)"),
        (RGB[None], r"\(1, 40, 60, 3\)"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), "with pixels"),
        (np.zeros(5, np.uint8), r"\(5,\)"),
        ([[1, 2]], "got list"),
        (None, "NoneType"),
    ],
)
def test_arrays_that_are_none(array, words):
    with pytest.raises(InputError, match=words):
        image.as_picture(array)


@pytest.mark.parametrize("suffix", image.SUFFIXES)
def test_encode_and_back(suffix):
    data = image.encode(RGB, suffix.upper())
    assert np.abs(image.load(data).pixels.astype(int) - RGB).mean() < 6
    if suffix == ".png":
        np.testing.assert_array_equal(image.load(data).pixels, RGB)


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match=r"cannot write a picture as '.gif': use .png"):
        image.save(tmp_path / "x.gif", RGB)
    with pytest.raises(InputError, match="a file without suffix"):
        image.save(tmp_path / "x", RGB)
    with pytest.raises(InputError, match=r"70000 x 1 pixels cannot be written as .jpg: use .png"):
        image.save(tmp_path / "x.jpg", np.zeros((1, 70000, 3), np.uint8))
    with pytest.raises(WriteFailed):
        image.save(tmp_path / "missing" / "x.png", RGB)
    assert list(tmp_path.iterdir()) == []


def test_resize():
    assert image.resize(RGB, (7, 9), "area").shape == (7, 9, 3)
    assert image.resize(RGB, (40, 60)) is RGB
    np.testing.assert_array_equal(image.resize(RGB, (80, 120), "nearest")[::2, ::2], RGB)
    with pytest.raises(InputError, match="'cubic'"):
        image.resize(RGB, (7, 9), "cubic")


def test_without_opencv_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    image._cv2.cache_clear()
    try:
        with pytest.raises(RunFailed, match="pip install opencv-python"):
            image.load(PNG)
    finally:
        image._cv2.cache_clear()


def test_opencv_prints_nothing_in_a_fresh_process(tmp_path):
    """GIF and TIFF decoders log to stderr by themselves."""
    for suffix in (".gif", ".tiff", ".bmp", ".png"):
        (tmp_path / f"x{suffix}").write_bytes(encoded(suffix)[:-3])
    code = (
        "import sys; from cam_onnx.render import image; from cam_onnx.errors import CamOnnxError\n"
        "for path in sys.argv[1:]:\n"
        "    try: image.load(path)\n"
        "    except CamOnnxError: pass\n"
    )
    paths = map(str, sorted(tmp_path.iterdir()))
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_eight_threads_read_the_same_bits():
    results = []
    threads = [threading.Thread(target=lambda: results.append(image.load(JPEG).pixels)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(np.array_equal(results[0], other) for other in results)
