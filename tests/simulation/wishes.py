"""Wishes: the sends that clients think of, of every kind, and the words that their packets ask for.

The terms are what the gateway's routes let through; amounts in fen, instants in Unix ms.
"""

from collections.abc import Callable
from random import Random

import msgspec

from actors.kernel.names import user_hash
from actors.transfers.funding import PacketFunded, Special
from actors.transfers.phrase import spoken
from actors.wallet.commands import Burst, Send
from actors.wallet.photo import payment_key
from cluster.gateway.packet.grab_items import Asked, said_to
from tests.simulation.world import KEYS, TENANT

USERS = [f"u{number}" for number in range(9)]
GROUP = "team"
OTHERS = "others"

KINDS = {"lucky": 8, "equal": 5, "direct": 2, "group": 2, "password": 3, "star": 6, "rain": 4, "photo": 3}
"""What is sent, and how often."""


def phrase_of(key: str) -> str:
    """Return the phrase of the password packet that is sent under a key."""
    return f"open {key}"


def words_for(funding: PacketFunded, *, right: bool) -> Asked:
    """Return what a taker asks who says what the packet asks for, or something else."""
    special, packet_id = funding.special, funding.packet_id.partition(".")[0]
    if special is not None and special.phrase:
        return said_to(packet_id, phrase_of(funding.key) if right else "let me in", None, KEYS.key(KEYS.first))
    if special is not None and special.group:
        return said_to(packet_id, None, special.group if right else OTHERS, KEYS.key(KEYS.first))
    return packet_id


def asks_for_words(funding: PacketFunded) -> bool:
    """Tell whether takers of a packet must say something."""
    return funding.special is not None and bool(funding.special.phrase or funding.special.group)


class Wishes:
    """What one run's clients think of."""

    def __init__(self, random: Random, now_ms: Callable[[], int]) -> None:
        self._random = random
        self._now_ms = now_ms

    def plain(self, user: str, key: str) -> Send:
        """Think of a packet for everybody."""
        random = self._random
        count = random.choice((1, 2, 3, 3, 4, 5, 8))
        return Send(TENANT, user, key, random.choice(("lucky", "equal")), count * random.randrange(1, 300), count, "")

    def any(self, user: str, key: str) -> Send:
        """Think of a packet of any kind."""
        kind = self._random.choices(list(KINDS), list(KINDS.values()))[0]
        if kind in ("lucky", "equal"):
            return self.plain(user, key)
        send: Send = getattr(self, f"_{kind}")(self.plain(user, key))
        return send

    def to_commit(self, user: str) -> Send:
        """Think of a packet, or a crowd's, whose shares its sender wants a part in; it has no key yet."""
        kind = self._random.choice(("lucky", "star", "rain"))
        if kind == "star":
            return self._star(self.plain(user, ""))
        if kind == "rain":
            return self._rain(self.plain(user, ""))
        algorithm = self._random.choice(("even/1", "double-mean/1"))
        return msgspec.structs.replace(self.plain(user, ""), kind="lucky", algorithm=algorithm)

    def _algorithm(self) -> str:
        return self._random.choice(("even/1", "double-mean/1", "equal/1"))

    def _direct(self, send: Send) -> Send:
        special = Special(addressee=self._random.choice([user for user in USERS if user != send.user]))
        total_fen = send.total_fen // send.count
        return msgspec.structs.replace(
            send, kind="direct", total_fen=total_fen, count=1, algorithm="equal/1", special=special
        )

    def _group(self, send: Send) -> Send:
        special = Special(group=GROUP)
        return msgspec.structs.replace(send, kind="group", algorithm=self._algorithm(), special=special)

    def _password(self, send: Send) -> Send:
        special = Special(phrase=spoken(KEYS.key(KEYS.first), phrase_of(send.key)))
        return msgspec.structs.replace(send, kind="password", algorithm=self._algorithm(), special=special)

    def _photo(self, send: Send) -> Send:
        """Pay for one of few photos: a price is a payer's own, and so is the key that he pays it with."""
        owner = self._random.choice([user for user in USERS if user != send.user])
        photo_id = f"photo-of-{owner}"
        price_fen = 1 + user_hash(photo_id, send.user) % 300
        special = Special(addressee=owner, reference=photo_id)
        return msgspec.structs.replace(
            send,
            kind="photo",
            key=payment_key(photo_id),
            total_fen=price_fen,
            count=1,
            algorithm="equal/1",
            special=special,
        )

    def _star(self, send: Send) -> Send:
        random = self._random
        count = random.choice((2, 3, 4, 4, 4, 5, 5, 8))
        mean_fen = random.randrange(1, 200)
        algorithm = self._algorithm()
        total_fen = count * mean_fen + (0 if algorithm == "equal/1" else random.randrange(count))
        special = Special(
            opens_at_ms=random.choice((0, 0, self._now_ms() + random.randrange(3_000))),
            sponsor=random.choice(("", "a bank")),
            day_count_max=random.choice((0, 0, 2, 4)),
            excluded=send.user,
        )
        band = random.choice(((0, 0), (max(mean_fen // 2, 1), mean_fen + 10)))
        return msgspec.structs.replace(
            send,
            kind="star",
            total_fen=total_fen,
            count=count,
            algorithm=algorithm,
            special=special,
            share_fen_min=band[0],
            share_fen_max=band[1],
        )

    def _rain(self, send: Send) -> Send:
        random = self._random
        algorithm, mean_fen = self._algorithm(), random.randrange(1, 100)
        opens_at_ms = self._now_ms() + random.randrange(-300, 1_500)
        bursts = []
        for _ in range(random.choice((1, 2, 3, 3))):
            count = random.choice((1, 2, 2, 3, 4))
            ends_at_ms = opens_at_ms + random.randrange(500, 2_000)
            bursts.append(Burst(opens_at_ms, ends_at_ms, count * mean_fen, count))
            opens_at_ms = ends_at_ms + random.choice((0, 0, 300))
        band = random.choice(((0, 0), (1, mean_fen + mean_fen // 2)))
        return msgspec.structs.replace(
            send,
            kind="rain",
            total_fen=sum(burst.total_fen for burst in bursts),
            count=sum(burst.count for burst in bursts),
            algorithm=algorithm,
            special=Special(sponsor="a bank", excluded=send.user, rolls=random.random() < 0.7),
            share_fen_min=band[0],
            share_fen_max=band[1],
            bursts=bursts,
        )
