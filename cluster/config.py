"""Configuration: every bound, limit and secret, read once and passed on as an argument.

`Settings` come from a TOML file in configs/ (default `local`), overridden by `HONGBAO_*` variables (nested with `__`).
A file may say `extends = "local"`: then it holds only what differs from that one.
`Keys` come from a file of mode 0600. Nothing else in the project reads the environment.
"""

import os
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from actors.transfers.ids import Layout as StreamNumbers
from actors.transfers.ids import packet_stream, wallet_stream
from cluster.local.secret_files import read_private
from cluster.owners import Fair

SERVE_ENVIRONMENT = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "cluster.gateway.middleware.serve_hooks:middlewares",
}
"""Set before Ray starts. Without the first three Serve answers a tenth as many requests; without the last a stream's
body is read ahead without a bound, and a replica that ends cannot tell its streams."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Layout(_Section):
    """Fixed when a system is created; the store remembers it."""

    packet_streams: int = Field(ge=1, le=4032)
    hot_streams: int = Field(ge=0, le=64)
    """Of packets for a crowd, numbered behind the ordinary ones; 0: those are in the ordinary ones too."""
    wallet_streams: int = Field(ge=1, le=4096)

    @property
    def numbers(self) -> StreamNumbers:
        """How many streams of each sort there are."""
        return StreamNumbers(self.packet_streams, self.hot_streams, self.wallet_streams)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many streams there are, by kind and pool."""
        return {
            "packet": {"": self.packet_streams, "hot": self.hot_streams},
            "wallet": {"": self.wallet_streams},
        }

    def streams(self) -> list[str]:
        """Name every stream of the system."""
        return [packet_stream(i) for i in range(self.packet_streams + self.hot_streams)] + [
            wallet_stream(i) for i in range(self.wallet_streams)
        ]


class Placement(_Section):
    """How many processes; may change at every start."""

    packet_shards: PositiveInt
    hot_shards: PositiveInt
    wallet_shards: PositiveInt
    gateway_replicas: PositiveInt
    settlement_tasks: PositiveInt
    shard_cpus: float = Field(ge=0)
    gateway_cpus: float = Field(ge=0)


class Limits(_Section):
    """What a packet may be. Amounts in fen."""

    share_fen_min: PositiveInt
    share_fen_max: PositiveInt
    total_fen_max: PositiveInt
    count_max: PositiveInt
    greeting_chars_max: PositiveInt
    packet_lifetime_ms: PositiveInt
    sandbox_balance_fen_max: PositiveInt
    sandbox_clock_ms_max: int = Field(ge=1, le=100 * 366 * 86_400_000)
    phrase_tries_max: PositiveInt
    phrase_tries_ms: PositiveInt
    crowd_count_max: PositiveInt
    crowd_total_fen_max: PositiveInt
    crowd_opens_ms_max: PositiveInt
    sponsor_chars_max: PositiveInt
    bursts_max: PositiveInt
    burst_ms_min: PositiveInt
    burst_ms_max: PositiveInt
    nonce_chars_max: PositiveInt
    commitments_unused_max: PositiveInt
    commitment_ms: PositiveInt
    hold_lifetime_ms_max: PositiveInt
    lishi_lifetime_ms: PositiveInt
    lishi_cooldown_ms: PositiveInt
    lishi_open_max: PositiveInt
    lishi_asks_max: PositiveInt
    note_chars_max: PositiveInt
    note_changes_max: NonNegativeInt
    notes_per_packet_max: PositiveInt
    photo_price_fen_min: PositiveInt
    photo_price_fen_max: PositiveInt


class Bounds(_Section):
    """Bounds of every queue, batch, cache and table; beyond them requests are refused."""

    batch_size_max: PositiveInt
    body_bytes_max: PositiveInt
    body_parts_max: PositiveInt
    batch_bytes_max: PositiveInt
    commit_events_max: PositiveInt
    accounts_max: PositiveInt
    unsettled_max: PositiveInt
    opened_ahead_max: PositiveInt
    idempotency_keys_max: PositiveInt
    idempotency_ms: PositiveInt
    statement_lines_max: PositiveInt
    expire_batch_max: PositiveInt
    settle_batch_max: PositiveInt
    passivate_batch_max: PositiveInt
    split_apart_min: PositiveInt
    dealt_ahead_max: PositiveInt
    winners_max: PositiveInt
    phrase_missers_max: PositiveInt
    commitments_max: PositiveInt
    list_lines_max: PositiveInt
    proof_lines_max: PositiveInt
    crowd_count_min: PositiveInt
    lane_count_max: PositiveInt
    holds_max: PositiveInt
    holds_ms: PositiveInt
    lishi_max: PositiveInt
    lishi_counted_max: PositiveInt
    notes_max: PositiveInt
    notes_ms: PositiveInt
    seal_elements_max: PositiveInt
    seal_bytes_max: PositiveInt
    token_cache_max: PositiveInt
    gateway_queue_max: PositiveInt
    gateway_batch_max: PositiveInt
    requests_max: PositiveInt
    ongoing_requests_max: PositiveInt
    queued_requests_max: PositiveInt
    photo_bytes_max: PositiveInt
    photo_pixels_max: PositiveInt
    photo_memory_bytes_max: PositiveInt
    photos_bytes_max: PositiveInt
    photos_uploading_max: PositiveInt
    photos_making_max: PositiveInt


