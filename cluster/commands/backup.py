"""Backup commands: write one instant of a system, running or stopped, and make a system of it again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.commands.terminal import AsJson, Config, Data, Failure, err, out, print_json, progress

if TYPE_CHECKING:
    from cluster.config import Settings
    from cluster.journal.archive import Archive
    from cluster.offline.backup import Backup, Places

StoreUrl = Annotated[str | None, typer.Option(help="Redis or Valkey, if it is not the data folder's own.")]
ArchiveUrl = Annotated[str | None, typer.Option(help="Place of sealed journals, if it is not the data folder's own.")]
PhotosUrl = Annotated[str | None, typer.Option(help="Place of photos, if it is not the data folder's own.")]


def backup(
    target: Annotated[str, typer.Argument(help="New folder, or a URL that pyarrow.fs knows (s3://…).")],
    data: Data = None,
    config: Config = "local",
    store_url: StoreUrl = None,
    archive_url: ArchiveUrl = None,
    photos_url: PhotosUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write a backup of a system as it stands now, with its keys: guard it. The system may run on."""
    from cluster.config import KEYS_FILE, data_folder
    from cluster.journal.archive import Archive
    from cluster.journal.sealing import PartBounds
    from cluster.local.secret_files import read_private
    from cluster.offline import backup as backups
    from cluster.offline.sources import ledger_of

    folder = data_folder(data)
    if not (folder / KEYS_FILE).exists():
        raise Failure(f"{folder / KEYS_FILE} does not exist; --data names the folder of a system")
    keys, place = read_private(folder / KEYS_FILE), Archive(target)
    with progress("Backing up") as report, ledger_of(folder, config, store_url, archive_url, report) as ledger:
        settings = ledger.settings
        bounds = PartBounds(settings.bounds.seal_elements_max, settings.bounds.seal_bytes_max)

        async def make() -> "Backup":
            # What a configuration keeps at a URL lasts without us, unless it is asked for.
            apart = not photos_url and "://" in settings.photos_url
            photos = None if apart else _photos_of(settings, folder, photos_url)
            async with _places(settings, place, photos) as places:
                with _taken(place, [folder, *(each.local for each in (places.archive, photos) if each and each.local)]):
                    return await backups.make(places, keys, bounds, settings.timing.backup_hold_ms, report)

        made = asyncio.run(make())
    _show(target, made, as_json)


def restore(
    source: Annotated[str, typer.Argument(help="What `hongbao backup` wrote: a folder or a URL.")],
    data: Data = None,
    config: Config = "local",
    store_url: StoreUrl = None,
    archive_url: ArchiveUrl = None,
    photos_url: PhotosUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make the system of a backup in a new data folder (or an empty store); `hongbao up` then resumes it."""
    from cluster.config import KEYS_FILE, data_folder
    from cluster.journal.archive import Archive
    from cluster.local.secret_files import make_private
    from cluster.offline import backup as backups
    from cluster.offline.folder_claim import claimed
    from cluster.offline.sources import ledger_of

    folder, place = data_folder(data), Archive(source)
    saved, keys = backups.read_index(place), backups.keys_of(place)
    with (
        claimed(folder, "store", [place.local] if place.local else []),
        progress("Restoring") as report,
        ledger_of(folder, config, store_url, archive_url, report) as ledger,
    ):

        async def put_back() -> None:
            photos = _photos_of(ledger.settings, folder, photos_url)
            async with _places(ledger.settings, place, photos) as places:
                await backups.restore(places, saved, keys, report)

        make_private(folder / KEYS_FILE, keys)  # before there is a system that could be started without them
        asyncio.run(put_back())
    _show(source, saved, as_json)
    err.print(f"Restored. `hongbao up` on {folder} resumes it.", highlight=False, soft_wrap=True)


def _taken(place: "Archive", live: list[Path]) -> contextlib.AbstractContextManager[None]:
    """Take the place of a new backup, apart from what is live; a folder is left as it was found if that fails.

    Raises Failure, NotYours.
    """
    from cluster.offline.folder_claim import claimed

    if place.local is not None:
        return claimed(place.local, "journal", live)
    if place.listed():
        raise Failure("there is something at that URL, and it stays as it is; give another one")
    return contextlib.nullcontext()


@contextlib.asynccontextmanager
async def _places(settings: "Settings", backup_place: "Archive", photos: "Archive | None") -> "AsyncIterator[Places]":
    """Connect to a system's store and archive, beside the place of the backup."""
    from cluster.journal.archive import Archive
    from cluster.offline.backup import Places
    from cluster.runtime.shards import open_journals

    store = open_journals(settings)
    try:
        yield Places(store, store.codec, Archive(settings.archive_url), backup_place, photos)
    finally:
        await store.close()


def _photos_of(settings: "Settings", folder: Path, named: str | None) -> "Archive":
    """Return where photos are: as named or configured, else in the data folder, as `hongbao up` has it."""
    from cluster.journal.archive import Archive

    return Archive(named or settings.photos_url or str(folder / "photos"))


def _show(place: str, saved: "Backup", as_json: bool) -> None:
    facts = {
        "place": place,
        "system": saved.system,
        "balances_sha256": saved.balances_sha256,
        "streams": len(saved.streams),
        "elements": sum(part.elements for stream in saved.streams.values() for part in stream.parts),
        "events": sum(stream.version for stream in saved.streams.values()),
        "bytes": sum(part.size for stream in saved.streams.values() for part in stream.parts),
        "photo_files": saved.photo_files,
    }
    if as_json:
        print_json(facts)
        return
    counts = f"{facts['streams']} streams, {facts['events']:,} events, {facts['bytes']:,} bytes of journal"
    counts += f", {saved.photo_files:,} files of photos" if saved.photo_files else ""
    out.print(f"{place}: {counts}", highlight=False, soft_wrap=True)
    out.print(f"balances SHA-256 {saved.balances_sha256}", highlight=False)
