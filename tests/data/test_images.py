"""Pictures of every odd kind, and the views that training and validation see."""

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from varscale.data.images import (
    MOST_PIXELS,
    Header,
    ImageError,
    ViewRule,
    decode,
    encode,
    inspect,
    random_crop,
    resized,
    validation_view,
)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours, as photographs have them."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def png(size: tuple[int, int], bits: int, colour_type: int, samples: bytes, clear: bytes | None = None) -> bytes:
    """A PNG of one row of samples, of kinds that Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + (b"" if clear is None else chunk(b"tRNS", clear))
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IDAT", zlib.compress(b"\0" + samples)) + chunk(b"IEND", b"")


def pixels(data: bytes) -> list[tuple[int, int, int]]:
    picture = decode(data)
    assert picture.mode == "RGB"
    return [tuple(pixel) for pixel in np.asarray(picture).reshape(-1, 3).tolist()]


WHITE = (255, 255, 255)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (png((3, 1), 16, 0, struct.pack(">3H", 0, 32896, 65535)), [(0, 0, 0), (128, 128, 128), WHITE]),
        (png((2, 1), 16, 0, struct.pack(">2H", 1000, 514), b"\x03\xe8"), [WHITE, (2, 2, 2)]),
        (png((2, 1), 16, 2, struct.pack(">6H", 512, 1024, 2048, 0, 0, 65535)), [(2, 4, 8), (0, 0, 255)]),
        (png((2, 1), 16, 2, bytes([1, 2, 3, 4, 5, 6] * 2), bytes([1, 2, 3, 4, 5, 6])), [WHITE, WHITE]),
        (png((8, 1), 1, 0, b"\xa0"), [WHITE, (0, 0, 0), WHITE] + [(0, 0, 0)] * 5),
        (png((4, 1), 2, 0, b"\x1b", b"\0\1"), [(0, 0, 0), WHITE, (170, 170, 170), WHITE]),
        (png((2, 1), 4, 0, b"\x5a", b"\0\5"), [WHITE, (170, 170, 170)]),
        (png((2, 1), 8, 0, b"\x5a\x14", b"\0\x5a"), [WHITE, (20, 20, 20)]),
    ],
    ids=["grey16", "grey16 clear", "rgb16", "rgb16 clear", "1 bit", "2 bits clear", "4 bits clear", "8 bits clear"],
)
def test_png_samples_of_any_depth_become_8_bits_on_white(data: bytes, wanted: list[tuple[int, int, int]]) -> None:
    assert pixels(data) == wanted


def test_transparency_becomes_white_in_every_mode() -> None:
    assert pixels(encoded(Image.new("RGBA", (1, 1), (255, 0, 0, 0)), "PNG")) == [WHITE]
    assert pixels(encoded(Image.new("LA", (1, 1), (0, 0)), "PNG")) == [WHITE]
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 0, 0, 0, 0, 200])
    palette.putpixel((1, 0), 1)
    assert pixels(encoded(palette, "PNG", transparency=0)) == [WHITE, (0, 0, 200)]
    assert pixels(encoded(palette, "GIF", transparency=0)) == [WHITE, (0, 0, 200)]
    assert pixels(encoded(palette, "PNG", transparency=b"\xff\x00")) == [(200, 0, 0), WHITE]
    assert pixels(encoded(Image.new("RGBA", (1, 1), (9, 9, 9, 0)), "WEBP", lossless=True)) == [WHITE]


def test_cmyk_jpeg_is_read_as_adobe_writes_it() -> None:
    """Ink 0 is paper: the file holds it inverted, and says so in an Adobe marker."""
    cyan, red, black = (255, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255)
    inks = {(0, 0, 0, 0): WHITE, cyan: (0, 255, 255), red: (255, 0, 0), black: (0, 0, 0)}
    for ink, colour in inks.items():
        data = encoded(Image.new("CMYK", (8, 8), ink), "JPEG", quality=100)
        assert b"Adobe" in data
        assert np.abs(np.array(pixels(data)[0]) - colour).max() <= 2


def test_ycck_jpeg_is_read_as_adobe_writes_it() -> None:
    """The Adobe marker's transform 2 says that luma and chroma of the inks C, M, Y are stored, and K inverted."""
    luma_chroma = Image.new("RGB", (8, 8), (255, 0, 0)).convert("YCbCr").getpixel((0, 0))  # only cyan ink
    stored = (*luma_chroma, 255)  # no black ink
    written = Image.new("CMYK", (8, 8), tuple(255 - int(sample) for sample in stored))  # Pillow inverts what it writes
    data = encoded(written, "JPEG", quality=100)
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    ycck = data[:transform] + b"\2" + data[transform + 1 :]
    assert np.abs(np.array(pixels(ycck)[0]) - (0, 255, 255)).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(kind: str, orientation: int) -> None:
    """The corner that EXIF says is the top left stands there after decoding, and width and height are as seen."""
    picture = Image.new("RGB", (32, 16), (0, 0, 200))
    picture.paste((200, 0, 0), (0, 0, 8, 8))  # first row, first column of what is stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture, kind, exif=exif)
    wide = orientation < 5
    corner = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl"}[orientation]
    upright = np.asarray(decode(data)).astype(int)
    assert upright.shape == ((16, 32, 3) if wide else (32, 16, 3))
    row, column = (3 if corner[0] == "t" else -4), (3 if corner[1] == "l" else -4)
    assert upright[row, column, 0] > 150
    assert (upright[:, :, 0] > 100).mean() < 0.2
    assert (inspect(data).width, inspect(data).height) == ((32, 16) if wide else (16, 32))


