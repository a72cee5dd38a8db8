"""The Compose file and the Dockerfiles: what they must hold, read from the files alone."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from eo_tasks.settings import Settings

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ENV_EXAMPLE = (ROOT / "deploy" / "env.example").read_text(encoding="utf-8")
DOCKERFILES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("Dockerfile.cpu", "Dockerfile.gpu")}

OURS = {name: service for name, service in SERVICES.items() if "build" in service}
WORKERS = {name: service for name, service in OURS.items() if " worker " in f"{service['command']} "}
COMMANDS = {
    "worker-cpu": "celery -A workers.cpu worker --loglevel=${LOG_LEVEL:-INFO}",
    "worker-control": "celery -A beat worker",
    "worker-gpu": "celery -A workers.gpu worker",
    "worker-btc-cpu": "celery -A workers.gpu worker",
    "beat": "celery -A beat beat",
    "flower": "celery -A eo_tasks flower",
    "dashboard": "python -m eo_tasks.dashboard",
}
GENERATED = {
    "REDIS_PASSWORD", "REDIS_DASHBOARD_PASSWORD", "REDIS_FLOWER_PASSWORD", "DB_PASSWORD", "DB_ADMIN_PASSWORD",
    "DASHBOARD_PASSWORD", "FLOWER_BASIC_AUTH",
}  # fmt: skip
SECRETS = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
FIXED_IN_CONTAINERS = {
    "DATA_DIR", "HEARTBEAT_FILE", "REDIS_URL", "REDIS_RESULT_URL", "REDIS_USERNAME", "REDIS_TLS", "REDIS_TLS_CA",
    "DB_HOST", "DB_PORT",
}  # fmt: skip
REDIS = ROOT / "deploy" / "redis"
USERS = {"flower": "flower", "dashboard": "dashboard"}  # of Redis, by service; all others are `worker`
ONE_SHOT = "setup"  # ends when it is done
ALERTS = {name.upper() for name in Settings.model_fields if name.startswith(("alert_", "smtp_"))}
SCREENS = {name.upper() for name in Settings.model_fields if name.startswith(("flower_", "dashboard_", "monitoring_"))}
NOT_OF_WORKERS = {"DB_ADMIN_USER", "DB_ADMIN_PASSWORD", *SCREENS, *ALERTS}


@pytest.mark.parametrize(("service", "command"), COMMANDS.items())
def test_a_service_runs_its_command(service: str, command: str):
    assert SERVICES[service]["command"].startswith(command)


def test_flower_forgets_old_tasks_and_keeps_its_state_on_a_volume():
    command, volumes = SERVICES["flower"]["command"], SERVICES["flower"]["volumes"]
    assert "--max_tasks=20000" in command
    assert "--persistent=True" in command
    (database,) = re.findall(r"--db=(\S+)", command)
    assert any(database.startswith(volume.split(":")[1] + "/") for volume in volumes)


@pytest.mark.parametrize(
    ("service", "profile"), [("worker-gpu", "gpu"), ("worker-btc-cpu", "cpu-inference"), ("timescaledb", "database")]
)
def test_an_optional_service_has_its_profile(service: str, profile: str):
    assert SERVICES[service]["profiles"] == [profile]


def test_everything_else_starts_without_a_profile():
    always = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert always == {"setup", "redis", "worker-cpu", "worker-control", "beat", "dashboard", "flower"}


@pytest.mark.parametrize("service", OURS.keys() - {ONE_SHOT})
def test_nothing_of_ours_starts_before_what_it_needs(service: str):
    needed = {name: one["condition"] for name, one in SERVICES[service]["depends_on"].items()}
    assert needed.pop("redis") == "service_healthy"
    reads_the_archive = "eo-data:/data" in SERVICES[service].get("volumes", [])
    assert needed == ({"setup": "service_completed_successfully"} if reads_the_archive else {})


def test_the_sample_is_apart_from_real_data_in_every_place():
    overlay = yaml.safe_load((ROOT / "deploy" / "compose.sample.yml").read_text(encoding="utf-8"))["services"]
    assert overlay.keys() == OURS.keys()
    ours = overlay["worker-cpu"]["environment"]
    for name in ("DATA_DIR", "REDIS_URL", "REDIS_RESULT_URL", "DB_NAME"):
        assert ours[name] != COMPOSE["x-settings"].get(name, COMPOSE["x-database"].get(name))
    assert ours["REDIS_URL"] != ours["REDIS_RESULT_URL"]
    for name, service in overlay.items():
        assert service.keys() == {"environment"}
        assert service["environment"] == (ours | {"SAMPLE_DIR": ours["DATA_DIR"]} if name == ONE_SHOT else ours)


def test_the_gpu_worker_reserves_a_device_and_its_stand_in_does_not():
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert "deploy" not in SERVICES["worker-btc-cpu"]


@pytest.mark.parametrize("service", SERVICES)
def test_every_secret_comes_from_outside_and_has_no_default(service: str):
    for name, value in SERVICES[service].get("environment", {}).items():
        if re.search("PASSWORD|SECRET|TOKEN|CLI_?AUTH|BASIC_AUTH", name):
            assert value is None or re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value), name


def test_no_command_carries_a_secret():
    for service in SERVICES.values():
        assert not re.search(r"(?<!\$)\$\{?[A-Z_]*(PASSWORD|AUTH)", str(service.get("command")))


def test_a_missing_env_file_says_what_to_run():
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert {re.sub(r".*:\?", "", found) for found in re.findall(r"\$\{[A-Z_]+:\?[^}]+", text)} == {
        "run make up, which writes .env"
    }


def test_every_published_port_is_on_the_loopback_unless_asked_otherwise():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    for port in published:
        assert re.match(r"\$\{[A-Z_]*BIND_ADDRESS:-127\.0\.0\.1\}:", port), port


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_comes_back_has_an_init_and_a_bounded_log(service: str):
    assert SERVICES[service]["restart"] == ("no" if service == ONE_SHOT else "unless-stopped")
    assert SERVICES[service]["init"] is True
    assert SERVICES[service]["logging"]["options"]["max-size"]


@pytest.mark.parametrize("service", SERVICES.keys() - {ONE_SHOT})
def test_every_service_has_a_health_check(service: str):
    has_own = "healthcheck" in SERVICES[service]
    built_from = SERVICES[service].get("build", {}).get("dockerfile")
    assert has_own or (service in WORKERS and "HEALTHCHECK" in DOCKERFILES[built_from])


@pytest.mark.parametrize("service", WORKERS)
def test_a_stopped_worker_has_time_to_hand_its_units_back(service: str):
    assert WORKERS[service]["stop_grace_period"] == "60s"
    assert WORKERS[service]["stop_signal"] == "SIGTERM"
    assert WORKERS[service]["environment"]["REMAP_SIGTERM"] == "SIGQUIT"


def test_workers_share_the_data_and_cannot_write_to_the_grid_or_the_network():
    assert WORKERS.keys() == {"worker-cpu", "worker-control", "worker-gpu", "worker-btc-cpu"}
    for service in WORKERS.values():
        assert service["volumes"] == [
            "eo-data:/data",
            "${GRID_DIR:-./grids}:/srv/eo-tasks/grids:ro",
            "${MODEL_DIR:-./models}:/srv/eo-tasks/models:ro",
        ]


@pytest.mark.parametrize("service", OURS)
def test_our_processes_have_no_privileges_and_a_read_only_root(service: str):
    assert OURS[service]["read_only"] is True
    assert OURS[service]["cap_drop"] == ["ALL"]


def test_redis_keeps_what_it_is_given():
    command, start = SERVICES["redis"]["command"], (REDIS / "start").read_text(encoding="utf-8")
    assert command[0] == "/etc/eo-tasks/redis/start"
    assert f"./deploy/redis:{Path(command[0]).parent}:ro" in SERVICES["redis"]["volumes"]
    for option in ("--appendonly yes", "--appendfsync everysec", "--maxmemory-policy noeviction", "--aclfile"):
        assert option in start


@pytest.mark.parametrize("service", OURS)
def test_a_part_logs_in_to_redis_as_its_own_user(service: str):
    given, user = OURS[service]["environment"], USERS.get(service, "worker")
    assert given["REDIS_USERNAME"] == user
    (line,) = [line for line in (REDIS / "users.acl").read_text().splitlines() if line.startswith(f"user {user} ")]
    (variable,) = re.findall(r"#([A-Z_]+)", line)
    assert given["REDIS_PASSWORD"].startswith(f"${{{variable}:?")


def test_with_a_bucket_every_part_works_in_it_and_keeps_the_rest_on_the_volume():
    overlay = yaml.safe_load((ROOT / "deploy" / "compose.s3.yml").read_text(encoding="utf-8"))["services"]
    assert overlay.keys() == OURS.keys()
    for service in overlay.values():
        assert service == {"environment": {"DATA_DIR": "${DATA_DIR:?set it in .env}", "WORK_DIR": "/data"}}


def test_with_tls_every_part_trusts_the_certificate_that_redis_has():
    overlay = yaml.safe_load((ROOT / "deploy" / "compose.tls.yml").read_text(encoding="utf-8"))["services"]
    assert overlay.keys() == OURS.keys() | {"redis"}
    for service in OURS:
        (mount,) = overlay[service]["volumes"]
        assert mount.endswith(f"/ca.crt:{overlay[service]['environment']['REDIS_TLS_CA']}:ro")
        assert mount in overlay["redis"]["volumes"]
        assert overlay[service]["environment"]["REDIS_TLS"] == "yes"


def test_every_setting_reaches_the_worker_that_downloads():
    expected = {name.upper() for name in Settings.model_fields} - NOT_OF_WORKERS
    missing = expected - SERVICES["worker-cpu"]["environment"].keys()
    assert not missing, "add them to x-settings in docker-compose.yml and to deploy/env.example"


def test_every_setting_of_alerts_reaches_the_control_worker_alone():
    assert SERVICES["worker-control"]["environment"].keys() >= ALERTS
    assert [name for name, service in OURS.items() if ALERTS & service["environment"].keys()] == ["worker-control"]


def test_the_dashboard_shows_nothing_before_a_login():
    given = SERVICES["dashboard"]["environment"]
    assert given["DASHBOARD_PASSWORD"].startswith("${DASHBOARD_PASSWORD:?")
    assert given.keys() >= SCREENS - {"FLOWER_PORT", "FLOWER_BASIC_AUTH"}


@pytest.mark.parametrize("service", OURS)
def test_every_part_gets_the_same_settings(service: str):
    given = OURS[service]["environment"]
    own = {
        ("BTC_DEVICE", None),
        *((name, COMPOSE["x-settings"][name]) for name in ("REDIS_USERNAME", "REDIS_PASSWORD")),
    }
    assert COMPOSE["x-settings"].items() - own <= given.items()


@pytest.mark.parametrize("service", OURS)
def test_container_specific_settings_cannot_be_changed_from_outside(service: str):
    given = OURS[service]["environment"]
    assert all("$" not in given[name] for name in FIXED_IN_CONTAINERS & given.keys())
    assert given["DATA_DIR"] == "/data"  # on the volume, whatever DATA_DIR is outside


def test_only_the_setup_logs_in_as_the_databases_administrator():
    assert [name for name, service in OURS.items() if "DB_ADMIN_PASSWORD" in service["environment"]] == [ONE_SHOT]


def test_only_the_workers_that_order_and_fetch_can_log_in_to_openeo():
    secrets = {name for name in SECRETS if name.startswith("OPENEO")}
    assert secrets
    assert [name for name, service in OURS.items() if secrets & service["environment"].keys()] == [
        "worker-cpu",
        "worker-control",
    ]


def test_the_example_names_every_setting_that_can_be_set():
    named = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", ENV_EXAMPLE, re.MULTILINE))
    settable = (
        (set(SERVICES["worker-cpu"]["environment"]) | ALERTS | {"DASHBOARD_USER", "DASHBOARD_TOKEN"})
        - FIXED_IN_CONTAINERS
        - GENERATED
        - {"REMAP_SIGTERM"}
    )
    settable |= set(re.findall(r"\$\{([A-Z_]+):-", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    assert settable - named <= {"BTC_DEVICE"}


def test_the_example_sets_nothing_and_leaves_passwords_to_be_generated():
    set_lines = [line for line in ENV_EXAMPLE.splitlines() if line.strip() and not line.startswith("#")]
    assert set_lines == []
    assert all(name in ENV_EXAMPLE for name in GENERATED)
    assert not re.search(rf"^#?({'|'.join(GENERATED)})=", ENV_EXAMPLE, re.MULTILINE)


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_an_image_runs_as_a_fixed_user_that_is_not_root(dockerfile: str):
    for stage in re.split(r"^FROM ", DOCKERFILES[dockerfile], flags=re.MULTILINE):
        users = re.findall(r"^USER (.*)$", stage, re.MULTILINE)
        assert users[-1:] in ([], ["10001:10001"])
    (runtime,) = re.findall(r"^LABEL.*?^CMD", DOCKERFILES[dockerfile], re.MULTILINE | re.DOTALL)
    assert "\nUSER 10001:10001\n" in runtime


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_an_image_looks_at_the_heartbeat_and_is_stopped_softly(dockerfile: str):
    text = DOCKERFILES[dockerfile]
    assert re.search(r"^HEALTHCHECK .*\\\n +CMD .*find .*HEARTBEAT_FILE.* -mmin -1", text, re.MULTILINE)
    assert re.search(r"^STOPSIGNAL SIGTERM$", text, re.MULTILINE)
    assert "REMAP_SIGTERM=SIGQUIT" in text


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_an_image_builds_from_pinned_things_with_the_plainest_builder(dockerfile: str):
    text = DOCKERFILES[dockerfile]
    instructions = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert "-c constraints.txt" in instructions
    assert not re.search(r"<<|--link|--mount|https?://", instructions)
    assert "# syntax=" not in text


def test_no_image_floats_on_latest():
    defaults = [re.findall(r"^ARG BASE_IMAGE=(.*)$", text, re.MULTILINE) for text in DOCKERFILES.values()]
    images = [service["image"] for service in SERVICES.values()] + [image for found in defaults for image in found]
    for image in images:
        assert ":" in image
        assert "latest" not in image


@pytest.mark.parametrize("service", OURS)
def test_compose_and_dockerfile_agree_on_the_base(service: str):
    build = OURS[service]["build"]
    (default,) = re.findall(r"^ARG BASE_IMAGE=(.*)$", DOCKERFILES[build["dockerfile"]], re.MULTILINE)
    assert build["args"]["BASE_IMAGE"].endswith(f":-{default}}}")


def test_the_build_sees_only_what_it_needs():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == {
        "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "eo_tasks", "workers", "beat"
    }  # fmt: skip