class Timing(_Section):
    """Periods and deadlines in milliseconds."""

    request_deadline_ms: PositiveInt
    ready_ms: PositiveInt
    health_check_ms: PositiveInt
    drain_ms: NonNegativeInt
    shard_call_ms: PositiveInt
    tick_ms: PositiveInt
    settle_ms: PositiveInt
    settle_linger_ms: PositiveInt
    settle_task_ms: PositiveInt
    supervise_ms: PositiveInt
    relay_after_ms: PositiveInt
    ping_deadline_ms: PositiveInt
    store_timeout_ms: PositiveInt
    snapshot_events: PositiveInt
    passivate_after_ms: NonNegativeInt
    backup_hold_ms: PositiveInt
    body_ms: PositiveInt
    photo_upload_ms: PositiveInt
    photo_cpu_ms: PositiveInt


class Streaming(_Section):
    """Bounds of `POST /v1/grabs/stream`."""

    stream_inflight_max: PositiveInt
    streams_max: PositiveInt
    line_bytes_max: int = Field(ge=512)
    stream_age_ms_max: PositiveInt
    stream_tick_ms: PositiveInt


class DoorRules(_Section):
    """How HAProxy stands to the network; see `cluster.local.haproxy`."""

    connections_max: PositiveInt
    other_connections_max: PositiveInt
    head_ms: PositiveInt
    keep_alive_ms: PositiveInt


class GatewayCache(_Section):
    """What a gateway replica remembers of packets that ended, so that losers need no shard."""

    ended_packets_max: PositiveInt
    ended_bytes_max: PositiveInt


class Sight(_Section):
    """How often the system looks at itself, in milliseconds."""

    report_ms: PositiveInt
    store_ms: PositiveInt
    audit_ms: PositiveInt


class Overload(_Section):
    """When a gateway replica refuses, and whom first; see `cluster.gateway.middleware.overload_control`."""

    queueing_ms_target: PositiveInt
    window_ms: PositiveInt
    window_requests_max: PositiveInt
    beat_ms: PositiveInt
    down_percent: int = Field(ge=1, le=25)
    up_percent: int = Field(ge=1, le=25)
    refusing_percent_max: int = Field(ge=1, le=99)
    retry_after_ms_min: PositiveInt
    retry_after_ms_max: PositiveInt
    tenants_max: PositiveInt
    packet_queue_max: PositiveInt


