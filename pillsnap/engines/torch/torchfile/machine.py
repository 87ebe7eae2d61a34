"""The pickle machine: a stack of plain values, and an owner who makes everything else."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from mmap import mmap
from typing import Any, Protocol

from pillsnap.engines.torch.torchfile.budget import Budget, Unreadable
from pillsnap.engines.torch.torchfile.opcodes import (
    ACTIONS,
    CONSTANTS,
    GETS,
    NUMBERS,
    PUTS,
    SIZED,
    TUPLES,
)


class Maker(Protocol):
    """Who says what a name means and what is made of it; a pickle makes nothing else."""

    def find(self, module: str, name: str) -> object:
        """What a global stands for."""

    def call(self, target: object, arguments: tuple[Any, ...]) -> object:
        """What calling a global with these arguments comes to."""

    def make(self, target: object, arguments: tuple[Any, ...]) -> object:
        """A new object of a global, its constructor not called."""

    def build(self, target: object, state: object) -> None:
        """Give an object its state."""

    def load(self, key: object) -> object:
        """The storage behind a persistent id."""


def run_pickle(data: bytes | mmap, start: int, maker: Maker, budget: Budget) -> tuple[Any, int]:
    """The object that a pickle of protocol 2 to 5 describes, and where the pickle ends.

    Raises:
        Unreadable: too many steps, or an opcode that torch.save does not write.
        Exception: of many types, where the pickle is damaged.
    """
    machine = _Machine(data, start, maker, budget)
    return machine.run(), machine.at


def require_key(key: object) -> None:
    """Check what is about to be hashed: nested tuples can take for ever, integers beyond 64 bits
    can be chosen to collide. What is no key of a real checkpoint is Unreadable."""
    for part in key if type(key) is tuple else (key,):
        if type(part) is tuple or (type(part) is int and not -(2**63) <= part < 2**63):
            raise Unreadable("the checkpoint has a key that no trainer writes", _kind(part))


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"


class _Machine:
    def __init__(self, data: bytes | mmap, start: int, maker: Maker, budget: Budget) -> None:
        self.data, self.at = data, start
        self.maker, self.budget = maker, budget
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        actions = self.actions()
        while True:
            code = self.data[self.at]
            self.at += 1
            self.budget.spend(1)
            if code == ord("."):
                return self.stack.pop()
            action = actions.get(code)
            if action is None:
                raise Unreadable(
                    "the checkpoint's pickle is not of a kind that torch.save writes",
                    f"opcode {code:#04x}",
                )
            action()

    def actions(self) -> dict[int, Callable[[], None]]:
        found: dict[bytes, Callable[[], None]] = {
            code: getattr(self, name) for code, name in ACTIONS.items()
        }
        for code, constant in CONSTANTS.items():
            found[code] = partial(self.push_constant, constant)
        for code, form in NUMBERS.items():
            found[code] = partial(self.push_number, form)
        for code, (form, decode) in SIZED.items():
            found[code] = partial(self.push_sized, form, decode)
        for code, count in TUPLES.items():
            found[code] = partial(self.push_tuple, count)
        for code, form in PUTS.items():
            found[code] = partial(self.put_memo, form)
        for code, form in GETS.items():
            found[code] = partial(self.push_memo, form)
        return {code[0]: action for code, action in found.items()}

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        if len(piece) != count:
            raise EOFError("the pickle is cut off")
        self.at += count
        return piece

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + 1000)
        if end < 0:
            raise EOFError("a name without an end")
        text = self.take(end - self.at).decode()
        self.at += 1
        return text

    def marked(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def push_constant(self, constant: Callable[[], object]) -> None:
        self.stack.append(constant())

    def push_number(self, form: str) -> None:
        self.stack.append(self.number(form))

    def push_sized(self, form: str, decode: Callable[[bytes], object]) -> None:
        self.stack.append(decode(self.take(self.number(form))))

    def push_tuple(self, count: int) -> None:
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def push_marked_tuple(self) -> None:
        items = tuple(self.marked())
        self.stack.append(items)

    def push_frozenset(self) -> None:
        items = self.marked()
        for item in items:
            require_key(item)
        self.stack.append(frozenset(items))

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.marked()

    def append(self) -> None:
        item = self.stack.pop()
        if type(self.stack[-1]) is list:
            self.stack[-1].append(item)

    def extend(self) -> None:
        items = self.marked()
        if type(self.stack[-1]) is list:
            self.stack[-1].extend(items)

    def add_items(self) -> None:
        items = self.marked()
        if type(self.stack[-1]) is set:
            for item in items:
                require_key(item)
                self.stack[-1].add(item)

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.put(key, value)

    def set_items(self) -> None:
        items = self.marked()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.put(key, value)

    def put(self, key: object, value: object) -> None:
        if type(self.stack[-1]) in (dict, OrderedDict):  # a stand-in keeps nothing
            require_key(key)
            self.stack[-1][key] = value

    def put_memo(self, form: str) -> None:
        self.memo[self.number(form)] = self.stack[-1]

    def put_next_memo(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def push_memo(self, form: str) -> None:
        self.stack.append(self.memo[self.number(form)])

    def find(self) -> None:
        module, name = self.line(), self.line()
        self.stack.append(self.maker.find(module, name))

    def find_by_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(module) is not str or type(name) is not str:
            raise TypeError("a name that is no text")
        self.stack.append(self.maker.find(module, name))

    def call(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.maker.call(self.stack[-1], arguments)

    def make(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.maker.make(self.stack[-1], arguments)

    def make_by_names(self) -> None:
        named, arguments = self.stack.pop(), self.stack.pop()
        self.stack[-1] = self.maker.make(self.stack[-1], (*arguments, *named))

    def build(self) -> None:
        state = self.stack.pop()
        self.maker.build(self.stack[-1], state)

    def load(self) -> None:
        self.stack[-1] = self.maker.load(self.stack[-1])

    def skip_protocol(self) -> None:
        self.take(1)

    def skip_frame(self) -> None:
        self.take(8)
