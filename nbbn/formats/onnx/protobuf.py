"""Protobuf's wire format, as far as it takes to find the weights in a file without reading them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class DamagedError(ValueError):
    """Bytes that are no protobuf message."""


def fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Fields of a message: number, start of the field, start of its value, end."""
    while start < end:
        file.seek(start)
        head = file.read(20)
        tag, at = _read_varint(head, 0)
        number, kind = tag >> 3, tag & 7
        first, last = start + at, start + at
        if kind == _LENGTH:
            length, at = _read_varint(head, at)
            first, last = start + at, start + at + length
        elif kind == _VARINT:
            last = start + _read_varint(head, at)[1]
        elif kind in (_FIXED64, _FIXED32):
            last += 8 if kind == _FIXED64 else 4
        else:
            raise DamagedError(f"byte {start} starts no field")
        if last > end:
            raise DamagedError(f"the field at byte {start} reaches beyond the end")
        if number == 0:
            raise DamagedError("a field is numbered 0")
        yield number, start, first, last
        start = last


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        if at + i >= len(data):
            raise DamagedError("it ends within a number")
        value |= (data[at + i] & 127) << 7 * i
        if data[at + i] < 128:
            return value, at + i + 1
    raise DamagedError("a number has more than 64 bits")


def varint(value: int) -> bytes:
    """A number, seven bits a byte."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def key(number: int) -> bytes:
    """What starts a field whose length follows."""
    return varint(number << 3 | _LENGTH)


def read_slice(file: BinaryIO, start: int, end: int) -> bytes:
    """Bytes of a file."""
    file.seek(start)
    return file.read(end - start)