class Settings(BaseSettings):
    """One system's configuration. Frozen; pickled to every actor."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="HONGBAO_", env_nested_delimiter="__")

    sandbox: bool = False
    """Money out of nothing and a clock that is moved, for operators. `sandbox_of` says what starts with it."""
    host: str
    store_url: str = ""
    store_prefix: str = "hongbao"
    """Of every key in the store: several systems may share one."""
    archive_url: str = ""
    """Where sealed journals go, for pyarrow.fs: a folder or s3://…; empty: nothing is sealed, the store keeps all."""
    photos_url: str = ""
    """Where photos are, for pyarrow.fs, the same for every replica: a folder or s3://…; empty: there are no photos."""
    drain_file: str = ""
    """Once this file exists, the system is about to end, and its streams do; empty: nobody says so by a file."""
    layout: Layout
    placement: Placement
    limits: Limits
    bounds: Bounds
    timing: Timing
    stream: Streaming
    door: DoorRules
    gateway_cache: GatewayCache
    sight: Sight
    overload: Overload
    fair: Fair

    @field_validator("archive_url", "photos_url")
    @classmethod
    def _whole_address(cls, url: str) -> str:
        if url and "://" not in url and not Path(url).is_absolute():
            raise ValueError("an absolute folder or a URL: every process has a working folder of its own")
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the files that `load` has read, the most special one first."""
        return init_settings, env_settings, *(InitSettingsSource(settings_cls, layer) for layer in _layers)


DEFAULT_CONFIG = "local"
EXTENDS_MAX = 4
"""Files that one configuration may be made of."""

_layers: list[dict[str, Any]] = []


def config_path(name: str) -> Path:
    """Return the file of a configuration: a path as given, or a name such as "local" from configs/."""
    if name.endswith(".toml"):
        return Path(name)
    return Path(str(files("configs"))) / f"{name}.toml"


def load(config: str = DEFAULT_CONFIG, **override: Any) -> Settings:
    """Read a configuration by name or path.

    Raises FileNotFoundError, ValueError (pydantic's ValidationError is one): the message names file or field.
    """
    global _layers
    _layers = read_layers(config)
    try:
        return Settings(**override)
    finally:
        _layers = []


def read_layers(config: str) -> list[dict[str, Any]]:
    """Return what a configuration's file says, then what each file says that it extends. Raises as `load` does."""
    layers: list[dict[str, Any]] = []
    name, beside = config, Path()
    while name:
        path = beside / config_path(name)
        if not path.is_file():
            raise FileNotFoundError(f"no configuration {name!r}: {path} does not exist")
        try:
            layer = tomllib.loads(path.read_text(encoding="utf-8"))
        except ValueError as failure:
            raise ValueError(f"configuration {path} is not TOML: {failure}") from failure
        layers.append(layer)
        name, beside = layer.pop("extends", ""), path.parent
        if not isinstance(name, str) or (len(layers) == EXTENDS_MAX and name):
            raise ValueError(
                f"configuration {path}: extends names one other file, and at most {EXTENDS_MAX} are joined"
            )
    return layers


def sandbox_of(settings: Settings, asked: bool | None, *, own_store: bool) -> bool:
    """Decide whether a system starts as a sandbox: as `asked`, else as configured, else only on a store of its own.

    Raises ValueError if a configuration alone would make one of a store that others may use.
    """
    if asked is not None:
        return asked
    if own_store:
        return settings.sandbox or "sandbox" not in settings.model_fields_set
    if settings.sandbox:
        raise ValueError(
            "the configuration says sandbox = true, with which operators make money and move the clock, and the store "
            "is not this system's own: ask for it by name (--sandbox; `sandbox: true` among the application's args)"
        )
    return False


class _Secret(_Section):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    """What is wrong with a secret is told without the secret."""


class TokenKey(_Secret):
    """A key that signs tokens, and what it may grant. `tenant` "*" (every tenant) is for the platform's own key."""

    algorithm: str = Field(pattern="^(HS256|EdDSA)$")
    key: str = Field(repr=False)
    tenant: str
    scopes: frozenset[str]


class Keys(_Secret):
    """The platform's secrets: HMAC keys of packets (`platform`, hex) by id, and keys of tokens by `kid`.

    `current` makes the seeds of new packets; `first` makes packet ids, and never changes. See `cluster.keys`.
    """

    first: str
    current: str
    platform: dict[str, str] = Field(repr=False)
    tokens: dict[str, TokenKey]

    @model_validator(mode="after")
    def _whole(self) -> "Keys":
        for key_id in (self.first, self.current):
            if key_id not in self.platform:
                raise ValueError(f"platform key {key_id!r} is named, and not there")
        for key_id, key in self.platform.items():
            if len(key) < 2 * PLATFORM_KEY_BYTES_MIN or re.fullmatch("([0-9a-fA-F]{2})+", key) is None:
                raise ValueError(f"platform key {key_id!r} must be at least {PLATFORM_KEY_BYTES_MIN} bytes in hex")
        return self

    def key(self, key_id: str) -> bytes:
        """Return the platform key of that id. Raises KeyError naming it."""
        if key_id not in self.platform:
            raise KeyError(f"platform key {key_id!r} is not in the keys file; restore it from the backup")
        return bytes.fromhex(self.platform[key_id])


KEYS_FILE = "keys.json"
"""In a data folder, and in a backup."""

PLATFORM_KID = "platform"
PLATFORM_KEY_BYTES_MIN = 16
"""A shorter key could be guessed from what is told of it: seeds of ended packets, its fingerprint."""


def keys_at(path: Path) -> Keys:
    """Read the keys file of a system that exists.

    Raises FileNotFoundError, PermissionError, ValueError: one line that says what is wrong, without any secret.
    """
    try:
        content = read_private(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist: there are no keys of a system") from None
    return keys_in(content, str(path))


def keys_in(content: bytes, name: str) -> Keys:
    """Read what a keys file holds. Raises ValueError: it is not a keys file."""
    try:
        return Keys.model_validate_json(content)
    except ValidationError as failure:
        [*_, wrong] = failure.errors(include_url=False, include_context=False, include_input=False)
        where = ".".join(map(str, wrong["loc"]))
        raise ValueError(f"{name} is not a keys file: {where + ': ' if where else ''}{wrong['msg']}") from None


def data_folder(data: Path | None = None) -> Path:
    """Return the data folder: as given, or as HONGBAO_DATA says, or the user's own for this application."""
    named = os.environ.get("HONGBAO_DATA") or platformdirs.user_data_dir("hongbao", appauthor=False)
    return (data or Path(named)).absolute()
