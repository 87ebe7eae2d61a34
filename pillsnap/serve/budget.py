"""What all requests together may hold at one time: bytes of bodies, pixels of photos."""

from __future__ import annotations

import asyncio


class Budget:
    """An amount that requests share, `most` in all; of one event loop."""

    def __init__(self, most: int) -> None:
        self.free = most
        self.turn = asyncio.Lock()
        self.given = asyncio.Event()


class Share:
    """One request's part of a budget, given back at the end of the block."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._amount = 0

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.free += self._amount
        self._budget.given.set()

    def take(self, amount: int) -> bool:
        """Whether there was so much left; nothing is taken where there was not."""
        enough = amount <= self._budget.free
        if enough:
            self._budget.free -= amount
            self._amount += amount
        return enough

    async def wait_for(self, amount: int) -> None:
        """Take an amount, no more than there is in all, once it is free: who came first is first,
        so that many small ones do not keep a large one waiting."""
        async with self._budget.turn:
            while not self.take(amount):
                self._budget.given.clear()
                await self._budget.given.wait()
