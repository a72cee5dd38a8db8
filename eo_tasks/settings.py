"""Every environment variable, validated; the only reader of the environment.

A variable ``X`` is read from the environment, else from the file that ``X_FILE`` names (a Docker or Kubernetes
secret), else from ``.env`` in the working directory, else it has its default.
"""

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from eo_tasks.errors import SettingsError
from eo_tasks.setting_types import (
    BandNames,
    DataPlace,
    Device,
    File,
    Folder,
    ImagerySource,
    ImagerySources,
    LogLevel,
    Months,
    OpenEOAuth,
    OpenEOMode,
    PipelineMode,
    Port,
    Precision,
    RedisUrl,
    S3Url,
    SclClasses,
    SmtpSecurity,
    SslMode,
    Stretch,
    Url,
)
from eo_tasks.urls import MASK, redacted, with_login, with_tls

PUBLISHED_CHECKPOINT = "blaz-r/BTC-B_oscd96"
THRESHOLD = 0.2
# A 0–0.3 stretch of L2A has medians R 89, G 75, B 59 where OSCD's 8-bit images have 77, 76, 83; these ranges
# move each band's median onto OSCD's.
STRETCH = {"B04": (0.0, 0.347), "B03": (0.0, 0.296), "B02": (0.0, 0.213)}

__all__ = ["Device", "ImagerySource", "LogLevel", "OpenEOAuth", "OpenEOMode", "PipelineMode", "Precision", "Settings"]


