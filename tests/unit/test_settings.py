"""What each variable takes, what is said of one that cannot be used, and that no secret is shown."""

from pathlib import Path

import pytest

from eo_tasks.errors import SettingsError
from eo_tasks.setting_types import S3Url
from eo_tasks.settings import (
    MASK,
    Device,
    LogLevel,
    PipelineMode,
    Settings,
    current_settings,
    load_settings,
    override_environment,
    redacted,
)

SECRET = "hunter2"
SECRETS = [
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "REDIS_PASSWORD",
    "DB_PASSWORD",
    "FLOWER_BASIC_AUTH",
    "OPENEO_AUTH_CLIENT_SECRET",
    "OPENEO_AUTH_REFRESH_TOKEN",
    "OPENEO_PASSWORD",
]


@pytest.fixture
def environment(monkeypatch):
    """Set variables."""

    def set_all(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


def refusal() -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value)


def shown() -> dict[str, str]:
    return {variable: value for variable, value, _ in load_settings().table()}


def test_nothing_needs_to_be_set():
    settings = load_settings()
    assert settings.pipeline_mode is PipelineMode.LOCAL_ONLY
    assert settings.data_dir == Path("data")
    assert settings.btc_threshold == 0.2
    assert settings.composite_months == (4, 5, 6, 7, 8, 9)
    assert settings.masked_scl == (3, 8, 9, 10, 11)
    assert (settings.max_in_flight, settings.max_attempts, settings.max_deaths) == (1000, 10, 3)
    assert settings.broker_url == "redis://127.0.0.1:6379/0"
    assert settings.result_url == "redis://127.0.0.1:6379/1"


def test_every_variable_has_a_name_a_value_and_a_meaning_in_the_table():
    rows = load_settings().table()
    assert [variable for variable, _, _ in rows] == [name.upper() for name in Settings.model_fields]
    assert all(meaning for _, _, meaning in rows)


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("PIPELINE_MODE", "hybrid", PipelineMode.HYBRID),
        ("MAX_WORKERS", "7", 7),
        ("MEMORY_LIMIT_GB", "1.5", 1.5),
        ("DATA_DIR", "/srv/eo", Path("/srv/eo")),
        ("GRID_FILE", "cells.gpkg", Path("cells.gpkg")),
        ("BTC_MODEL_CHECKPOINT", "someone/BTC-T", "someone/BTC-T"),
        ("BTC_THRESHOLD", "0.35", 0.35),
        ("BTC_DEVICE", "cpu", Device.CPU),
        ("MONITORING_PORT", "9000", 9000),
        ("LOG_LEVEL", "DEBUG", LogLevel.DEBUG),
        ("DB_HOST", "db", "db"),
        ("DB_PORT", "6543", 6543),
        ("MAX_CLOUD_COVER", "80", 80.0),
        ("COMPOSITE_MONTHS", "4-9", (4, 5, 6, 7, 8, 9)),
        ("COMPOSITE_MONTHS", "6,7, 8", (6, 7, 8)),
        ("COMPOSITE_MONTHS", "8", (8,)),
        ("COMPOSITE_MONTHS", "1-3,4", (1, 2, 3, 4)),
        ("COMPOSITE_BANDS", "B02,B03 B04, B8A", ("B02", "B03", "B04", "B8A")),
        ("MASKED_SCL", "3 8,9", (3, 8, 9)),
        ("BTC_STRETCH", "B04:0:0.3,B03:0:0.2 B02:0.01:0.1", {"B04": (0, 0.3), "B03": (0, 0.2), "B02": (0.01, 0.1)}),
    ],
)
def test_a_variable_is_read(environment, variable, text, value):
    environment(**{variable: text})
    assert getattr(load_settings(), variable.lower()) == value


