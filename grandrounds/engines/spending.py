"""Tokens and dollars: what a run has spent, and a budget that it stops before.

Each request holds back its worst case while it is under way: every byte of its text a token, each image at its dearest,
and all the tokens that it may generate. It is sent only if what was spent and what is held back stay within the budget.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from grandrounds.engines.replies import Reply
from grandrounds.errors import UserError
from grandrounds.params import Price

TURN_TOKENS, TEMPLATE_TOKENS = 16, 256  # around each turn, and around all of them: roles, a default system turn
IMAGE_TOKENS = 50_000  # the dearest that we know of: gpt-4o-mini charges up to 48,169 tokens for one image


class BudgetReached(UserError):
    """The next request could pass the budget."""


@dataclass
class Spent:
    """What a run has used so far. Dollars are those of params' price, not of anybody's bill."""

    answered: int = 0  # by endpoints; replies from the cache are not among them
    kept: int = 0  # from the cache
    prompt_tokens: int = 0
    tokens: int = 0
    dollars: float = 0.0
    unsure: float = 0.0  # of these dollars, for requests whose reply was lost, at their worst case

    def __str__(self) -> str:
        unsure = f", up to {self.unsure:.4f} of it for replies that were lost" if self.unsure else ""
        return (
            f"{self.dollars:.4f} USD{unsure}; {self.answered} replies, "
            f"{self.prompt_tokens} tokens read, {self.tokens} generated"
        )


class Ledger:
    """The accounts of one run, used from one event loop."""

    def __init__(self, price: Price, budget: float | None, where: str) -> None:
        self.spent = Spent()
        self._price, self._budget, self._where = price, budget, where
        self._held, self._under_way = 0.0, 0
        self._settled = asyncio.Condition()

    @asynccontextmanager
    async def holding(self, worst: float) -> AsyncIterator["Charge"]:
        """Hold `worst` dollars back while a request is under way; its charge is booked at the end, once.

        Raises BudgetReached when they do not fit and nothing under way could still give some back.
        """
        await self._room(worst)
        self._held, self._under_way = self._held + worst, self._under_way + 1
        charge = Charge(self, worst)
        try:
            yield charge
        finally:
            self._held, self._under_way = self._held - worst, self._under_way - 1
            if self._budget is not None:
                async with self._settled:
                    self._settled.notify_all()

    async def _room(self, worst: float) -> None:
        if self._budget is None:
            return
        async with self._settled:
            while self.spent.dollars + self._held + worst > self._budget:
                if not self._under_way:
                    raise BudgetReached(
                        f"{self._where}.budget: another request could cost {worst:.4f} USD and pass {self._budget:g} "
                        f"USD; spent: {self.spent}; raise the budget and run again"
                    )
                await self._settled.wait()

    def worst(self, messages: Sequence[dict[str, Any]], max_new_tokens: int) -> float:
        """Dollars that a request can cost at most."""
        return self.cost(prompt_bound(messages), max_new_tokens)

    def cost(self, prompt_tokens: int, tokens: int) -> float:
        return (prompt_tokens * self._price.input + tokens * self._price.output) / 1e6


class Charge:
    """One request's place in the ledger."""

    def __init__(self, ledger: Ledger, worst: float) -> None:
        self._ledger, self._worst = ledger, worst

    def answered(self, reply: Reply) -> None:
        """Book what the reply says that it used; its worst case where it does not say."""
        spent = self._ledger.spent
        spent.answered += 1
        spent.prompt_tokens += reply.prompt_tokens or 0
        spent.tokens += reply.tokens or 0
        if reply.prompt_tokens is None or reply.tokens is None:
            spent.dollars += self._worst
            spent.unsure += self._worst
        else:
            spent.dollars += self._ledger.cost(reply.prompt_tokens, reply.tokens)

    def lost(self) -> None:
        """Book the worst case: the request was sent, and may have to be paid for."""
        self._ledger.spent.dollars += self._worst
        self._ledger.spent.unsure += self._worst


def prompt_bound(messages: Sequence[dict[str, Any]]) -> int:
    """An upper bound of a conversation's tokens: no tokenizer in use makes more tokens than bytes."""
    bound = TEMPLATE_TOKENS
    for turn in messages:
        content = turn["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        bound += TURN_TOKENS + sum(
            len(part["text"].encode("utf-8", "replace")) if part["type"] == "text" else IMAGE_TOKENS for part in parts
        )
    return bound
