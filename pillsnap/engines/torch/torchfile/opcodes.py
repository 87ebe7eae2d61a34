"""The opcodes of pickle protocols 2 to 5, by what the machine does at them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial


def _text(data: bytes) -> str:
    return str(data, "utf-8", "surrogatepass")


def _old_text(data: bytes) -> str:
    return data.decode("latin-1")  # of Python 2


# Push a new value.
CONSTANTS: dict[bytes, Callable[[], object]] = {
    b"N": lambda: None,
    b"\x88": lambda: True,
    b"\x89": lambda: False,
    b")": tuple,
    b"]": list,
    b"}": dict,
    b"\x8f": set,
}
# Push a number, by its form in struct.
NUMBERS = {b"J": "<i", b"M": "<H", b"K": "B", b"G": ">d"}
# Push so many bytes, decoded; the form is of their number.
SIZED: dict[bytes, tuple[str, Callable[[bytes], object]]] = {
    b"X": ("<I", _text),
    b"\x8c": ("B", _text),
    b"\x8d": ("<Q", _text),
    b"U": ("B", _old_text),
    b"T": ("<I", _old_text),
    b"C": ("B", bytes),
    b"B": ("<I", bytes),
    b"\x8e": ("<Q", bytes),
    b"\x96": ("<Q", bytes),
    b"\x8a": ("B", partial(int.from_bytes, byteorder="little", signed=True)),
}
# Push a tuple of so many values.
TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
# Into the memo and out of it, by the form of the index.
PUTS = {b"q": "B", b"r": "<I"}
GETS = {b"h": "B", b"j": "<I"}
# Methods of the machine.
ACTIONS = {
    b"\x80": "skip_protocol",
    b"\x95": "skip_frame",
    b"(": "mark",
    b"0": "pop",
    b"1": "marked",
    b"t": "push_marked_tuple",
    b"\x91": "push_frozenset",
    b"a": "append",
    b"e": "extend",
    b"\x90": "add_items",
    b"s": "set_item",
    b"u": "set_items",
    b"\x94": "put_next_memo",
    b"c": "find",
    b"\x93": "find_by_stack",
    b"R": "call",
    b"\x81": "make",
    b"\x92": "make_by_names",
    b"b": "build",
    b"Q": "load",
}
