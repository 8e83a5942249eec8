"""The settings, read from the environment and validated once at the start."""

import base64
import os
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from cloud_adapter.database_urls import shown_url, url_scheme
from cloud_adapter.errors import SettingsError
from cloud_adapter.request_rate import RequestRate
from cloud_adapter.store_settings import IndexSettings, SecretSettings, listed_keys
from cloud_adapter.variables import FIRESTORE_EMULATOR_VARIABLE, PREFIX, TASKS_EMULATOR_VARIABLE
from workflow_core.statements.selects import INPUT_BYTES_MAX

if TYPE_CHECKING:
    from cloud_adapter.options import EngineOptions

ON_CLOUD_RUN = "K_SERVICE"
"""Cloud Run sets this variable."""
FILE_SCHEME = "sqlite"
GOOGLE_ISSUER = "https://accounts.google.com"
URL_VARIABLE, TOKEN_VARIABLE, TOKEN_COMMAND_VARIABLE = CLIENT_VARIABLES = (
    f"{PREFIX}URL",
    f"{PREFIX}TOKEN",
    f"{PREFIX}TOKEN_COMMAND",
)
"""The API's URL, its token and the command that prints it, for the command line. No settings of the runtime."""
LAZY_SECONDS_MIN = 300
"""The shortest time after which timers may be lazy: recovery creates their tasks two minutes ahead."""
LAZY_SECONDS_MAX = 1_000_000_000
"""The longest one, about 30 years. Times far beyond cannot be added to a date."""

KEY_BYTES_MIN = 32
NEW_KEY = "make one with `gorchestrate secret-key`"


def key_of(text: str, name: str = "the key") -> bytes:
    """Returns a key from its text.

    Raises:
        ValueError: it is not base64, or too short. The message does not contain it.
    """
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES_MIN:
        raise ValueError(f"{name} is not {KEY_BYTES_MIN} bytes or more in URL-safe base64: {NEW_KEY}")
    return key


