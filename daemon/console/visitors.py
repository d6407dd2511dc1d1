"""Who sends a request: the cookies of a visit and of a session, and whether a page of this console has sent a form."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from daemon.console.access import SESSION_SECONDS, Access, Session

SESSION, VISIT = "coursesync_session", "coursesync_visit"
"""Cookies."""


def visit_of(request: web.Request) -> str | None:
    return request.cookies.get(VISIT)


def session_of(request: web.Request, access: Access) -> Session | None:
    return access.session(request.cookies.get(SESSION), visit_of(request))


def is_own_form(request: web.Request, form: Mapping[str, str], access: Access) -> bool:
    """Whether a page of this console has sent the form."""
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    return site == "same-origin" and access.is_own_form(visit_of(request), form.get("form_token", ""))


def keep_visit(request: web.Request, response: web.Response, visit: str) -> None:
    _set_cookie(request, response, VISIT, visit)


def begin_session(request: web.Request, response: web.Response, cookie: str) -> None:
    _set_cookie(request, response, SESSION, cookie)


def end_session(response: web.Response) -> None:
    response.del_cookie(SESSION, path="/", httponly=True, samesite="Strict")


def _set_cookie(request: web.Request, response: web.Response, name: str, value: str) -> None:
    is_https = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
    response.set_cookie(
        name, value, max_age=SESSION_SECONDS, path="/", httponly=True, samesite="Strict", secure=is_https
    )
