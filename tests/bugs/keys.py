"""Bugs in whose keys are used, and in where a backup is written and what it reads."""

from tests.bugs import HUNT, PACKET_MACHINE, Mutant

KEYS, PRIVATE, CLAIMS = "cluster/keys.py", "cluster/local/secret_files.py", "cluster/offline/folder_claim.py"
BACKUP, ARCHIVE = "cluster/offline/backup.py", "cluster/journal/archive.py"
DEALING, WITHHELD_TESTS = "actors/packet/dealer.py", "tests/unit/test_withheld.py"
SHARES, SHARES_TESTS = "cluster/offline/share_check.py", "tests/unit/test_offline_shares.py"
KEYS_TESTS, PLACES_TESTS = "tests/unit/test_keys.py", "tests/unit/test_backup_places.py"

WHOSE_KEYS = [
    Mutant(
        "keys are never made for a system that exists",
        KEYS,
        "        if await has_system(store):\n",
        "        if await known_to(store):\n",
        (KEYS_TESTS,),
    ),
    Mutant(
        "of two who create a system with different keys one is refused",
        KEYS,
        "    await check_keys(store, keys)  # somebody else may have put another one there meanwhile\n",
        "",
        (KEYS_TESTS,),
    ),
    Mutant(
        "a shard with other keys fences nobody out",
        KEYS,
        "        try:\n            await self._check()\n",
        "        await super().activate(host)\n        try:\n            await self._check()\n",
        (KEYS_TESTS,),
    ),
    Mutant(
        "a keys file that a group may read is refused",
        PRIVATE,
        "OTHERS = stat.S_IRWXG | stat.S_IRWXO",
        "OTHERS = stat.S_IRWXO",
        (KEYS_TESTS,),
    ),
    Mutant(
        "a link does not lead out of an archive",
        ARCHIVE,
        "(self.local / path).resolve().is_relative_to(self.local.resolve())",
        "(self.local / path).is_relative_to(self.local)",
        (PLACES_TESTS,),
    ),
    Mutant(
        "a restore replaces nothing that another system keeps",
        BACKUP,
        "    if not place.create(path, content) and place.read(path) != content:\n",
        "    place.write(path, content)\n    if place.read(path) != content:\n",
        (PLACES_TESTS,),
    ),
    Mutant(
        "of two restores into one folder the second deletes nothing",
        CLAIMS,
        "    made = claim(folder, mark, apart_from)\n    try:\n        yield\n",
        "    made = True\n    try:\n        claim(folder, mark, apart_from)\n        yield\n",
        (PLACES_TESTS,),
    ),
    Mutant(
        "no share leaves but of the seed that was committed to",
        DEALING,
        "if seed and commitment_of(terms.algorithm, terms.packet_id, seed) == terms.commitment:",
        "if seed:",
        (WITHHELD_TESTS,),
    ),
    Mutant(
        "a packet whose key is missing does not end its stream",
        DEALING,
        "        except KeyError:\n",
        "        except ValueError:\n",
        (WITHHELD_TESTS,),
    ),
    Mutant(
        "whoever comes late to a packet that is withheld is not told that it has ended",
        PACKET_MACHINE,
        '(refusal is None or (refusal is EXPIRED and packet.ended == "open"))',
        "refusal is None",
        (WITHHELD_TESTS,),
    ),
    Mutant(
        "an audit holds the published seed against the commitment",
        SHARES,
        "if hashlib.sha256(named).digest() != terms.commitment:",
        "if not seed:",
        (SHARES_TESTS,),
    ),
    Mutant(
        "an audit recomputes shares with what rolled in and the sender's nonce",
        SHARES,
        'key = page.mac(seed, b"nonce\\0" + terms.sender_nonce.encode()) if terms.sender_nonce else seed',
        "key = seed",
        (SHARES_TESTS,),
    ),
    Mutant(
        "an audit that finds an unproven packet is not clean",
        "cluster/offline/audit.py",
        " and not any(one.unproven_count for one in proved)",
        "",
        (SHARES_TESTS,),
    ),
    Mutant(
        "simulation: a seed that is not the committed one is never published",
        PACKET_MACHINE,
        "        if (seed := self.dealer.seed(funding := packet.terms)) is None:\n            return None\n",
        "        funding = packet.terms\n        seed = self.dealer.seed(funding) or bytes(32)\n",
        HUNT,
    ),
]