@pytest.mark.parametrize(
    ("variable", "text", "takes"),
    [
        ("PIPELINE_MODE", "cloud", "'local_only', 'database_only' or 'hybrid'"),
        ("IMAGERY_SOURCE", "ftp", "'openeo', 'openeo2' or 'stac'"),
        ("OPENEO_AUTH_METHOD", "person", "'auto', 'client_credentials', 'refresh_token', 'basic' or 'none'"),
        ("OPENEO_MODE", "fast", "'synchronous' or 'batch'"),
        ("BTC_DEVICE", "tpu", "'auto', 'cpu' or 'cuda'"),
        ("LOG_LEVEL", "info", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("MAX_WORKERS", "two", "valid integer"),
        ("MAX_WORKERS", "0", "a value greater than or equal to 1"),
        ("MAX_WORKERS", "1025", "less than or equal to 1024"),
        ("MEMORY_LIMIT_GB", "4GB", "valid number"),
        ("MEMORY_LIMIT_GB", "0.4", "greater than or equal to 0.5"),
        ("MONITORING_PORT", "0", "a value greater than or equal to 1"),
        ("DB_PORT", "65536", "less than or equal to 65535"),
        ("BTC_THRESHOLD", "0", "greater than 0"),
        ("BTC_THRESHOLD", "1", "less than 1"),
        ("BTC_THRESHOLD", "nan", "a finite number"),
        ("BTC_WINDOW_PX", "31", "greater than or equal to 32"),
        ("BTC_STRIDE_PX", "0", "a value greater than or equal to 1"),
        ("BTC_BATCH_SIZE", "0", "a value greater than or equal to 1"),
        ("MAX_CLOUD_COVER", "101", "less than or equal to 100"),
        ("LEASE_S", "0", "a value greater than or equal to 1"),
        ("OPENEO_TIMEOUT_S", "9", "greater than or equal to 10"),
        ("COMPOSITE_MONTHS", "4-x", "months such as 4-9 or 4,5,6"),
        ("COMPOSITE_MONTHS", "4,6", "months that follow each other, such as 4-9"),
        ("COMPOSITE_BANDS", "B04,B13", "different bands of Sentinel-2, such as B02,B03,B04,B08"),
        ("COMPOSITE_BANDS", "B04,B04", "different bands of Sentinel-2, such as B02,B03,B04,B08"),
        ("MASKED_SCL", "cloud", "valid integer"),
        ("BTC_STRETCH", "B04:0", "ranges such as B04:0:0.347,B03:0:0.296,B02:0:0.213"),
        ("BTC_STRETCH", "B04:x:1", "ranges such as B04:0:0.347,B03:0:0.296,B02:0:0.213"),
        ("BTC_STRETCH", "B04:1:1,B03:0:1,B02:0:1", "low end lies below the high end, not B04:1:1"),
        ("REDIS_URL", "http://broker", "a URL such as redis://127.0.0.1:6379/0"),
        ("REDIS_RESULT_URL", "broker", "a URL such as redis://127.0.0.1:6379/0"),
    ],
)
def test_a_refused_variable_is_told_with_what_it_got_and_what_it_takes(environment, variable, text, takes):
    environment(**{variable: text})
    message = refusal()
    assert message.startswith(f"{variable}={text}: takes ")
    assert takes in message
    assert "\n" not in message
    assert message.endswith(f"({Settings.model_fields[variable.lower()].description}).")


@pytest.mark.parametrize(
    ("variable", "text", "wrong", "takes"),
    [
        ("COMPOSITE_MONTHS", "0-3", "0", "a value greater than or equal to 1"),
        ("COMPOSITE_MONTHS", "11-13", "13", "a value less than or equal to 12"),
        ("MASKED_SCL", "3,12", "12", "a value less than or equal to 11"),
    ],
)
def test_of_a_list_the_wrong_part_is_told(environment, variable, text, wrong, takes):
    environment(**{variable: text})
    assert refusal().startswith(f"{variable}={wrong}: takes {takes}")


@pytest.mark.parametrize("text", ["9-4", ","])
def test_a_season_without_months_is_told_what_months_look_like(environment, text):
    environment(COMPOSITE_MONTHS=text)
    assert refusal().startswith(f"COMPOSITE_MONTHS={text}: takes months ")


def test_all_wrong_variables_are_told_at_once_each_on_its_line(environment):
    environment(MAX_WORKERS="a", DB_PORT="b")
    assert [line.partition(":")[0] for line in refusal().splitlines()] == ["MAX_WORKERS=a", "DB_PORT=b"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"BTC_STRIDE_PX": "97"}, "BTC_STRIDE_PX must not exceed BTC_WINDOW_PX: windows would leave gaps."),
        ({"BTC_STRETCH": "B04:0:1"}, "BTC_STRETCH takes three bands: red, green, blue."),
        ({"COMPOSITE_BANDS": "B02,B03"}, "BTC_STRETCH uses B04, which COMPOSITE_BANDS lacks."),
    ],
)
def test_variables_that_do_not_fit_together_are_refused(environment, variables, message):
    environment(**variables)
    assert refusal() == message


def test_a_stretch_that_names_a_band_twice_is_refused(environment):
    environment(BTC_STRETCH="B04:0:0.3,B04:0:0.4,B03:0:1,B02:0:1")
    assert "BTC_STRETCH" in refusal()


@pytest.mark.parametrize("variable", ["MEMORY_LIMIT_GB", "LEASE_S", "SWEEP_S"])
def test_an_infinite_number_is_refused(environment, variable):
    environment(**{variable: "inf"})
    assert refusal().startswith(f"{variable}=inf: takes ")