class _FileVariants(PydanticBaseSettingsSource):
    """Reads ``X`` from the file named by ``X_FILE``."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        variable = field_name.upper()
        path = os.environ.get(f"{variable}_FILE")
        if not path:
            return None, field_name, False
        if os.environ.get(variable):
            raise SettingsError(f"{variable} and {variable}_FILE are both set: keep one of them.")
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{variable}_FILE={path}: cannot read that file ({error}).") from error

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class Settings(BaseSettings):
    """The effective configuration; each field is the environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
    )

    # What and where
    pipeline_mode: PipelineMode = Field(PipelineMode.LOCAL_ONLY, description="where images and masks are kept")
    data_dir: DataPlace = Field(Path("data"), description="images, masks, checkpoints: a folder, or s3://bucket/prefix")
    work_dir: Folder | None = Field(
        None, description="logs, products and scratch of this machine, where DATA_DIR is a bucket; default: work"
    )
    grid_file: Folder | None = Field(None, description="vector file of the cells, any format GDAL reads")
    grid_layer: str | None = Field(None, description="layer of the grid file; default: the first with polygons")
    heartbeat_file: Folder | None = Field(None, description="touched by a living worker, for health checks")
    log_level: LogLevel = Field(LogLevel.INFO, description="lowest level that is logged")

    # Machine
    max_workers: int = Field(2, ge=1, le=1024, description="parallel tasks of a CPU worker")
    memory_limit_gb: float = Field(4.0, ge=0.5, description="memory of one worker, GB")
    log_keep_mb: float = Field(50, ge=1, description="most room for the log files of one process, MB")

    # Monitoring
    monitoring_host: str = Field("127.0.0.1", description="address that the dashboard listens on")
    monitoring_port: Port = Field(8080, description="port of the dashboard")
    dashboard_user: str = Field("operator", min_length=1, description="who may log in to the dashboard")
    dashboard_password: SecretStr | None = Field(None, description="password of the dashboard")
    dashboard_token: SecretStr | None = Field(None, description="bearer token for programs that use the API")
    flower_port: Port = Field(5555, description="port of Flower")
    flower_basic_auth: SecretStr | None = Field(None, description="user:password of Flower")

    # Alerts
    alert_webhook_url: SecretStr | None = Field(None, description="where alerts are posted to, as JSON")
    alert_email_to: str | None = Field(None, description="who gets alerts by e-mail; several with commas")
    alert_email_from: str = Field("eo-tasks@localhost", description="sender of alerts")
    alert_repeat_s: float = Field(3600, ge=1, description="an alert that lasts is not sent again before, seconds")
    alert_stall_s: float = Field(1800, ge=1, description="a run counts as stalled without an ended unit for, seconds")
    alert_failure_share: float = Field(0.2, gt=0, le=1, description="share of the last hour's units that may fail")
    alert_free_gb: float = Field(5, ge=0, description="least room on the disk of a worker, GB")
    alert_credits: float = Field(0, ge=0, description="credits left of a run's budget that are too few")
    smtp_host: str | None = Field(None, description="server that sends e-mail")
    smtp_port: Port = Field(587, description="its port")
    smtp_user: str | None = Field(None, description="login there")
    smtp_password: SecretStr | None = Field(None, description="its password")
    smtp_security: SmtpSecurity = Field(SmtpSecurity.STARTTLS, description="how the connection is encrypted")

    # Object storage
    aws_access_key_id: str | None = Field(None, description="login to the bucket; default: as boto3 finds it")
    aws_secret_access_key: SecretStr | None = Field(None, description="its secret")
    aws_session_token: SecretStr | None = Field(None, description="token of a login that ends")
    aws_region: str | None = Field(None, description="region of the bucket")
    aws_endpoint_url: Url | None = Field(None, description="object store other than AWS's own")
    aws_ca_bundle: File | None = Field(
        None, description="certificates of those who may vouch for it; default: the system's"
    )

    # Redis
    redis_url: RedisUrl = Field("redis://127.0.0.1:6379/0", description="Celery broker")
    redis_result_url: RedisUrl | None = Field(
        None, description="result backend and ledger; default: the next database of the broker's Redis"
    )
    redis_username: str | None = Field(None, description="user put into both URLs; default: Redis's user default")
    redis_password: SecretStr | None = Field(None, description="password put into both URLs")
    redis_tls: bool = Field(False, description="encrypt the connections to Redis, as rediss:// does")
    redis_tls_ca: File | None = Field(
        None, description="certificates of those who may vouch for Redis; default: the system's"
    )
    redis_tls_cert: File | None = Field(None, description="certificate shown to a Redis that asks for one")
    redis_tls_key: File | None = Field(None, description="its key")
    max_in_flight: int = Field(1000, ge=1, description="most units of one stage in its queue, at work or to be retried")

    max_attempts: int = Field(10, ge=1, description="tries of a unit that fails for passing reasons")
    max_deaths: int = Field(3, ge=1, description="workers a unit may take down before it is quarantined")
    lease_s: float = Field(30, ge=1, description="a silent worker loses its unit after this, seconds")
    sweep_s: float = Field(15, ge=1, description="interval of the sweep for missing and lost work, seconds")

    # Composites
    imagery_source: ImagerySources = Field(
        (ImagerySource.OPENEO,), description="where composites come from; several in order of preference"
    )
    composite_bands: BandNames = Field(("B02", "B03", "B04"), description="bands of a composite")
    composite_months: Months = Field((4, 5, 6, 7, 8, 9), description="season of a composite")
    masked_scl: SclClasses = Field((3, 8, 9, 10, 11), description="SCL classes taken as not clear")
    max_cloud_cover: float | None = Field(None, ge=0, le=100, description="cloudier scenes are left out, percent")
    min_clear: float = Field(0, ge=0, le=1, description="a composite with fewer clear pixels counts as empty, share")
    extra_months: int = Field(
        0, ge=0, le=5, description="months added on both sides of the season for a cell that is not clear enough"
    )

    # openEO
    openeo_url: Url = Field("https://openeo.dataspace.copernicus.eu", description="openEO backend")
    openeo_collection: str = Field("SENTINEL2_L2A", description="collection of the backend")
    openeo_mode: OpenEOMode = Field(OpenEOMode.BATCH, description="batch jobs or synchronous requests")
    openeo_auth_method: OpenEOAuth = Field(OpenEOAuth.AUTO, description="how to log in")
    openeo_auth_client_id: str | None = Field(None, description="OIDC client id")
    openeo_auth_client_secret: SecretStr | None = Field(None, description="OIDC client secret")
    openeo_auth_provider_id: str | None = Field(None, description="OIDC provider; default: the backend's own")
    openeo_auth_refresh_token: SecretStr | None = Field(None, description="OIDC refresh token")
    openeo_username: str | None = Field(None, description="user name for basic auth")
    openeo_password: SecretStr | None = Field(None, description="password for basic auth")
    openeo_token_file: Folder = Field(
        Path("~/.local/share/eo-tasks/refresh-tokens.json"), description="where eo-tasks login keeps refresh tokens"
    )
    openeo_block_km: float = Field(20, gt=0, le=200, description="side of the area of one request; 1: each cell alone")
    openeo_timeout_s: int = Field(1800, ge=10, description="longest time a request may compute, seconds")
    openeo_answer_s: float = Field(60, gt=0, description="longest wait for an answer that computes nothing, seconds")
    openeo_poll_s: float = Field(10, ge=0.1, description="interval at which jobs are looked after, seconds")
    openeo_max_jobs: int = Field(2, ge=1, description="most batch jobs of an account at once")
    openeo_max_requests: int = Field(2, ge=1, description="most synchronous requests of an account at once")
    openeo_starts_per_minute: int = Field(12, ge=1, description="most jobs or requests of an account begun in a minute")
    openeo_max_credits: float | None = Field(None, gt=0, description="most credits that a run may cost")

    # A second openEO backend, for IMAGERY_SOURCE=openeo,openeo2
    openeo2_url: Url | None = Field(None, description="second openEO backend")
    openeo2_collection: str = Field("SENTINEL2_L2A", description="its collection")
    openeo2_mode: OpenEOMode = Field(OpenEOMode.BATCH, description="batch jobs or synchronous requests there")
    openeo2_auth_method: OpenEOAuth = Field(OpenEOAuth.AUTO, description="how to log in there")
    openeo2_auth_client_id: str | None = Field(None, description="OIDC client id there")
    openeo2_auth_client_secret: SecretStr | None = Field(None, description="OIDC client secret there")
    openeo2_auth_provider_id: str | None = Field(None, description="OIDC provider there")
    openeo2_auth_refresh_token: SecretStr | None = Field(None, description="OIDC refresh token there")
    openeo2_username: str | None = Field(None, description="user name for basic auth there")
    openeo2_password: SecretStr | None = Field(None, description="password for basic auth there")

    # STAC
    stac_url: Url | None = Field(None, description="STAC API, or path or URL of a static catalog.json")
    stac_collection: str = Field("sentinel-2-l2a", description="collection of the catalog")

    # BTC
    btc_model_checkpoint: str = Field(PUBLISHED_CHECKPOINT, min_length=1, description="hub id or local folder")
    btc_model_revision: str = Field("main", description="revision on the hub")
    btc_threshold: float = Field(THRESHOLD, gt=0, lt=1, description="probability above which a pixel counts as changed")
    btc_window_px: int = Field(96, ge=32, description="side of a window, pixels")
    btc_stride_px: int = Field(64, ge=1, description="distance of windows, pixels")
    btc_batch_size: int | None = Field(
        None, ge=1, description="windows inferred at once; default: 8 on a CPU, 64 on CUDA, fewer where memory is short"
    )
    btc_device: Device = Field(Device.AUTO, description="where BTC runs")
    btc_precision: Precision = Field(
        Precision.AUTO, description="what BTC is computed in; auto: float16 on CUDA, float32 on a CPU"
    )
    btc_stretch: Stretch = Field(STRETCH, description="reflectance range shown to BTC as 0–255, for red, green, blue")

    # Products
    min_change_ha: float = Field(0, ge=0, description="smaller patches are left out of exported polygons, hectares")

    # Database
    db_host: str = Field("127.0.0.1", description="PostgreSQL host")
    db_port: Port = Field(5432, description="PostgreSQL port")
    db_name: str = Field("eo_tasks", description="database")
    db_user: str = Field("eo_tasks", description="database user")
    db_password: SecretStr | None = Field(None, description="database password")
    db_admin_user: str | None = Field(None, description="who makes the database and its tables; default: DB_USER")
    db_admin_password: SecretStr | None = Field(None, description="password of DB_ADMIN_USER")
    db_sslmode: SslMode = Field(SslMode.PREFER, description="TLS to the database, as libpq names it")
    db_sslrootcert: Folder | None = Field(None, description="certificates of those who may vouch for the database")
    sync_s: float = Field(60, ge=1, description="interval at which files and database are compared, seconds")

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.btc_stride_px > self.btc_window_px:
            raise ValueError("BTC_STRIDE_PX must not exceed BTC_WINDOW_PX: windows would leave gaps")
        if len(self.btc_stretch) != 3:
            raise ValueError("BTC_STRETCH takes three bands: red, green, blue")
        if missing := [band for band in self.btc_stretch if band not in self.composite_bands]:
            raise ValueError(f"BTC_STRETCH uses {', '.join(missing)}, which COMPOSITE_BANDS lacks")
        if (self.redis_tls_cert is None) != (self.redis_tls_key is None):
            raise ValueError("REDIS_TLS_CERT and REDIS_TLS_KEY belong together: set both or neither")
        is_bucket = isinstance(self.data_dir, S3Url)
        if is_bucket and (self.aws_access_key_id is None) != (self.aws_secret_access_key is None):
            raise ValueError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together: set both or neither")
        if self.work_dir is not None and not is_bucket:
            raise ValueError("WORK_DIR goes with DATA_DIR=s3://…: a folder is used for both")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the ``X_FILE`` variants between the environment and ``.env``."""
        return init_settings, env_settings, _FileVariants(settings_cls), dotenv_settings

    @property
    def folder(self) -> Path:
        """Where this machine keeps what is not kept in ``DATA_DIR``: ``DATA_DIR`` itself, unless it is a bucket."""
        return self.work_dir or Path("work") if isinstance(self.data_dir, S3Url) else self.data_dir

    @property
    def broker_url(self) -> str:
        """The broker's URL with login and TLS; never log it."""
        return self._redis(self.redis_url)

    @property
    def result_url(self) -> str:
        """The result backend's URL with login and TLS; never log it."""
        url = self.redis_result_url
        if url is None:
            parts = urlsplit(self.redis_url)
            database = int(parts.path.strip("/") or 0) + 1
            url = urlunsplit(parts._replace(path=f"/{database}"))
        return self._redis(url)

    def _redis(self, url: str) -> str:
        password = None if self.redis_password is None else self.redis_password.get_secret_value()
        url = with_login(url, self.redis_username, password)
        if not self.redis_tls and urlsplit(url).scheme == "redis":
            return url
        files = {
            "ssl_ca_certs": self.redis_tls_ca,
            "ssl_certfile": self.redis_tls_cert,
            "ssl_keyfile": self.redis_tls_key,
        }
        return with_tls(url, files)

    def table(self) -> list[tuple[str, str, str]]:
        """Each variable, its value with secrets masked, and what it means."""
        rows = []
        for name, value in self.model_dump(mode="json").items():
            if name.endswith("_url") and value:
                shown = redacted(str(value))
            elif isinstance(getattr(self, name), SecretStr):
                shown = MASK
            else:
                shown = "" if value is None else str(value)
            rows.append((name.upper(), shown, type(self).model_fields[name].description or ""))
        return rows