class Settings(SecretSettings, IndexSettings):
    """Each field is the environment variable ``GORCHESTRATE_`` followed by its name in capitals."""

    model_config = SettingsConfigDict(str_strip_whitespace=True)

    backend: Literal["embedded", "cloud"] = "embedded"
    """``embedded``: the database of ``db``, and a queue in this process. ``cloud``: Firestore and Cloud Tasks, or their
    emulators."""
    db: Path = Path("gorchestrate.db")
    """Embedded: the SQLite file; created if it does not exist. It may also be a URL: ``sqlite:///file.db``, or the one
    of another database, see ``db_url``."""
    db_url: SecretStr = SecretStr("")
    """Embedded: the URL of the database, if it is not a SQLite file: ``postgresql://user:password@host/name``."""
    project: str = ""
    """Cloud: the Google Cloud project."""
    database: str = "(default)"
    """Cloud: the Firestore database."""
    location: str = ""
    """Cloud: the region of the task queue."""
    queue: str = "gorchestrate"
    """Cloud: the name of the task queue."""
    queues: int = Field(default=1, ge=1, le=100)
    """Cloud: how many task queues there are: ``queue``, the same name with ``-2``, and so on. Each dispatches 500
    tasks a second."""
    activity_queue: str = ""
    """Cloud: the name of a task queue of its own for activities, so that long ones do not hold up steps and timers."""
    worker_url: str = ""
    """Cloud: the root URL of the worker function, to which tasks are sent."""
    tasks_account: str = ""
    """Cloud: the only service account whose tokens the worker accepts."""
    audience: str = ""
    """Cloud: the audience of those tokens. Defaults to the worker's URL."""
    issuer: str = GOOGLE_ISSUER
    """Cloud: the issuer of those tokens. Only a Cloud Tasks emulator needs an issuer other than Google."""
    worker_auth: Literal["oidc", "iam"] = "oidc"
    """Cloud: how the worker checks those tokens. ``oidc``: completely. ``iam``: it leaves the signature to Cloud Run if
    that has removed it. Only for private services; deploy.sh finds out whether it is needed, and sets it."""
    public: bool = False
    """Cloud: whether everyone may call the api. If not, Cloud Run requires an identity token; OpenAPI documents say so.
    That decides who reaches the api. The authenticators of ``Service`` decide who may do what there."""
    access: Literal["", "open"] = ""
    """Cloud: ``open``: the api may be served without authenticators. Everyone who reaches it may then do everything."""
    public_url: str = ""
    """The URL at which clients reach the api, for links in responses, if a proxy changes the host or removes a prefix
    from the path: ``https://example.com/orders``."""
    callback_keys: SecretStr = SecretStr("")
    """The keys that sign callback URLs, separated by commas: at least 32 bytes each, in URL-safe base64. The first one
    signs, all are valid. Embedded, the runtime makes a key of its own, in a file beside the database."""
    allowed_hosts: tuple[str, ...] = ()
    """The host names under which clients reach the api, besides those of this machine and of ``public_url``, separated
    by commas; ``*``: every name. By default every name on Cloud Run, and elsewhere none."""
    cors_origins: tuple[str, ...] = ()
    """The origins of other sites whose pages may call the api, separated by commas: ``https://shop.example.com``."""
    remote_clients: bool = False
    """Embedded: whether clients on other machines are served. Without authenticators, they may do everything."""
    ui: bool | None = None
    """Whether the pages under ``/ui/`` are served, by default only when embedded. Callers of the api may use them."""
    session_keys: SecretStr = SecretStr("")
    """The keys of the cookies of people who are logged in to the pages, separated by commas. The first one encrypts."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The lowest level of the logs: JSON lines, or text if ``gorchestrate`` runs in a terminal, one for each transition
    and those of the workflows' code. Not used if your program configures logging."""
    lease_seconds: float = Field(default=8, ge=1, le=3600)
    """How long a crashed process can block an instance. A step that runs longer renews its lease. deploy.sh sets 60."""
    max_wait_seconds: float = Field(default=10, ge=0, le=60)
    """How long an event waits for a busy instance before it gets 503."""
    max_body_bytes: int = Field(default=256_000, ge=1_000, le=INPUT_BYTES_MAX)
    """The most bytes of a request's body. ``On(..., max_bytes=)`` sets another limit for an event."""
    rate_limit: str = ""
    """How many requests each caller may send to the api and the pages: ``20/s``, ``600/m`` or ``10000/h``. Each process
    counts on its own. By default there is no limit."""
    sync_threads: int | None = Field(default=None, ge=1, le=10_000)
    """How many synchronous steps, and as many synchronous activities, run at the same time in a process. Others wait.
    By default as many as the requests that are let in, so none waits."""
    lazy_timer_seconds: float = Field(default=0, ge=0, le=LAZY_SECONDS_MAX)
    """Cloud: a timer that is due later than this gets its task from ``POST /recover``, which must be called every
    minute, two minutes ahead. 0: each timer has a task from the start. At least 300 otherwise; deploy.sh sets 600."""
    release: str = ""
    """Cloud: the deployment that has made this revision; deploy.sh sets it, and a rollback finds revisions by it."""
    recover_seconds: float = Field(default=10, ge=0.1, le=3600)
    """How often the embedded runtime looks for stalled instances."""

    @property
    def callback_ring(self) -> Sequence[bytes]:
        """The keys in ``callback_keys``."""
        return [key_of(key) for key in listed_keys(self.callback_keys.get_secret_value())]

    def options(self) -> "EngineOptions":
        """Returns the settings of the engine."""
        from cloud_adapter.options import EngineOptions  # here, because the start does not need it

        return EngineOptions(
            lease=timedelta(seconds=self.lease_seconds),
            max_wait=timedelta(seconds=self.max_wait_seconds),
            lazy_after=timedelta(seconds=self.lazy_timer_seconds) if self.lazy_timer_seconds else None,
        )

    @property
    def listed_session_keys(self) -> Sequence[str]:
        """The keys in ``session_keys``."""
        return listed_keys(self.session_keys.get_secret_value())

    @property
    def request_rate(self) -> RequestRate | None:
        """How many requests each caller may send; None: there is no limit."""
        return RequestRate.parse(self.rate_limit) if self.rate_limit else None

    @property
    def database_url(self) -> str:
        """The URL of the database, with its password; empty if it is a SQLite file."""
        return self.db_url.get_secret_value()

    @property
    def database_scheme(self) -> str:
        """The kind of the database: the scheme of its URL."""
        return url_scheme(self.database_url) if self.database_url else FILE_SCHEME

    @property
    def database_place(self) -> str:
        """Where the database is, without its user and password."""
        if not self.database_url:
            return str(self.db)
        return shown_url(self.database_url)

    @property
    def is_deployed(self) -> bool:
        """Whether clients on other machines are served, without ``remote_clients``: on the cloud backend, and on Cloud
        Run."""
        return self.backend == "cloud" or ON_CLOUD_RUN in os.environ

    @property
    def is_open(self) -> bool:
        """Whether requests need no identity token."""
        return self.public or not self.is_deployed

    @property
    def serves_ui(self) -> bool:
        """Whether the pages are served."""
        return not self.is_deployed if self.ui is None else self.ui

    @model_validator(mode="before")
    @classmethod
    def _with_url(cls, values: dict[str, object]) -> dict[str, object]:
        """Accepts a URL as ``db``. If it is empty, the default applies."""
        db = values.get("db")
        if not isinstance(db, str) or (db and "://" not in db):
            return values
        rest = {name: value for name, value in values.items() if name != "db"}
        if db.startswith(f"{FILE_SCHEME}:///"):
            return rest | {"db": db.removeprefix(f"{FILE_SCHEME}:///")}
        return rest | {"db_url": db} if db else rest

    @field_validator("db_url")
    @classmethod
    def _is_database(cls, db_url: SecretStr) -> SecretStr:
        url = db_url.get_secret_value()
        scheme = url_scheme(url)
        if url and (not scheme or scheme in (FILE_SCHEME, "firestore")):
            raise ValueError(
                "it is not a URL such as postgresql://user:password@host/name. For a SQLite file, give its path as "
                f"{PREFIX}DB; for Firestore, set {PREFIX}BACKEND=cloud"
            )
        return db_url

    @field_validator("lazy_timer_seconds")
    @classmethod
    def _leaves_time(cls, seconds: float) -> float:
        if 0 < seconds < LAZY_SECONDS_MIN:
            raise ValueError(
                f"{seconds:g} is too short: write 0 or at least {LAZY_SECONDS_MIN}, so recovery is in time"
            )
        return seconds

    @field_validator("allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _are_listed(cls, texts: object) -> object:
        if not isinstance(texts, str):
            return texts
        return tuple(text.strip().lower() for text in texts.split(",") if text.strip())

    @field_validator("callback_keys")
    @classmethod
    def _sign(cls, callback_keys: SecretStr) -> SecretStr:
        for number, key in enumerate(listed_keys(callback_keys.get_secret_value()), 1):
            key_of(key, f"key {number}")
        return callback_keys

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if host != "*" and (urlsplit(f"//{host}").hostname != host or " " in host):
                raise ValueError(f"{host!r} is not a host name such as shop.example.com, without scheme and port")
        return hosts

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}" or "*" in origin:
                raise ValueError(f"{origin!r} is not an origin such as https://shop.example.com, without a path")
        return origins

    @field_validator("rate_limit")
    @classmethod
    def _is_rate(cls, text: str) -> str:
        if text:
            RequestRate.parse(text)
        return text

    @field_validator("public_url", "worker_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment):
            raise ValueError(f"{url!r} is not a URL such as https://example.com/orders")
        return url

    @field_validator("worker_url", "audience", "public_url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        # The worker compares the audience of tokens with this URL, so a trailing slash must not make a difference.
        return url.rstrip("/")

    @model_validator(mode="after")
    def _fits_its_backend(self) -> Self:
        if self.worker_auth == "iam" and not {ON_CLOUD_RUN, TASKS_EMULATOR_VARIABLE} & set(os.environ):
            raise ValueError(
                f"{PREFIX}WORKER_AUTH is iam: allowed only on Cloud Run, because nothing else checks signatures first"
            )
        if self.backend == "embedded":
            if ON_CLOUD_RUN in os.environ and not self.database_url:
                raise ValueError(
                    f"{PREFIX}BACKEND is embedded, but Cloud Run deletes files with their container: set it to cloud, "
                    f"or set {PREFIX}DB to the URL of a PostgreSQL database"
                )
            return self
        required = ("project", "database", "location", "queue", "worker_url", "tasks_account")
        missing = [name for name in required if not getattr(self, name)]
        if missing:
            raise ValueError(f"{PREFIX}{missing[0].upper()} is missing: the cloud backend requires it")
        if not re.fullmatch(r"[^@\s]+@[^@\s]+", self.tasks_account):
            raise ValueError(f"{PREFIX}TASKS_ACCOUNT is {self.tasks_account!r}: it must be the e-mail of an account")
        if self.issuer != GOOGLE_ISSUER and (TASKS_EMULATOR_VARIABLE not in os.environ or ON_CLOUD_RUN in os.environ):
            raise ValueError(
                f"{PREFIX}ISSUER is {self.issuer}: allowed only with {TASKS_EMULATOR_VARIABLE}, not in the cloud"
            )
        if ON_CLOUD_RUN in os.environ:
            self._check_cloud_run()
        return self

    def _check_cloud_run(self) -> None:
        for variable in (FIRESTORE_EMULATOR_VARIABLE, TASKS_EMULATOR_VARIABLE):
            if variable in os.environ:
                raise ValueError(f"{variable} is set: remove it, because emulators are not for Cloud Run")
        if not self.worker_url.startswith("https://"):
            raise ValueError(f"{PREFIX}WORKER_URL is {self.worker_url}: on Cloud Run it must begin with https://")

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Returns the settings from the environment. ``overrides`` take precedence.

        Raises:
            SettingsError: a setting is unknown or wrong; the message names it.
        """
        if overrides.get("db") is not None:
            overrides = {"db_url": ""} | overrides  # instead of the one in the environment
        known = {PREFIX + name.upper() for name in cls.model_fields}
        unknown = sorted({name for name in os.environ if name.startswith(PREFIX)} - known - set(CLIENT_VARIABLES))
        if unknown:
            from difflib import get_close_matches  # here, because only this error needs it

            names = [name.removeprefix(PREFIX) for name in known]
            if close := get_close_matches(unknown[0].removeprefix(PREFIX), names, 1, 0.8):
                raise SettingsError(f"unknown setting {unknown[0]}. Did you mean {PREFIX}{close[0]}?")
            raise SettingsError(f"unknown setting {unknown[0]}. Available: {', '.join(sorted(known))}")
        return super().load(**overrides)
