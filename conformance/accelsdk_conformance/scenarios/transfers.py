"""Ranges: reads, writes, copies and fills touch what they name, and nothing else."""

from __future__ import annotations

from accelsdk.errors import InvalidArgument
from accelsdk.formats import UINT8
from accelsdk_conformance.scenarios.lab import Lab, equal, raises

#: (offset, length): both ends, odd starts, around the alignments.
_RANGES = (
    *((0, 1), (0, 1000), (1, 7), (3, 5), (63, 2), (64, 64), (65, 63), (127, 130)),
    *((333, 100), (511, 3), (700, 300), (936, 64), (998, 2), (999, 1), (500, 0), (1000, 0)),
)


def ranged_write(lab: Lab) -> None:
    """A write of a range changes that range only."""
    data = bytearray(lab.noise(1000))
    buffer = lab.upload(bytes(data))
    for offset, nbytes in _RANGES:
        part = lab.noise(nbytes)
        buffer.copy_from_host(part, offset=offset)
        data[offset : offset + nbytes] = part
        equal(lab.bytes_of(buffer), bytes(data), f"write of {nbytes} bytes at {offset}")


def ranged_read(lab: Lab) -> None:
    """A read of a range returns that range, and no byte more."""
    data = lab.noise(1000)
    buffer = lab.upload(data)
    for offset, nbytes in _RANGES:
        host = bytearray(b"\xee" * (nbytes + 16))
        buffer.copy_to_host(memoryview(host)[8 : 8 + nbytes], offset=offset)
        wanted = b"\xee" * 8 + data[offset : offset + nbytes] + b"\xee" * 8
        equal(bytes(host), wanted, f"read of {nbytes} bytes at {offset}, and around them")


def bounds(lab: Lab) -> None:
    """A range that leaves the buffer is refused, and changes nothing."""
    whole = lab.upload(b"\x42" * 192)
    data = lab.noise(64)
    buffer = whole.view(64, UINT8, (64,))
    buffer.copy_from_host(data)
    other = lab.raw(65)
    for what, use in (
        ("write beyond the end", lambda: buffer.copy_from_host(bytes(2), offset=63)),
        ("write of too much", lambda: buffer.copy_from_host(bytes(65))),
        ("write before the start", lambda: buffer.copy_from_host(bytes(1), offset=-1)),
        ("write at an offset beyond", lambda: buffer.copy_from_host(bytes(1), offset=64)),
        ("read beyond the end", lambda: buffer.copy_to_host(bytearray(65))),
        ("read before the start", lambda: buffer.copy_to_host(bytearray(1), offset=-1)),
        ("fill beyond the end", lambda: buffer.fill(b"\x00", offset=60, nbytes=5)),
        ("fill of a length below zero", lambda: buffer.fill(b"\x00", nbytes=-1)),
        ("view beyond the end", lambda: buffer.view(60, UINT8, (5,))),
        ("view before the start", lambda: buffer.view(-1, UINT8, (5,))),
        ("copy of another length", lambda: buffer.copy_to(other)),
    ):
        with raises(InvalidArgument, what):
            use()
    equal(lab.bytes_of(whole), b"\x42" * 64 + data + b"\x42" * 64, "contents after refusals")


def fill_patterns(lab: Lab) -> None:
    """Patterns of 1, 2, 4 and 8 different bytes, over all."""
    for size in (1, 2, 4, 8):
        pattern = bytes(range(1, size + 1))
        for count in (1, 3, 32, 1001):
            buffer = lab.raw(size * count)
            buffer.fill(pattern)
            equal(lab.bytes_of(buffer), pattern * count, f"{count} times {size} bytes")


def fill_ranges(lab: Lab) -> None:
    """A ranged fill starts with the pattern's first byte, wherever it starts, and ends in time."""
    for size in (1, 2, 4, 8):
        pattern = bytes(range(0x81, 0x81 + size))
        data = bytearray(lab.noise(512))
        buffer = lab.upload(bytes(data))
        for offset, count in ((0, 1), (1, 3), (3, 4), (64, 8), (65, 5), (130, 9), (512 - size, 1)):
            nbytes = count * size
            buffer.fill(pattern, offset=offset, nbytes=nbytes)
            data[offset : offset + nbytes] = pattern * count
            equal(lab.bytes_of(buffer), bytes(data), f"fill of {nbytes} bytes at {offset}")


def fill_large(lab: Lab) -> None:
    """A fill longer than any staging buffer keeps its phase to the last byte."""
    pattern = b"\x01\x02\x03\x04\x05\x06\x07\x08"
    count = (5 << 20) // 8 + 1
    lab.demand(8 * count)
    buffer = lab.raw(8 * count)
    buffer.fill(pattern)
    equal(lab.bytes_of(buffer), pattern * count, f"fill of {8 * count} bytes")


def fill_refusals(lab: Lab) -> None:
    """Other patterns, and ranges that a pattern does not divide, are refused."""
    buffer = lab.upload(b"\x42" * 64)
    for size in (0, 3, 5, 16):
        with raises(InvalidArgument, f"pattern of {size} bytes"):
            buffer.fill(bytes(size))
    with raises(InvalidArgument, "pattern that does not divide"):
        buffer.fill(b"\x00" * 4, nbytes=6)
    equal(lab.bytes_of(buffer), b"\x42" * 64, "contents after refused fills")


