"""Repair command: cuts off the damaged end of a store's log, as a power cut may leave it, so that the store starts."""

from typing import Annotated

import typer

from cluster.commands.terminal import AsJson, Data, Failure, err, out, print_json


def repair(
    data: Data = None,
    lose_what_follows: Annotated[
        bool, typer.Option(help="Cut also where whole entries follow the damage: they are lost. A backup is better.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Cut the store's log of a stopped system off behind its last whole entry, keep what is cut, say what is lost."""
    from filelock import FileLock, Timeout

    from cluster.config import data_folder
    from cluster.local import store_log
    from cluster.local.record import WATCHDOG_LOCK, run_folders_of

    folder = data_folder(data)
    if not (folder / "store").is_dir():
        raise Failure(f"{folder} holds no store of `hongbao up`; --data names another folder")
    try:
        with FileLock(folder / WATCHDOG_LOCK, timeout=0, mode=0o600):
            if run_folders_of(folder):
                raise Failure(f"a store runs on {folder}; `hongbao down` ends it")
            cut = store_log.repair(folder, lose_what_follows=lose_what_follows)
    except Timeout:
        raise Failure(f"{folder} is in use: `hongbao down` first, or wait for the command that reads it") from None
    if as_json:
        print_json({"repaired": cut is not None} | ({} if cut is None else cut.model_dump(mode="json")))
        return
    if cut is None:
        out.print("Nothing to repair: the log ends with a whole entry.", highlight=False)
        return
    out.print(f"Cut off the store's log: {cut.words()}", highlight=False, soft_wrap=True)
    err.print("`hongbao up` starts it; `hongbao verify` and `hongbao audit --offline` read all that is there.")
