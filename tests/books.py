"""Books from live journals alone, by the shortest code there is: every balance is the sum of its postings."""

from collections import Counter
from typing import Any

from actors.ledger.accounts import Account, postings
from cluster.journal.codec import Codec
from cluster.journal.snapshot import Elements, read_verified


async def balances(elements: Elements, codec: Codec, stream: str) -> dict[Account, int]:
    """Replay one stream from its very first entry into the balance of every account that is not zero, in fen.

    Reads no snapshot. Raises JournalUnavailable, JournalCorrupt.
    """
    balance: Counter[Account] = Counter()
    async for element in read_verified(elements, codec, stream):
        for event in element.events:
            for account, amount_fen in postings(event):
                balance[account] += amount_fen
    return {account: amount_fen for account, amount_fen in balance.items() if amount_fen}


def book_sum(balance: dict[Account, Any]) -> int:
    """Return the signed sum of a book, 0 unless money was made or lost."""
    return sum(balance.values())
