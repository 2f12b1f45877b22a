"""PostgreSQL: FastAPI with a row lock for each packet (`SELECT ... FOR UPDATE`), a grab one durable round trip.

The server's own fsync and synchronous_commit are on. The grab is a stored function, so that the lock is held for one
statement and not for an application's four. `python -m loadtest.bench.peers.postgres FD DSN` is one worker.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, Header, HTTPException

from loadtest.bench.peers.lua_http import SHARE_FEN, peer_requests
from loadtest.bench.peers.workers import Workers, serve

CONNECTIONS_A_WORKER = 32
START_S_MAX = 30
USER = "postgres"
SETTINGS = {
    "listen_addresses": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
}
SCHEMA = """
CREATE TABLE packet (id text PRIMARY KEY, taken int NOT NULL DEFAULT 0, count int NOT NULL);
CREATE TABLE share (packet text, rank int, amount_fen int NOT NULL, PRIMARY KEY (packet, rank));
CREATE TABLE grab (packet text, taker text, rank int NOT NULL, amount_fen int NOT NULL, PRIMARY KEY (packet, taker));
CREATE FUNCTION take(which text, who text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE gone int; won int;
BEGIN
  SELECT taken INTO gone FROM packet WHERE id = which FOR UPDATE;
  SELECT amount_fen INTO won FROM grab WHERE packet = which AND taker = who;
  IF FOUND THEN RETURN won; END IF;
  SELECT amount_fen INTO won FROM share WHERE packet = which AND rank = gone + 1;
  IF NOT FOUND THEN RETURN NULL; END IF;
  INSERT INTO grab VALUES (which, who, gone + 1, won);
  UPDATE packet SET taken = gone + 1 WHERE id = which;
  RETURN won;
END $$;
"""


def find_binaries() -> Path | None:
    """Return the folder of the newest installed server; None if there is none."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class PostgresServer:
    """A server in a temporary folder, on a Unix socket; as the user `postgres` if we are root, whom it refuses."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._folder = Path(tempfile.mkdtemp(prefix="hongbao-pg-"))
        if os.getuid() == 0:
            shutil.chown(self._folder, USER, USER)
        self._folder.chmod(0o711)
        self.dsn = f"postgresql://{USER}@/postgres?host={self._folder}"
        try:
            self._run("initdb", "-D", str(self._cluster), "-U", USER, "--auth=trust", "--no-sync")
            options = " ".join(f"-c {name}='{value}'" for name, value in SETTINGS.items())
            options += f" -c unix_socket_directories={self._folder}"
            log = str(self._folder / "log")
            self._run(
                "pg_ctl", "-D", str(self._cluster), "-w", "-t", str(START_S_MAX), "-l", log, "-o", options, "start"
            )
        except BaseException:
            self.stop()
            raise

    @property
    def _cluster(self) -> Path:
        return self._folder / "cluster"

    def stop(self) -> None:
        """End it and remove its folder."""
        if (self._cluster / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", str(self._cluster), "-m", "immediate", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        who = USER if os.getuid() == 0 else None
        quiet = subprocess.DEVNULL
        subprocess.run(
            command, check=True, stdout=quiet, stderr=quiet, cwd=self._folder, timeout=60, user=who, group=who
        )


def build_app(dsn: str) -> FastAPI:
    """Return the app of one worker."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(dsn, min_size=CONNECTIONS_A_WORKER, max_size=CONNECTIONS_A_WORKER) as pool:
            app.state.pool = pool
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {}

    @app.post("/packets/{packet_id}/grabs")
    async def grab(packet_id: str, x_user: Annotated[str, Header()], body: dict[str, Any]) -> dict[str, Any]:
        found = await app.state.pool.fetchval("SELECT take($1, $2)", packet_id, x_user)
        if found is None:
            raise HTTPException(409, "drained")
        return {"packet_id": packet_id, "user": x_user, "amount_fen": found}

    return app


class Postgres:
    """The peer with packets in its tables."""

    name = "FastAPI + PostgreSQL"

    def __init__(self, binaries: Path, workers: int) -> None:
        self._server = PostgresServer(binaries)
        self._serial = 0
        self._shares = 0
        self._packets: list[str] = []
        self._count = workers
        self._workers: Workers | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        assert self._workers is not None, "it is filled first"
        return self._workers.url

    async def fill(self, packets: int, shares: int) -> list[bytes]:
        """Make packets and return a request for every share, interleaved as ours are."""
        self._serial += 1
        self._packets = [f"{self._serial}-{number}" for number in range(packets)]
        self._shares = shares
        async with asyncpg.create_pool(self._server.dsn, min_size=1, max_size=1) as pool:
            if self._workers is None:
                await pool.execute(SCHEMA)
            await pool.execute("TRUNCATE packet, share, grab")
            await pool.copy_records_to_table("packet", records=[(packet, 0, shares) for packet in self._packets])
            every = [(packet, rank, SHARE_FEN) for packet in self._packets for rank in range(1, shares + 1)]
            await pool.copy_records_to_table("share", records=every)
            await pool.execute("ANALYZE")
        if self._workers is None:
            self._workers = Workers("loadtest.bench.peers.postgres", self._count, self._server.dsn)
        return peer_requests(self._packets, shares)

    async def check(self, answers: int, connections: int) -> None:
        """Make sure that every answer took one share and no fen is missing."""
        connection = await asyncpg.connect(self._server.dsn)
        # One statement, so one snapshot: what was under way at the end of the load may still come.
        takers, paid, ranks, taken = await connection.fetchrow(
            "SELECT count(*), coalesce(sum(amount_fen), 0), count(DISTINCT (packet, rank)),"
            " (SELECT sum(taken) FROM packet) FROM grab"
        )
        await connection.close()
        assert takers == ranks == taken, "every share is taken once"
        assert paid == takers * SHARE_FEN, "every taker has a share"
        assert answers <= takers <= answers + connections, f"{takers} takers for {answers} answers"

    async def stop(self) -> None:
        """End it."""
        if self._workers is not None:
            self._workers.stop()
        self._server.stop()


if __name__ == "__main__":
    serve(build_app(sys.argv[2]), int(sys.argv[1]))
