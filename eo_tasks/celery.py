"""The Celery app: broker, result backend, queues, routes and delivery (``celery -A eo_tasks …``)."""

from celery import Celery
from kombu import Exchange, Queue
from kombu.utils.url import parse_url

from eo_tasks.errors import SettingsError
from eo_tasks.settings import Settings, current_settings

DOWNLOADS, STORES, BTC, CONTROL = "downloads", "stores", "btc", "control"
UNIT_QUEUES = (DOWNLOADS, STORES, BTC)

STORE_LIMIT_S = 900
BTC_LIMIT_S = 3600
CONTROL_LIMIT_S = 600
GRACE_S = 120  # between asking a task to stop and killing its process


def configure(celery: Celery, settings: Settings) -> None:
    """Apply the delivery settings; ``docs/decisions/0002-delivery.md`` says why each is what it is."""
    download_limit_s = settings.openeo_timeout_s + 300
    longest_s = max(download_limit_s, BTC_LIMIT_S) + GRACE_S
    transport = {
        "visibility_timeout": 2 * longest_s,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
    }
    celery.conf.update(
        broker_url=settings.broker_url,
        broker_use_ssl=parse_url(settings.broker_url).get("ssl", False),  # Flower reads them nowhere else
        result_backend=f"eo_tasks.backend:LedgerBackend+{settings.result_url}",
        broker_transport_options=transport,
        result_backend_transport_options={"visibility_timeout": transport["visibility_timeout"]},
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        redis_socket_timeout=30,
        redis_socket_connect_timeout=5,
        redis_socket_keepalive=True,
        redis_backend_health_check_interval=30,
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        result_expires=7 * 24 * 3600,
        task_acks_late=True,
        task_reject_on_worker_lost=False,  # the ledger counts deaths and sends again; Celery would loop
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,  # Flower shows events
        worker_soft_shutdown_timeout=30,
        worker_hijack_root_logger=True,
        task_default_queue=CONTROL,
        task_queues=[queue(name) for name in UNIT_QUEUES],  # `control` belongs to `celery -A beat worker`
        task_routes={
            "eo_tasks.download": {"queue": DOWNLOADS},
            "eo_tasks.fetch": {"queue": DOWNLOADS},
            "eo_tasks.store": {"queue": STORES},
            "eo_tasks.btc": {"queue": BTC},
            "enqueue_years": {"queue": CONTROL},
        },
        task_annotations={
            "eo_tasks.download": _limits(download_limit_s),
            "eo_tasks.fetch": _limits(download_limit_s),
            "eo_tasks.store": _limits(STORE_LIMIT_S),
            "eo_tasks.btc": _limits(BTC_LIMIT_S),
            "enqueue_years": _limits(CONTROL_LIMIT_S),
        },
        timezone="UTC",
    )


def queue(name: str) -> Queue:
    """A queue of its own for one kind of task."""
    return Queue(name, Exchange("eo-tasks", type="direct"), routing_key=name)


def _limits(seconds: int) -> dict[str, int]:
    return {"soft_time_limit": seconds, "time_limit": seconds + GRACE_S}


app = Celery("eo_tasks", include=["eo_tasks.tasks"])

try:
    configure(app, current_settings())
except SettingsError as error:  # the first thing that `celery -A eo_tasks` does; a person reads one line
    raise SystemExit(f"eo-tasks: {error}") from None
