"""Every section of the configuration, in the order in which `rs3d config show` prints them, and the names kept for
later.

The dataclasses of packages below are used as they are; those of the daemon as a whole are here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from rs3d.app.listeners import parse_address
from rs3d.config.schema import Family, Schema, Section
from rs3d.crypto.providers.directory import DEFAULT_KEY
from rs3d.crypto.providers.registry import settings_by_type
from rs3d.crypto.providers.unwrapped import CACHE_S, CACHED_KEYS
from rs3d.engine.configuration import EngineConfig
from rs3d.engine.dedupplan import DEDUP_OFF, check_dedup, check_dedup_minimum
from rs3d.engine.layers import check_cipher, check_compression
from rs3d.errors import ConfigurationError, InvalidArgument
from rs3d.http.limits import HttpLimits
from rs3d.rio.cutting import CutAlgorithm
from rs3d.rio.encryption import Cipher
from rs3d.s3.configuration import S3Config
from rs3d.services.scrubstate import ScrubConfig
from rs3d.stores.ballast import SpaceConfig
from rs3d.stores.blobs import NEVER_PAST_CACHE, BlobStoreConfig
from rs3d.stores.mapresizing import check_map_bytes
from rs3d.telemetry.logs import LogFormat, LogLevel

LOCAL_PROVIDER: Final = "local"
PROVIDERS: Final = "keys.providers"


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """Section `[storage]`: where the store is."""

    root: Path | None = None
    """Directory of the store; made, with its store, when it does not exist or is empty. Required."""
    compression: str = "off"
    """How buckets without a `compression` setting of their own store new objects: off, lz4, zstd, zstd:LEVEL,
    adaptive."""
    map_bytes: int = 64 * 1024 * 1024 * 1024
    """Size of the catalog's map when a store is made: address space, and the most the catalog can grow to. Changed
    afterwards by `rs3d check --map-bytes` alone."""

    def __post_init__(self) -> None:
        try:
            check_compression(self.compression)
        except InvalidArgument as wrong:
            raise ConfigurationError(source="storage", key="compression", reason=wrong.reason) from None
        try:
            check_map_bytes(self.map_bytes)
        except InvalidArgument as wrong:
            raise ConfigurationError(source="storage", key="map_bytes", reason=wrong.reason) from None


def check_addresses(section: str, key: str, addresses: tuple[str, ...]) -> None:
    """Raises ConfigurationError for what is no address, before anything is made or opened."""
    for address in addresses:
        try:
            parse_address(address, key=key)
        except ConfigurationError as wrong:
            raise ConfigurationError(source=section, key=key, reason=wrong.reason) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupConfig:
    """Section `[storage.dedup]`: how buckets without a `dedup` setting of their own store new objects."""

    enabled: bool = False
    algorithm: str = CutAlgorithm.FIXED.value
    """`fixed` or `content-defined`."""
    block_size: int = 64 * 1024
    """Bytes of a chunk, or their mean: 4 KiB to 1 MiB; a power of two for content-defined chunks."""
    min_object_size: int = 128 * 1024
    """Shorter objects and parts are stored as they are."""

    def __post_init__(self) -> None:
        for key, check in (("block_size", check_dedup), ("min_object_size", check_dedup_minimum)):
            text = f"{self.algorithm}:{self.block_size}" if key == "block_size" else str(self.min_object_size)
            try:
                check(text)
            except InvalidArgument as wrong:
                is_named = self.algorithm in {algorithm.value for algorithm in CutAlgorithm}
                reason = wrong.reason if is_named else "must be fixed or content-defined"
                raise ConfigurationError(
                    source="storage.dedup", key=key if is_named else "algorithm", reason=reason
                ) from None

    @property
    def setting(self) -> str:
        """The same as a value of the bucket setting `dedup`."""
        return f"{self.algorithm}:{self.block_size}" if self.enabled else DEDUP_OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroCopyConfig:
    """Section `[storage.zerocopy]`: which bytes go past the page cache, and past the memory of a process."""

    direct_io: bool = True
    """Large bodies are written past the page cache (O_DIRECT), where the file system allows it: no copy, no pages taken
    from what is read, and the disk works at once. The first GET reads them from there."""
    direct_io_threshold: int = 128 * 1024
    """Bytes; shorter pieces of a body take the page cache."""
    splice: bool = True
    """Plain objects, and decoded bodies that are kept, are sent by sendfile; otherwise, and over TLS, from a buffer."""
    mmap: bool = True
    """What is sent from the page cache is checked there through a mapping; otherwise by reading it."""

    def __post_init__(self) -> None:
        if self.direct_io_threshold < 4096:
            raise ConfigurationError(
                source="storage.zerocopy", key="direct_io_threshold", reason="must be at least 4096, a page"
            )

    @property
    def past_cache_bytes(self) -> int:
        """From which length on pieces of a body go past the page cache."""
        return self.direct_io_threshold if self.direct_io else NEVER_PAST_CACHE


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Section `[server]`: where S3 is served. Sockets passed by systemd under the names `s3` and `s3-tls` replace
    these."""

    listen: tuple[str, ...] = ("127.0.0.1:9000",)
    """Addresses of plain HTTP as HOST:PORT; port 0 takes a free one."""
    tls_listen: tuple[str, ...] = ()
    """Addresses of HTTPS."""
    tls_certificate: Path | None = None
    """PEM file with the certificate and its chain, or the name of a systemd credential."""
    tls_key: Path | None = None
    """PEM file with the private key, or the name of a systemd credential."""

    def __post_init__(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigurationError(source="server", key="tls_key", reason="goes with tls_certificate")
        for key in ("listen", "tls_listen"):
            check_addresses("server", key, getattr(self, key))
        if self.tls_listen and self.tls_certificate is None:
            raise ConfigurationError(source="server", key="tls_listen", reason="needs tls_certificate and tls_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsConfig:
    """Section `[ops]`: health and metrics over plain HTTP, without authentication and without anything secret."""

    listen: tuple[str, ...] = ("127.0.0.1:9001",)
    """Addresses; empty serves neither."""

    def __post_init__(self) -> None:
        check_addresses("ops", "listen", self.listen)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminConfig:
    """Section `[admin]`."""

    socket: Path | None = None
    """The administration socket; default `admin.sock` in the storage root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonConfig:
    """Section `[daemon]`: processes."""

    workers: int = 0
    """Worker processes; 0 = as many as this process may use processors."""
    drain_timeout_s: float = 30.0
    """How long requests in flight may take to finish when the daemon stops."""
    heartbeat_timeout_s: float = 10.0
    """A child silent for so long is killed and started again."""
    committer_wait_s: float = 30.0
    """How long writes wait for a committer that is being started again before they are refused: less than the minute
    after which clients give up by themselves, so that they hear why."""
    core_dumps: bool = False
    """Whether processes may leave core dumps and be debugged by their own user; both show what is being served."""

    def __post_init__(self) -> None:
        if not 0 <= self.workers <= 128:
            raise ConfigurationError(source="daemon", key="workers", reason="must be 0 to 128")
        for key in ("drain_timeout_s", "heartbeat_timeout_s", "committer_wait_s"):
            if getattr(self, key) <= 0:
                raise ConfigurationError(source="daemon", key=key, reason="must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysConfig:
    """Section `[keys]`: the store's master key; key providers of SSE-KMS have tables `[keys.providers.NAME]`. A
    systemd credential named `rs3d.master-key` comes before the file."""

    master_file: Path | None = None
    """File with the master key (0600); default `master.key` in the storage root for `rs3d mini`, none for `rs3d
    serve`."""
    provider: str = LOCAL_PROVIDER
    """The key provider of key ids that name none (`PROVIDER:KEY`). `local` is a keyring in the storage root, unless
    there is a table of this name."""
    default_key: str = DEFAULT_KEY
    """The key of requests for SSE-KMS that name none; a keyring makes it when it is first wanted."""
    cache_s: float = CACHE_S
    """How long a data key that a remote provider unwrapped is used without asking again."""
    cached_keys: int = CACHED_KEYS
    """Most such keys held, in locked memory."""

    def __post_init__(self) -> None:
        if not 1 <= self.cache_s <= 3600:
            raise ConfigurationError(source="keys", key="cache_s", reason="1 to 3600 seconds")
        if not 16 <= self.cached_keys <= 65_536:
            raise ConfigurationError(source="keys", key="cached_keys", reason="16 to 65,536")
        if not self.default_key:
            raise ConfigurationError(source="keys", key="default_key", reason="must not be empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionConfig:
    """Section `[storage.encryption]`."""

    algorithm: str = Cipher.AES_256_GCM.value
    """How buckets without a `cipher` setting of their own seal new objects: AES-256-GCM or ChaCha20-Poly1305. Whether
    they are sealed is said by requests and by the bucket's default encryption."""

    def __post_init__(self) -> None:
        try:
            check_cipher(self.algorithm)
        except InvalidArgument as wrong:
            raise ConfigurationError(source="storage.encryption", key="algorithm", reason=wrong.reason) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class RootConfig:
    """Section `[root]`: the root user's access key. RS3D_ROOT_ACCESS_KEY and RS3D_ROOT_SECRET_KEY, or a systemd
    credential named
    `rs3d.root-credentials`, come first."""

    credentials_file: Path | None = None
    """File with `access_key = …` and `secret_key = …` (0600). Without any of them root has no key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """Section `[log]`."""

    level: LogLevel = LogLevel.INFO
    format: LogFormat = LogFormat.TEXT
    requests: bool = False
    """One INFO line for every request. Requests that failed by the server's fault are logged always."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicesConfig:
    """Section `[services]`: background work of the steward."""

    garbage_interval_s: float = 1.0
    """Pause between two rounds of unlinking freed blobs while there are any."""
    sweep_interval_s: float = 10.0
    """How often directories of ended workers are looked for."""
    compaction_interval_s: float = 60.0
    """How often the log is looked over for segments that are mostly dead."""
    reader_check_interval_s: float = 60.0
    """How often slots of dead readers in the catalog are freed."""
    pack_interval_s: float = 60.0
    """How often packs of deduplicated chunks are looked over for some that are mostly dead."""
    pack_live_share: float = 0.5
    """Packs whose live chunks have less than this share of their bytes are written anew."""
    pack_minimum_dead_bytes: int = 4 << 20
    """Packs with fewer dead bytes are left as they are."""

    def __post_init__(self) -> None:
        for field in fields(self):
            key = field.name
            if getattr(self, key) <= 0:
                raise ConfigurationError(source="services", key=key, reason="must be positive")
        if self.pack_live_share > 1:
            raise ConfigurationError(source="services", key="pack_live_share", reason="must be at most 1")


PLANNED: Final[dict[str, str]] = {
    "storage.cache": "the smart cache",
    "scrub.auto_cleanup_enabled": "removing old blobs from quarantine/",
    "scrub.retention_days": "removing old blobs from quarantine/",
}
"""Names of the storage documentation whose systems this build does not have: setting one is an error that says so."""

SCHEMA: Final = Schema(
    sections=(
        Section("storage", StorageConfig),
        Section("storage.encryption", EncryptionConfig),
        Section("storage.blobs", BlobStoreConfig, derived=frozenset({"verify", "past_cache_bytes", "maps"})),
        Section("storage.zerocopy", ZeroCopyConfig),
        Section("storage.dedup", DedupConfig),
        Section("storage.space", SpaceConfig),
        Section("keys", KeysConfig),
        Section("root", RootConfig),
        Section("server", ServerConfig),
        Section("http", HttpLimits),
        Section("s3", S3Config),
        Section(
            "engine",
            EngineConfig,
            derived=frozenset(
                {"region", "compression", "cipher", "dedup", "dedup_min_object_bytes", "sends_files", "hash_rounds"}
            ),
        ),
        Section("ops", OpsConfig),
        Section("admin", AdminConfig),
        Section("daemon", DaemonConfig),
        Section("services", ServicesConfig),
        Section("scrub", ScrubConfig),
        Section("log", LogConfig),
    ),
    planned=PLANNED,
    families=(Family(PROVIDERS, "type", settings_by_type()),),
)

RELOADABLE: Final = frozenset({"s3", "log", "server.tls_certificate", "server.tls_key"})
"""Sections and keys that a running daemon takes over on SIGHUP; the others wait for a restart, and a reload says so."""
