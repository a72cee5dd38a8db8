"""What every route needs of its request: the app's shared parts, who asks, and whether they may."""

from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.requests import HTTPConnection

from eo_tasks.dashboard.access import COOKIE, Access, Visitor, matches
from eo_tasks.dashboard.views import Views
from eo_tasks.state.audit import Audit

CSRF_HEADER = "X-CSRF-Token"
PROGRAM = "Bearer "
TOLD: dict[int | str, dict[str, Any]] = {
    code: {
        "description": text,
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"detail": {"type": "string"}}, "required": ["detail"]}
            }
        },
    }
    for code, text in {
        400: "The request cannot be read.",
        401: "Nobody is logged in.",
        403: "The request comes from another site, or its session's second secret is wrong.",
        404: "There is no such thing.",
        409: "That cannot be done now.",
        413: "The request is too long.",
        421: "The dashboard answers to another host name.",
        429: "Too many wrong logins.",
        503: "Redis or the database does not answer.",
    }.items()
}


def told(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Answers beside the good one."""
    return {code: TOLD[code] for code in (*codes, 400, 413, 421, 503)}


def views_of(connection: HTTPConnection) -> Views:
    """What the process keeps in memory."""
    views: Views = connection.app.state.views
    return views


def access_of(connection: HTTPConnection) -> Access:
    """Who may do what."""
    access: Access = connection.app.state.access
    return access


def audit_of(connection: HTTPConnection) -> Audit:
    """Where deeds are written down."""
    return Audit(views_of(connection).known.ledger.redis)


def visitor_of(connection: HTTPConnection) -> Visitor:
    """Who asks."""
    given = connection.headers.get("authorization", "")
    bearer = given.removeprefix(PROGRAM) if given.startswith(PROGRAM) else None
    return access_of(connection).visitor(connection.cookies.get(COOKIE), bearer)


def look(request: Request) -> Visitor:
    """Whoever may look.

    Raises:
        HTTPException: Only those who logged in may.
    """
    visitor = visitor_of(request)
    if visitor.user is None and not access_of(request).is_open_to_look:
        raise HTTPException(401, "Log in first.")
    return visitor


def act(request: Request) -> Visitor:
    """Whoever may change something.

    Raises:
        HTTPException: Nobody is logged in, or the request may come from another site's page.
    """
    visitor = visitor_of(request)
    if visitor.user is None:
        how = "Log in first." if access_of(request).has_login else "Set DASHBOARD_PASSWORD, then log in."
        raise HTTPException(401, how)
    if not visitor.is_program and not matches(request.headers.get(CSRF_HEADER), visitor.csrf):
        raise HTTPException(403, f"The header {CSRF_HEADER} is missing or wrong: load the page again.")
    return visitor


SharedViews = Annotated[Views, Depends(views_of)]
Log = Annotated[Audit, Depends(audit_of)]
Looking = Annotated[Visitor, Depends(look)]
Acting = Annotated[Visitor, Depends(act)]
