"""Record: what the clients were told, and whether all of it can be true at once.

Kept apart from the platform's own books on purpose: it knows only requests and answers, as the users do.

- A success counts once for a user and a packet; told again it must be the same. Two different ones: `double_grabs`.
- More shares, more money, or one rank for two users: `over_issued`.
- A refusal told to somebody who holds a share, a "drained" with shares left, a listed share nobody asked for, a
  wallet that its owner's own answers do not explain: a contradiction, kept as a sentence.
- A request whose outcome stayed unknown is remembered and settled against the packet's own list at the end.

Amounts in fen; ranks count from 1.
"""

from collections import Counter
from typing import NamedTuple

from cluster.client import PacketAnswer

REFUSALS = frozenset({"drained", "expired", "wrong_passphrase", "not_addressee", "not_member", "own_packet"})
CONTRADICTIONS_KEPT = 20


class Win(NamedTuple):
    """A share as its owner was told it."""

    rank: int
    amount_fen: int


class PacketRecord:
    """One packet as its sender and takers saw it."""

    __slots__ = (
        "count",
        "kind",
        "missed",
        "open",
        "packet_id",
        "rank_owner",
        "sender",
        "told_fen",
        "total_fen",
        "unsure",
        "wins",
    )

    def __init__(self, packet: PacketAnswer) -> None:
        """Open the record with the answer to the send."""
        self.packet_id = packet.packet_id
        self.kind = packet.kind
        self.sender = packet.sender
        self.total_fen = packet.total_fen
        self.count = packet.count
        self.wins: dict[str, Win] = {}
        self.rank_owner: dict[int, str] = {}
        self.told_fen = 0
        self.open = False
        """It has not ended when it is compared: what nobody took is still in it."""
        self.missed: dict[str, str] = {}
        """The refusal that each user was told."""
        self.unsure: set[str] = set()
        """Users who never learned what became of a tap."""


