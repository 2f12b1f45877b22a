"""Keys command: shows whose keys a keys file holds, and makes the keys of a system that does not exist yet."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cluster.commands.terminal import AsJson, Data, Failure, err, out, print_json


def keys(
    new: Annotated[
        bool, typer.Option("--new", help="Make the keys of a new system; not of one that is there.")
    ] = False,
    keys_file: Annotated[Path | None, typer.Option(help="Keys file; default: keys.json in the data folder.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show the keys of a system by id and fingerprint (no secret), or make them: once, before its first start."""
    from cluster.config import KEYS_FILE, data_folder, keys_at
    from cluster.keys import fingerprint, new_keys

    path = (keys_file or data_folder(data) / KEYS_FILE).absolute()
    if new:
        if path.exists():
            raise Failure(f"{path} exists: those are the keys of a system, and nothing replaces them")
        if (path.parent / "store").exists():
            raise Failure(f"{path.parent} holds a system: put its own keys file there (keys.json of its backup)")
        new_keys(path)
        err.print(f"Made {path}. Copy it to every node, and keep it: the store does not hold it.")
    found = keys_at(path)
    prints = {key_id: fingerprint(found.key(key_id)) for key_id in found.platform}
    if as_json:
        print_json(
            {
                "file": str(path),
                "first": found.first,
                "current": found.current,
                "platform": prints,
                "tokens": sorted(found.tokens),
            }
        )
        return
    table = Table(title="Platform keys")
    for name in ("key", "fingerprint", "use"):
        table.add_column(name)
    for key_id, told in prints.items():
        uses = [use for use, named in (("packet ids", found.first), ("new seeds", found.current)) if named == key_id]
        table.add_row(key_id, told, ", ".join(uses) or "seeds of older packets")
    out.print(table)
    out.print(f"token keys: {', '.join(sorted(found.tokens))}", highlight=False)
