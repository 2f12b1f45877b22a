"""Bugs in whose keys are used, and in where a backup is written and what it reads."""

from tests.bugs import Mutant

KEYS, PRIVATE, CLAIMS = "cluster/keys.py", "cluster/private.py", "cluster/offline/claims.py"
BACKUP, ARCHIVE = "cluster/offline/backup.py", "cluster/journal/archive.py"
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
        "        await self._check()\n        return await super().activate(host)",
        "        found = await super().activate(host)\n        await self._check()\n        return found",
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
]