def test_broken_exif_costs_no_picture() -> None:
    data = encoded(photo(16, 16), "JPEG", exif=b"Exif\0\0" + b"\x99" * 20)
    assert decode(data).size == (16, 16)
    assert inspect(data) == Header("JPEG", 16, 16)


def test_of_an_mpo_the_first_picture_counts() -> None:
    first, second = photo(160, 80), photo(160, 80, seed=1)
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert np.abs(np.asarray(decode(data)).astype(int) - np.asarray(first)).mean() < 10
    assert inspect(data) == Header("MPO", 160, 80)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animations_are_no_pictures(kind: str) -> None:
    frames = [photo(8, 8, seed) for seed in range(3)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    for read in (decode, inspect):
        with pytest.raises(ImageError, match="animated, 3 frames"):
            read(data)
    assert decode(encoded(frames[0], kind)).size == (8, 8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_a_picture_cut_short_is_bad_wherever_it_is_cut(kind: str) -> None:
    data = encoded(photo(64, 48), kind)
    assert inspect(data) == Header(kind, 64, 48)
    for kept in (1, 8, 30, len(data) // 2, len(data) - 40):
        for read in (decode, inspect):
            with pytest.raises(ImageError, match=r"\w"):
                read(data[:kept])


def test_what_stands_behind_a_whole_picture_does_no_harm() -> None:
    for kind in ("JPEG", "PNG"):
        data = encoded(photo(64, 48), kind)
        for tail in (b"\0" * 50, b"made by a camera"):
            assert inspect(data + tail) == Header(kind, 64, 48)


def test_other_things_are_named() -> None:
    for read in (decode, inspect):
        with pytest.raises(ImageError, match="empty file"):
            read(b"")
        with pytest.raises(ImageError, match="no image of the formats JPEG, PNG, WEBP, BMP, GIF"):
            read(b"<html>404</html>")
        with pytest.raises(ImageError, match="no image of the formats"):
            read(encoded(photo(8, 8), "TIFF"))
        with pytest.raises(ImageError, match=rf"20000 × 10000 pixels; allowed are {MOST_PIXELS:,}|more than"):
            read(png((20000, 10000), 1, 0, b""))
        with pytest.raises(ImageError, match="more than"):
            read(png((60000, 60000), 1, 0, b""))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_flipped_bytes_give_a_picture_or_a_reason(kind: str) -> None:
    rng = np.random.default_rng(0)
    whole = np.frombuffer(encoded(photo(48, 40), kind, exif=Image.Exif()), np.uint8)
    for _ in range(150):
        broken = whole.copy()
        broken[rng.integers(0, min(len(broken), 900), 3)] = rng.integers(0, 256, 3)
        for read in (decode, inspect):
            with suppress(ImageError):
                read(broken.tobytes())


def test_a_far_larger_jpeg_is_decoded_at_a_part_of_its_size() -> None:
    data = encoded(photo(800, 600), "JPEG", quality=95)
    assert decode(data, side=75).size == (400, 300)
    assert decode(data, side=150).size == (800, 600)
    assert decode(encoded(photo(800, 600), "PNG"), side=25).size == (800, 600)


def test_pictures_are_encoded_without_what_the_original_carried() -> None:
    picture = decode(encoded(photo(32, 32), "JPEG", comment=b"secret", icc_profile=b"profile" * 30))
    for as_jpeg in (True, False):
        data = encode(picture, as_jpeg, 95)
        assert b"secret" not in data
        assert b"profile" not in data
    assert np.array_equal(np.asarray(decode(encode(picture, False, 95))), np.asarray(picture))


def test_views_are_functions_of_seed_key_and_view() -> None:
    rng = np.random.default_rng(0)
    picture = encoded(Image.fromarray(rng.integers(0, 255, (32, 48, 3), dtype=np.uint8)), "PNG")
    rule = ViewRule(32, flip=True)
    first = random_crop(resized(picture, rule), rule, 0, "a", 0)
    assert first.shape == (3, 32, 32)
    assert np.array_equal(first, random_crop(resized(picture, rule), rule, 0, "a", 0))
    others = [random_crop(resized(picture, rule), rule, *pair) for pair in ((1, "a", 0), (0, "b", 0), (0, "a", 1))]
    assert not any(np.array_equal(first, other) for other in others)
    assert np.array_equal(validation_view(picture, rule), validation_view(picture, rule))