# Secrets


@pytest.mark.parametrize("variable", SECRETS)
def test_a_secret_is_masked_wherever_settings_are_shown(environment, variable):
    environment(**{variable: SECRET})
    settings = load_settings()
    assert getattr(settings, variable.lower()).get_secret_value() == SECRET
    assert shown()[variable] == MASK
    assert SECRET not in f"{settings!r}{settings}{settings.model_dump_json()}"


def test_an_unset_secret_is_shown_as_unset():
    assert shown()["REDIS_PASSWORD"] == ""


@pytest.mark.parametrize("variable", ["REDIS_URL", "REDIS_RESULT_URL"])
def test_the_password_in_a_url_is_masked_in_the_table(environment, variable):
    environment(**{variable: f"redis://user:{SECRET}@broker:6379/0"})
    assert shown()[variable] == f"redis://user:{MASK}@broker:6379/0"


def test_the_password_in_a_refused_url_is_masked(environment):
    environment(REDIS_URL=f"http://user:{SECRET}@broker")
    assert refusal().startswith(f"REDIS_URL=http://user:{MASK}@broker: takes ")


@pytest.mark.parametrize("url", [f"user:{SECRET}@broker:6379/0", f"redis//:{SECRET}@broker", f":{SECRET}@broker"])
def test_the_password_in_a_url_without_a_scheme_is_masked(environment, url):
    environment(REDIS_URL=url)
    assert SECRET not in refusal()


def test_the_password_in_the_query_of_a_url_is_masked(environment):
    environment(REDIS_URL=f"redis://broker/0?password={SECRET}")
    assert SECRET not in shown()["REDIS_URL"]


@pytest.mark.parametrize("variable", ["REDIS_URL", "STAC_URL", "OPENEO_URL"])
def test_a_url_that_cannot_be_taken_apart_is_refused_by_name(environment, variable):
    environment(**{variable: "redis://[::1/0"})
    assert refusal().startswith(f"{variable}=")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://broker:6379/0", "redis://broker:6379/0"),
        ("redis://:pw@broker/0", f"redis://:{MASK}@broker/0"),
        ("redis://redis:redis@redis/0", f"redis://redis:{MASK}@redis/0"),
        ("redis://user:p@ss@broker/0", f"redis://user:{MASK}@broker/0"),
        (
            "rediss://user:pw@broker:6380/0?ssl_cert_reqs=required",
            f"rediss://user:{MASK}@broker:6380/0?ssl_cert_reqs=required",
        ),
        ("/catalogs/catalog.json", "/catalogs/catalog.json"),
    ],
)
def test_only_the_password_of_a_url_is_redacted(url, expected):
    assert redacted(url) == expected


# URLs of Redis


@pytest.mark.parametrize(
    ("url", "broker", "result"),
    [
        ("redis://broker:6379/0", "redis://:p%40%2Fs@broker:6379/0", "redis://:p%40%2Fs@broker:6379/1"),
        ("redis://user@broker/0", "redis://user:p%40%2Fs@broker/0", "redis://user:p%40%2Fs@broker/1"),
        ("redis://user:own@broker/0", "redis://user:own@broker/0", "redis://user:own@broker/1"),
    ],
)
def test_the_password_is_put_into_both_urls_where_they_have_none(environment, url, broker, result):
    environment(REDIS_URL=url, REDIS_PASSWORD="p@/s")
    settings = load_settings()
    assert (settings.broker_url, settings.result_url) == (broker, result)


def test_the_result_backend_may_be_another_redis(environment):
    environment(REDIS_RESULT_URL="redis://results:6380/5")
    assert load_settings().result_url == "redis://results:6380/5"


# Where a value comes from


def test_a_value_is_read_from_the_file_that_x_file_names(environment, tmp_path):
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "workers").write_text("5")
    environment(REDIS_PASSWORD_FILE=str(tmp_path / "secret"), MAX_WORKERS_FILE=str(tmp_path / "workers"))
    settings = load_settings()
    assert settings.redis_password.get_secret_value() == SECRET
    assert settings.max_workers == 5
    assert shown()["REDIS_PASSWORD"] == MASK