class Record:
    """All packets of a run. Counts are of taps (what users asked for), not of HTTP attempts."""

    def __init__(self) -> None:
        """Start with nothing told."""
        self.packets: dict[str, PacketRecord] = {}
        self.taps = 0
        self.batched_taps = 0
        self.wins = 0
        self.replays = 0
        self.refusals: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.unknown_taps = 0
        self.unknown_sends = 0
        self.learned_late = 0
        self.double_grabs = 0
        self.over_issued = 0
        self.contradictions = 0
        self.sentences: list[str] = []

    @property
    def refused(self) -> int:
        """Taps that the platform answered with a packet's refusal."""
        return self.refusals.total()

    @property
    def wins_unfinished(self) -> int:
        """Packets that have shares left as far as their takers were told."""
        return sum(len(packet.wins) < packet.count for packet in self.packets.values())

    def told_packet(self, packet: PacketAnswer) -> PacketRecord:
        """Enter the answer to a send. The same packet told twice is one packet."""
        known = self.packets.get(packet.packet_id)
        if known is None:
            known = self.packets[packet.packet_id] = PacketRecord(packet)
        elif (known.total_fen, known.count, known.sender) != (packet.total_fen, packet.count, packet.sender):
            self.contradict(f"packet {packet.packet_id} was told with other amounts before")
        return known

    def told_win(self, packet: PacketRecord, user: str, rank: int, amount_fen: int, *, late: bool = False) -> None:
        """Enter a success. `late`: asked after the packet's expiry, when only an old answer may be repeated."""
        win = Win(rank, amount_fen)
        prior = packet.wins.get(user)
        if prior is not None:
            self.replays += 1
            if prior != win:
                self.double_grabs += 1
                self.contradict(f"{user} was told {prior} and {win} of packet {packet.packet_id}")
            return
        self.wins += 1
        if late and user not in packet.unsure:
            self.contradict(f"{user} won rank {rank} of packet {packet.packet_id} after its expiry")
        if user in packet.missed:
            self.contradict(f"{user} was told {packet.missed[user]!r} and rank {rank} of packet {packet.packet_id}")
        packet.wins[user] = win
        packet.told_fen += amount_fen
        owner = packet.rank_owner.setdefault(rank, user)
        if owner != user or not 1 <= rank <= packet.count or packet.told_fen > packet.total_fen:
            self.over_issued += 1
            self.contradict(f"packet {packet.packet_id} gave {user} {win} beyond what it has")

    def told_refusal(self, packet: PacketRecord, user: str, code: str) -> None:
        """Enter a tap's answer that is no success: a packet's refusal, or an error."""
        if code not in REFUSALS:
            self.errors[code] += 1
            if code == "packet_not_found":
                self.contradict(f"packet {packet.packet_id} was open and then not found")
            return
        self.refusals[code] += 1
        packet.missed[user] = code
        if user in packet.wins:
            self.contradict(f"{user} was told {packet.wins[user]} and {code!r} of packet {packet.packet_id}")

    def told_nothing(self, packet: PacketRecord, user: str) -> None:
        """Enter a tap whose outcome is unknown."""
        self.unknown_taps += 1
        packet.unsure.add(user)

    def compare(self, packet: PacketRecord, ended: PacketAnswer, *, may_be_open: bool = False) -> None:
        """Hold the packet's own list, read by its sender, against everything that was told; after its end, or not."""
        packet.open = may_be_open and ended.state == "open"
        listed = {share.user: Win(share.rank, share.amount_fen) for share in ended.grabs or ()}
        name = f"packet {packet.packet_id}"
        for user, win in packet.wins.items():
            if listed.get(user) != win:
                self.contradict(f"{name} lists {listed.get(user)} for {user}, who was told {win}")
        for user, win in listed.items():
            if user not in packet.wins and user in packet.unsure:
                self.learned_late += 1
                self.wins += 1
                packet.wins[user] = win
            elif user not in packet.wins:
                self.contradict(f"{name} lists {win} for {user}, who was never told of it")
            if user in packet.missed and user in listed:
                self.contradict(f"{name} lists {win} for {user}, who was told {packet.missed[user]!r}")
        if len(listed) < packet.count and "drained" in packet.missed.values():
            self.contradict(f"{name} told somebody 'drained' with shares left")
        self._compare_sums(packet, ended, listed)

    def _compare_sums(self, packet: PacketRecord, ended: PacketAnswer, listed: dict[str, Win]) -> None:
        name = f"packet {packet.packet_id}"
        paid_fen = sum(win.amount_fen for win in listed.values())
        if len(listed) > packet.count or paid_fen > packet.total_fen:
            self.over_issued += 1
            self.contradict(f"{name} lists more than it has")
        if len(ended.grabs or ()) != len(listed):
            self.double_grabs += 1
            self.contradict(f"{name} lists a user twice")
        if sorted(win.rank for win in listed.values()) != list(range(1, len(listed) + 1)):
            self.contradict(f"{name} does not number its shares from 1")
        if (ended.total_fen, ended.count) != (packet.total_fen, packet.count):
            self.contradict(f"{name} changed its size")
        if (ended.grabbed_count, ended.grabbed_fen) != (len(listed), paid_fen):
            self.contradict(f"{name} counts other grabs than it lists")
        if not packet.open and ended.grabbed_fen + ended.refunded_fen != packet.total_fen:
            self.contradict(f"{name} ended with {ended.grabbed_fen} paid and {ended.refunded_fen} refunded")
        if ended.state != ("drained" if len(listed) == packet.count else "open" if packet.open else "expired"):
            self.contradict(f"{name} is {ended.state} with {len(listed)} of {packet.count} shares taken")
        if packet.kind == "equal" and any(win.amount_fen * packet.count != packet.total_fen for win in listed.values()):
            self.contradict(f"{name} is equal and paid unequal shares")
        if any(win.amount_fen < 1 for win in listed.values()):
            self.contradict(f"{name} paid a share of nothing")

    def wallet_changes(self) -> dict[str, int]:
        """Return by how much each user's wallet must have changed, once `compare` has seen every packet."""
        change: Counter[str] = Counter()
        for packet in self.packets.values():
            paid_fen = 0
            for user, win in packet.wins.items():
                change[user] += win.amount_fen
                paid_fen += win.amount_fen
            # The rest of an ended packet's total came back to the sender.
            change[packet.sender] -= packet.total_fen if packet.open else paid_fen
        return dict(change)

    def contradict(self, sentence: str) -> None:
        """Keep a contradiction; only the first few with their words."""
        self.contradictions += 1
        if len(self.sentences) < CONTRADICTIONS_KEPT:
            self.sentences.append(sentence)
