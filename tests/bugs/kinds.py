"""Bugs of packets that are not for everybody."""

from tests.bugs import PACKET_MACHINE, PACKET_SHARD, Mutant

KINDS = ("tests/unit/test_kinds.py",)
ENTRY, PHRASE, SENDS = (
    "actors/packet/eligibility.py",
    "actors/transfers/phrase.py",
    "cluster/gateway/packet/send_bodies.py",
)
HOT, ANSWERS, WALLET_SHARD = "cluster/gateway/fast_routes.py", "cluster/gateway/responses.py", "actors/wallet/host.py"

AUDIENCES = [
    Mutant(
        "kinds: a direct packet is for its addressee alone",
        ENTRY,
        "for user in users if user != special.addressee}",
        "for user in users[1:] if user != special.addressee}",
        KINDS,
    ),
    Mutant(
        "kinds: a group packet is for members of that group",
        ENTRY,
        "if special.group and group != special.group:",
        "if special.group and not group:",
        KINDS,
    ),
    Mutant(
        "kinds: the phrase counts",
        ENTRY,
        "        elif said == special.phrase:\n",
        "        elif said:\n",
        KINDS,
    ),
    Mutant(
        "kinds: wrong tries of one call are counted one after another",
        ENTRY,
        " + times[user] >= tries",
        " >= tries",
        ("tests/unit/test_entry.py",),
    ),
    Mutant(
        "kinds: too many wrong tries refuse the right phrase too",
        ENTRY,
        "times[user] >= tries.tries_max:\n",
        "times[user] >= tries.tries_max and said != special.phrase:\n",
        KINDS,
    ),
    Mutant(
        "kinds: wrong tries are forgiven after their time",
        ENTRY,
        "        return count if now_ms < since_ms + self.tries_ms else 0\n",
        "        return count\n",
        KINDS,
    ),
    Mutant(
        "kinds: one packet counts the wrong tries of so many users",
        ENTRY,
        "            room -= user not in known and not times[user]\n",
        "",
        ("tests/unit/test_entry.py",),
    ),
    Mutant(
        "kinds: wrong tries survive a restart",
        PACKET_MACHINE,
        "                miss = PhraseMissed(packet_id, missed, now_ms) if missed else None\n",
        "                miss = self._tries.miss(packet, missed, now_ms)\n",
        KINDS,
    ),
    Mutant(
        "kinds: grabs that say different things are decided apart",
        PACKET_SHARD,
        "    return bool(other.phrase == grab.phrase and other.group == grab.group)\n",
        "    return True\n",
        ("tests/unit/test_entry.py",),
    ),
    Mutant(
        "kinds: a phrase is the same in any case",
        PHRASE,
        'unicodedata.normalize("NFKC", phrase).casefold()',
        'unicodedata.normalize("NFKC", phrase)',
        KINDS,
    ),
    Mutant(
        "kinds: what a packet keeps of its phrase is bound to its id",
        PHRASE,
        "packet_id.encode() + said",
        "said",
        KINDS,
    ),
    Mutant(
        "kinds: a user cannot call himself a member",
        HOT,
        "if told.group is not None and self._gateway.auth.claims(headers).scope != GATEWAY_SCOPE:",
        "if told.group is not None and self._gateway.auth.claims(headers).scope == GATEWAY_SCOPE:",
        KINDS,
    ),
    Mutant(
        "kinds: a stranger does not see a direct packet",
        ANSWERS,
        "reader in (special.addressee, view.funding.sender)",
        "bool(reader)",
        KINDS,
    ),
    Mutant(
        "kinds: nobody sends a direct packet to himself",
        SENDS,
        'if wanted.kind == "direct" and wanted.addressee == sender:',
        'if wanted.kind == "direct" and wanted.addressee == "":',
        KINDS,
    ),
    Mutant(
        "kinds: the same key with another phrase is another request",
        WALLET_SHARD,
        "special=msgspec.structs.replace(send.special, phrase=phrase))\n",
        'special=msgspec.structs.replace(send.special, phrase=b"x"))\n',
        KINDS,
    ),
]