def load_settings(**overrides: Any) -> Settings:
    """Read and validate the environment.

    Args:
        overrides: Values that win over the environment, by field name.

    Raises:
        SettingsError: A variable has a value that cannot be used; the message names all of them.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("\n".join(_complaint(problem) for problem in error.errors())) from None


@lru_cache(maxsize=1)
def current_settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()


def override_environment(variables: Mapping[str, str]) -> Settings:
    """Set variables for this process and the children that it starts, and read the settings again."""
    os.environ.update(variables)
    for name in variables:
        os.environ.pop(f"{name}_FILE", None)
    current_settings.cache_clear()
    return current_settings()


def _complaint(problem: Any) -> str:
    """One line on one wrong variable: its name, what it got, what it takes."""
    if not problem["loc"]:
        return str(problem["msg"]).removeprefix("Value error, ") + "."
    name = str(problem["loc"][0])
    field = Settings.model_fields.get(name)
    secret = field is not None and "SecretStr" in str(field.annotation)
    got = MASK if secret else redacted(str(problem["input"]))
    takes = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    takes = f"a value {takes}" if takes.startswith(("greater", "less")) else takes
    meaning = f" ({field.description})" if field is not None and field.description else ""
    return f"{name.upper()}={got}: takes {takes}{meaning}."
