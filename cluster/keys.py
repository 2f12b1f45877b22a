"""Keys: are they the keys of this system? The store keeps a fingerprint of each, and no shard decides with others.

Wrong keys give other packet ids and other seeds: a repeated send would be paid a second time, and an open packet would
deal shares that do not match its commitment. So the keys of an existing system are never made anew: without them it
does not start, and the way back is the backup.

| in the book `keys` of the store | |
|---|---|
| `first` | the id of the key that packet ids use; it never changes |
| `key:<id>` | FINGERPRINT_BYTES of HMAC-SHA256(key, FINGERPRINT_OF): it tells keys apart, and nothing about them |

The fingerprints are written before the system is, each only if none is there: of two who create one system with
different keys the second is refused. A further key is added at a start (a rotation: it is put into the file, named by
`current`, and the old ones stay). What is fingerprinted never leaves.
Token keys are not: without one its tokens are refused, no money moves, and new ones are minted. They change freely.
"""

import hmac
import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from actors.kernel.errors import WrongKeys
from actors.kernel.metrics import Tally
from actors.kernel.ports import Activation, Journal
from cluster.config import PLATFORM_KID, Keys, TokenKey, keys_at
from cluster.journal.store import Store
from cluster.local.secret_files import make_private
from cluster.observability.journal_metrics import MeasuredJournal, MeasuredJournals

BOOK = "keys"
FIRST, KEY = "first", "key:"
FINGERPRINT_OF = b"hongbao: the fingerprint of a platform key"
FINGERPRINT_BYTES = 16
RESTORE = "put the keys file of this system there (its backup holds it as keys.json)"


def fingerprint(key: bytes) -> str:
    """Return what tells a key from others, in hex."""
    return hmac.digest(key, FINGERPRINT_OF, "sha256")[:FINGERPRINT_BYTES].hex()


def fingerprints(keys: Keys) -> dict[str, str]:
    """Return what the store is to keep of these keys."""
    return {FIRST: keys.first} | {f"{KEY}{key_id}": fingerprint(keys.key(key_id)) for key_id in sorted(keys.platform)}


def compare(known: dict[str, str], keys: Keys) -> None:
    """Raise WrongKeys, one line, unless these are the keys that are known of a system, or more."""
    for name, told in known.items():
        if name == FIRST and keys.first != told:
            raise WrongKeys(
                f"the keys file names {keys.first!r} as first, this system's packet ids are made with {told!r}: "
                f"set it back, or {RESTORE}"
            )
        if name.startswith(KEY):
            key_id = name.removeprefix(KEY)
            if key_id not in keys.platform:
                raise WrongKeys(f"platform key {key_id!r} of this system is not in the keys file: {RESTORE}")
            if fingerprint(keys.key(key_id)) != told:
                raise WrongKeys(f"platform key {key_id!r} in the keys file is not the one of this system: {RESTORE}")


async def known_to(store: Store) -> dict[str, str]:
    """Return what the store keeps of its system's keys; nothing of a new one. Raises JournalUnavailable."""
    names = await store.field_names(BOOK)
    found = await store.read_fields(BOOK, names)
    return {name: told.decode() for name, told in zip(names, found, strict=True) if told is not None}


async def has_system(store: Store) -> bool:
    """Tell whether there is a system, or somebody is about to create one. Raises JournalUnavailable."""
    return bool(await store.system_id() or await known_to(store))


async def check_keys(store: Store, keys: Keys) -> None:
    """Return if these are the system's keys. Raises WrongKeys, JournalUnavailable."""
    compare(await known_to(store), keys)


async def keep_keys(store: Store, keys: Keys) -> None:
    """Make sure that these are the system's keys, and keep the fingerprints of those that are new.

    A system from before there were fingerprints gets those of the first keys it is started with.
    Raises WrongKeys, JournalUnavailable.
    """
    known = await known_to(store)
    compare(known, keys)
    for name, told in fingerprints(keys).items():
        if name not in known:
            await store.swap_field(BOOK, name, None, told.encode())
    await check_keys(store, keys)  # somebody else may have put another one there meanwhile


def new_keys(path: Path) -> Keys:
    """Make the keys of a new system, in a file of mode 0600, or return those that another start has just made."""
    keys = Keys(
        first="k1",
        current="k1",
        platform={"k1": secrets.token_hex(32)},
        tokens={
            PLATFORM_KID: TokenKey(
                algorithm="HS256",
                key=secrets.token_hex(32),
                tenant="*",
                scopes=frozenset({"user", "gateway", "operator"}),
            )
        },
    )
    try:
        make_private(path, json.dumps(keys.model_dump(mode="json")).encode())
    except FileExistsError:
        return keys_at(path)
    return keys


async def keys_for(store: Store, path: Path) -> Keys:
    """Return the keys in a file, which are made if it is not there and the store holds no system either.

    Raises WrongKeys: there is a system, and its keys are missing or others; JournalUnavailable; see `keys_at`.
    """
    try:
        keys = keys_at(path)
    except FileNotFoundError:
        if await has_system(store):
            raise WrongKeys(f"{path} does not exist, but the store holds a system: {RESTORE}") from None
        keys = new_keys(path)
    await check_keys(store, keys)
    return keys


class KeyedJournals(MeasuredJournals):
    """Journals that cannot be activated with keys of another system; compared once per process."""

    def __init__(self, store: Store, tally: Tally, keys: Keys) -> None:
        super().__init__(store, tally)
        self._store = store
        self._keys = keys
        self._checked = False

    def open(self, stream: str) -> Journal:
        """Return a journal for one activation."""
        return KeyedJournal(self._store.open(stream), self._tally, self._check)

    async def _check(self) -> None:
        if not self._checked:
            await check_keys(self._store, self._keys)
            self._checked = True


class KeyedJournal(MeasuredJournal):
    """One activation's journal: nothing is fenced before the keys are known to be the system's."""

    def __init__(self, journal: Journal, tally: Tally, check: Callable[[], Awaitable[None]]) -> None:
        super().__init__(journal, tally)
        self._check = check

    async def activate(self, host: str) -> Activation:
        """Fence and read. Raises WrongKeys, and what any journal does."""
        try:
            await self._check()
        except WrongKeys:
            self._tally.add("activation_failures", WrongKeys.__name__)
            raise
        return await super().activate(host)
