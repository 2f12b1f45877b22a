"""Configuration: every bound, limit and secret, read once and passed on as an argument.

`Settings` come from a TOML file in configs/ (default `local`), overridden by `HONGBAO_*` variables (nested with `__`).
A file may say `extends = "local"`: then it holds only what differs from that one.
`Keys` come from a file of mode 0600. Nothing else in the project reads the environment.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import platformdirs
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core.core_schema import (
    CoreSchema,
    no_info_plain_validator_function,
    plain_serializer_function_ser_schema,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from actors.kernel.kind import DuplicateKind
from actors.kernel.rules import Rules, StreamCounts
from actors.kinds import KINDS, streams_of
from cluster.local.secret_files import read_private
from cluster.sections import (
    Bounds,
    DoorRules,
    GatewayCache,
    GatewayFair,
    KindSection,
    Limits,
    Overload,
    Placement,
    Sight,
    Streaming,
    Timing,
    read,
    read_kind,
)

SERVE_ENVIRONMENT = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "cluster.gateway.middleware.serve_hooks:middlewares",
}
"""Set before Ray starts. Without the first three Serve answers a tenth as many requests; without the last a stream's
body is read ahead without a bound, and a replica that ends cannot tell its streams."""


R = TypeVar("R", bound=Rules)


class _Table:
    """How pydantic reads and writes a field that is a section."""

    def __init__(self, read_table: Callable[[Any], Any] | None = None) -> None:
        self._read = read_table

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        writes = plain_serializer_function_ser_schema(_table_of)
        return no_info_plain_validator_function(self._read or partial(read, source), serialization=writes)


def _table_of(section: Any) -> Any:
    return section.table() if isinstance(section, KindSection) else msgspec.to_builtins(section)


class _Environment(EnvSettingsSource):
    """Variables of the environment, those of sections too: HONGBAO_LIMITS__COUNT_MAX."""

    def field_is_complex(self, field: FieldInfo) -> bool:
        """Tell whether a field is a section."""
        return any(isinstance(one, _Table) for one in field.metadata) or super().field_is_complex(field)


TABLE = _Table()


class _Common(BaseSettings):
    """What is not a kind's."""

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
    placement: Annotated[Placement, TABLE]
    limits: Annotated[Limits, TABLE]
    bounds: Annotated[Bounds, TABLE]
    timing: Annotated[Timing, TABLE]
    stream: Annotated[Streaming, TABLE]
    door: Annotated[DoorRules, TABLE]
    gateway_cache: Annotated[GatewayCache, TABLE]
    sight: Annotated[Sight, TABLE]
    overload: Annotated[Overload, TABLE]
    fair: Annotated[GatewayFair, TABLE]

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
        layers = (InitSettingsSource(settings_cls, layer) for layer in _layers)
        return init_settings, _Environment(settings_cls), *layers

    @property
    def kinds(self) -> Mapping[str, KindSection]:
        """The sections of the kinds, by name."""
        return {name: getattr(self, name) for name in KINDS}

    @property
    def layout(self) -> StreamCounts:
        """How many streams there are, by kind and pool."""
        return {name: section.counts for name, section in self.kinds.items()}

    @property
    def streams(self) -> list[str]:
        """Every stream of the system, kind by kind."""
        return list(streams_of(self.layout))

    def rules(self, of: type[R]) -> R:
        """Return the rules of the kind that declares this type of them."""
        [found] = [section.rules for section in self.kinds.values() if isinstance(section.rules, of)]
        return found

    def with_rules(self, kind: str, **changes: Any) -> "Settings":
        """Return the same with other rules of one kind."""
        section = self.kinds[kind]
        changed = msgspec.structs.replace(section, rules=msgspec.structs.replace(section.rules, **changes))
        return self.model_copy(update={kind: changed})


if TYPE_CHECKING:
    Settings = _Common
else:
    if taken := sorted(KINDS.keys() & dir(_Common)):
        raise DuplicateKind(
            f"the kind {taken[0]!r} cannot have a section in configs/: its name has another meaning there"
        )
    Settings = create_model(
        "Settings",
        __base__=_Common,
        __module__=__name__,
        __doc__="One system's configuration. Frozen; pickled to every actor.",
        **{name: (Annotated[KindSection, _Table(partial(read_kind, kind))], ...) for name, kind in KINDS.items()},
    )


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
    for layer in _layers:
        for name in layer:
            if name not in Settings.model_fields:
                raise ValueError(
                    f"configuration {config}: {name!r} is neither a section nor a kind of actor; "
                    f"the kinds are {', '.join(KINDS)}"
                )
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


class _Secret(BaseModel):
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