def test_x_and_x_file_together_are_refused(environment, tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    environment(REDIS_PASSWORD=SECRET, REDIS_PASSWORD_FILE=str(tmp_path / "secret"))
    assert refusal() == "REDIS_PASSWORD and REDIS_PASSWORD_FILE are both set: keep one of them."


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_an_unreadable_x_file_is_told(environment, tmp_path, content):
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    environment(DB_PASSWORD_FILE=str(path))
    assert refusal().startswith(f"DB_PASSWORD_FILE={path}: cannot read that file (")


def test_a_refused_value_from_a_file_is_told_by_its_variable(environment, tmp_path):
    (tmp_path / "workers").write_text("many\n")
    environment(MAX_WORKERS_FILE=str(tmp_path / "workers"))
    assert refusal().startswith("MAX_WORKERS=many: takes ")


def test_dot_env_is_read_from_the_working_directory(tmp_path):
    (tmp_path / ".env").write_text("MAX_WORKERS=3\nBTC_THRESHOLD=0.4\nSOMEONE_ELSES=1\n")
    settings = load_settings()
    assert (settings.max_workers, settings.btc_threshold) == (3, 0.4)


def test_the_environment_wins_over_a_file_and_a_file_over_dot_env(environment, tmp_path):
    (tmp_path / ".env").write_text("MAX_WORKERS=3\nDB_NAME=dotenv\nDB_USER=dotenv\n")
    (tmp_path / "name").write_text("file")
    environment(MAX_WORKERS="4", DB_NAME_FILE=str(tmp_path / "name"))
    settings = load_settings()
    assert (settings.max_workers, settings.db_name, settings.db_user) == (4, "file", "dotenv")


def test_an_override_wins_over_the_environment(environment):
    environment(MAX_WORKERS="4")
    assert load_settings(max_workers=6).max_workers == 6


def test_an_empty_variable_counts_as_unset(environment):
    environment(MAX_WORKERS="", GRID_FILE="", REDIS_PASSWORD="")
    settings = load_settings()
    assert (settings.max_workers, settings.grid_file, settings.redis_password) == (2, None, None)


def test_an_empty_x_counts_as_unset_beside_x_file(environment, tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    environment(REDIS_PASSWORD="", REDIS_PASSWORD_FILE=str(tmp_path / "secret"))
    assert load_settings().redis_password.get_secret_value() == SECRET


def test_an_empty_x_file_counts_as_unset(environment):
    environment(REDIS_PASSWORD_FILE="")
    assert load_settings().redis_password is None


def test_settings_of_a_process_are_read_once(environment):
    first = current_settings()
    environment(MAX_WORKERS="9")
    assert current_settings() is first
    current_settings.cache_clear()
    assert current_settings().max_workers == 9


def test_overriding_the_environment_reaches_settings_and_children(monkeypatch, environment, tmp_path):
    (tmp_path / "name").write_text("file")
    environment(DB_NAME_FILE=str(tmp_path / "name"), DB_NAME="unset")
    monkeypatch.delenv("DB_NAME")
    assert current_settings().db_name == "file"
    assert override_environment({"DB_NAME": "mine"}).db_name == "mine"
    assert current_settings().db_name == "mine"


@pytest.mark.parametrize(
    ("text", "bucket", "prefix"),
    [
        ("s3://country", "country", ""),
        ("s3://country/", "country", ""),
        ("s3://my.country-2/a/b/", "my.country-2", "a/b"),
    ],
)
def test_data_dir_may_be_a_bucket(environment, text, bucket, prefix):
    environment(DATA_DIR=text)
    settings = load_settings()
    assert settings.data_dir == S3Url(bucket, prefix)
    assert str(settings.data_dir) == text.rstrip("/")
    assert settings.folder == Path("work")
    assert ("DATA_DIR", text.rstrip("/")) in [row[:2] for row in settings.table()]


def test_work_dir_is_what_a_machine_keeps_beside_a_bucket(environment):
    environment(DATA_DIR="s3://country", WORK_DIR="~/here")
    assert load_settings().folder == Path("~/here").expanduser()


def test_a_folder_is_where_a_machine_works_too(environment):
    environment(DATA_DIR="~/country")
    settings = load_settings()
    assert settings.data_dir == settings.folder == Path("~/country").expanduser()
    environment(WORK_DIR="elsewhere")
    with pytest.raises(SettingsError, match=r"^WORK_DIR goes with DATA_DIR=s3://…: a folder is used for both\.$"):
        load_settings()


@pytest.mark.parametrize(
    "text", ["s3://", "s3://UPPER/a", "s3://a", "s3:///a", "s3://country/a//b", "s3://country/../b", "gs://country"]
)
def test_a_place_that_cannot_be_is_told(environment, text):
    environment(DATA_DIR=text)
    told = rf"^DATA_DIR={text}: takes a folder, or a bucket such as s3://bucket/prefix"
    with pytest.raises(SettingsError, match=told):
        load_settings()


def test_an_access_key_and_its_secret_belong_together(environment):
    environment(DATA_DIR="s3://country", AWS_ACCESS_KEY_ID="AKIA")
    with pytest.raises(SettingsError, match=r"^AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together"):
        load_settings()
