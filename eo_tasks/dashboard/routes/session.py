"""Logging in and out."""

import logging
from dataclasses import dataclass

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, Field

from eo_tasks.dashboard.access import COOKIE, SESSION_S, TRIES_S, Visitor
from eo_tasks.dashboard.asked import access_of, told, visitor_of

log = logging.getLogger(__name__)
router = APIRouter(tags=["session"])


@dataclass(frozen=True)
class Session:
    """Who asks, and what they may.

    Attributes:
        csrf: What requests that change something carry in ``X-CSRF-Token``.
        can_control: Whether they may change something.
        can_log_in: Whether there is a login at all.
        must_log_in: Whether nothing is shown before.
    """

    user: str | None
    csrf: str | None
    can_control: bool
    can_log_in: bool
    must_log_in: bool


class Login(BaseModel):
    """User and password."""

    user: str = Field(max_length=200)
    password: str = Field(max_length=1000)


@router.get("/session", responses=told())
def session(request: Request) -> Session:
    """Tell who is logged in, and what they may."""
    return _session(request, visitor_of(request))


@router.post("/login", responses=told(401, 403, 429))
def login(request: Request, response: Response, given: Login) -> Session:
    """Begin a session, which the cookie in the answer stands for."""
    access = access_of(request)
    address = request.client.host if request.client is not None else "?"
    if access.is_tried_too_often(address):
        raise HTTPException(429, "Too many wrong logins; wait a minute.", {"Retry-After": str(TRIES_S)})
    begun = access.log_in(given.user, given.password, address)
    if begun is None:
        log.warning("login refused", extra={"address": address})
        raise HTTPException(401, "User or password is wrong.")
    cookie, visitor = begun
    is_secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, cookie, max_age=SESSION_S, httponly=True, samesite="strict", secure=is_secure)
    return _session(request, visitor)


@router.post("/logout", status_code=204, responses=told(403))
def logout(request: Request) -> Response:
    """End the session."""
    access_of(request).log_out(request.cookies.get(COOKIE, ""))
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


def _session(request: Request, visitor: Visitor) -> Session:
    access, is_known = access_of(request), visitor.user is not None
    return Session(visitor.user, visitor.csrf, is_known, access.has_login, not (is_known or access.is_open_to_look))
