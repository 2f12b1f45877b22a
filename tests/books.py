"""Books from live journals alone, by the shortest code there is: every balance is the sum of its postings."""

from collections import Counter
from typing import Any

from actors.kinds import kind_of
from actors.ledger.accounts import AccountName
from cluster.journal.codec import Codec
from cluster.journal.snapshot import Elements, read_verified


async def balances(elements: Elements, codec: Codec, stream: str) -> dict[AccountName, int]:
    """Replay one stream from its very first entry into the balance of every account that is not zero, in fen.

    Reads no snapshot. Raises JournalUnavailable, JournalCorrupt.
    """
    kind, balance = kind_of(stream), Counter[AccountName]()
    async for element in read_verified(elements, codec, stream):
        for event in element.events:
            for posting in kind.postings_of(event):
                balance[posting.account] += posting.amount_fen
    return {account: amount_fen for account, amount_fen in balance.items() if amount_fen}


def book_sum(balance: dict[AccountName, Any]) -> int:
    """Return the signed sum of a book, 0 unless money was made or lost."""
    return sum(balance.values())
