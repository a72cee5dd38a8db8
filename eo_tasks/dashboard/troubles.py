"""Errors as answers: one line for people, and the status that fits."""

import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from eo_tasks.errors import EOTasksError, GridError, TransientError

log = logging.getLogger(__name__)

PASSES = {"Retry-After": "5"}


def answer_errors(app: FastAPI) -> None:
    """Have the app tell this project's errors, and Redis's."""

    @app.exception_handler(EOTasksError)
    def ours(_: Request, error: EOTasksError) -> JSONResponse:
        if isinstance(error, TransientError):
            return JSONResponse({"detail": str(error)}, 503, PASSES)
        return JSONResponse({"detail": str(error)}, 404 if isinstance(error, GridError) else 409)

    @app.exception_handler(OperationalError)  # what Celery makes of it
    @app.exception_handler(RedisError)
    def of_redis(_: Request, error: Exception) -> JSONResponse:
        log.warning("Redis does not work: %s", error)
        told = "Redis does not answer, or refuses; the dashboard's log says why. It is asked again by itself."
        return JSONResponse({"detail": told}, 503, PASSES)