def copies(lab: Lab) -> None:
    """A copy on the card gives equal bytes and leaves the source alone."""
    for nbytes in filter(lab.fits, (1, 3, 64, 65, 4096, 100_001, (4 << 20) + 7)):
        data = lab.noise(nbytes)
        source, destination = lab.upload(data), lab.raw(nbytes)
        source.copy_to(destination)
        equal(lab.bytes_of(destination), data, f"copy of {nbytes} bytes")
        equal(lab.bytes_of(source), data, "source of a copy")


def copy_ranges(lab: Lab) -> None:
    """A copy between views honours both offsets and the length, however they are aligned."""
    old = lab.noise(600)
    source = lab.upload(lab.noise(600))
    data = lab.bytes_of(source)
    for start, end, nbytes in (
        *((0, 0, 1), (1, 0, 64), (0, 1, 64), (3, 5, 77), (64, 128, 64), (128, 64, 65)),
        *((63, 65, 127), (599, 0, 1), (0, 599, 1), (200, 201, 399), (100, 100, 500)),
    ):
        target = lab.upload(old)
        source.view(start, UINT8, (nbytes,)).copy_to(target.view(end, UINT8, (nbytes,)))
        wanted = old[:end] + data[start : start + nbytes] + old[end + nbytes :]
        what = f"copy of {nbytes} bytes from {start} to {end}"
        equal(lab.bytes_of(target), wanted, what)
        equal(lab.bytes_of(source), data, f"source of a {what}")


def copy_within_one(lab: Lab) -> None:
    """A copy inside one allocation moves what does not overlap, and refuses what does."""
    data = bytearray(lab.noise(400))
    buffer = lab.upload(bytes(data))
    for start, end, nbytes in ((0, 200, 200), (300, 0, 100), (1, 101, 99), (201, 102, 99)):
        buffer.view(start, UINT8, (nbytes,)).copy_to(buffer.view(end, UINT8, (nbytes,)))
        data[end : end + nbytes] = data[start : start + nbytes]
        equal(lab.bytes_of(buffer), bytes(data), f"{nbytes} bytes from {start} to {end}")
    for start, end in ((0, 1), (1, 0), (0, 0), (99, 0)):
        with raises(InvalidArgument, f"copy of 100 bytes from {start} to {end}"):
            buffer.view(start, UINT8, (100,)).copy_to(buffer.view(end, UINT8, (100,)))
    equal(lab.bytes_of(buffer), bytes(data), "contents after refused copies")


def sub_byte_ranges(lab: Lab) -> None:
    """Packed formats move as bytes: ranges, views and fills of them start on whole bytes."""
    buffer = lab.device.empty("int4", (3, 7))
    data = bytearray(lab.noise(11))
    buffer.copy_from_host(bytes(data))
    buffer.copy_from_host(b"\x9c\x21", offset=5)
    data[5:7] = b"\x9c\x21"
    equal(lab.bytes_of(buffer), bytes(data), "int4 after a write of two bytes")
    view = buffer.view(4, "int4", (5,))
    equal(lab.bytes_of(view), bytes(data[4:7]), "view of 5 int4 at byte 4")
    view.fill(b"\x77")
    data[4:7] = b"\x77" * 3
    equal(lab.bytes_of(buffer), bytes(data), "int4 after a fill of a view")


def overlapping_views(lab: Lab) -> None:
    """Writes through overlapping views land in the order of their submission."""
    data = bytearray(256)
    buffer = lab.upload(bytes(data))
    stream = lab.device.create_stream()
    views = [buffer.view(offset, UINT8, (100,)) for offset in (0, 50, 99, 150, 31)]
    for turn, (view, offset) in enumerate(zip(views, (0, 50, 99, 150, 31), strict=True), 1):
        stream.fill(view, bytes([turn]))
        data[offset : offset + 100] = bytes([turn]) * 100
    equal(lab.bytes_of(buffer), bytes(data), "after five overlapping fills")


def interleaved(lab: Lab) -> None:
    """A thousand random ranged operations agree with a host array, byte for byte."""
    size = 777
    first, second = (bytearray(lab.noise(size)) for _ in range(2))
    buffers = [lab.upload(bytes(first)), lab.upload(bytes(second))]
    images = [first, second]
    for turn in range(150):
        which, kind = int(lab.rng.integers(2)), int(lab.rng.integers(4))
        offset = int(lab.rng.integers(size))
        nbytes = int(lab.rng.integers(1, size - offset + 1))
        buffer, image = buffers[which], images[which]
        if kind == 0:
            part = lab.noise(nbytes)
            buffer.copy_from_host(part, offset=offset, block=bool(turn % 2))
            image[offset : offset + nbytes] = part
        elif kind == 1:
            pattern = lab.noise(1)
            buffer.fill(pattern, offset=offset, nbytes=nbytes, block=bool(turn % 2))
            image[offset : offset + nbytes] = pattern * nbytes
        elif kind == 2:
            other, place = 1 - which, int(lab.rng.integers(size - nbytes + 1))
            source = buffers[other].view(place, UINT8, (nbytes,))
            source.copy_to(buffer.view(offset, UINT8, (nbytes,)), block=bool(turn % 2))
            image[offset : offset + nbytes] = images[other][place : place + nbytes]
        else:
            out = bytearray(nbytes)
            buffer.copy_to_host(out, offset=offset)
            equal(bytes(out), bytes(image[offset : offset + nbytes]), f"read in turn {turn}")
    for buffer, image in zip(buffers, images, strict=True):
        equal(lab.bytes_of(buffer), bytes(image), "contents at the end")
        lab.note(bytes(image))
