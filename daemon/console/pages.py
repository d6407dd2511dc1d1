"""The pages: what each address answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import urlencode

import click
import msgspec
from aiohttp import web
from jinja2 import Environment

from daemon import __version__
from daemon.codec.change import INTEGRATION_ID_MAX, IntegrationId
from daemon.commands.decision_options import TextParam, UntilParam
from daemon.commands.integration_rows import State
from daemon.commands.integration_settings import rows as settings_rows
from daemon.config import Configuration, Policies
from daemon.console.access import Access, AccessError, Session, new_visit
from daemon.console.addresses import course_address, integration_address, own_address
from daemon.console.course import Found, course_life, open_changes, search, search_results
from daemon.console.feed import wall_ms
from daemon.console.model import Model
from daemon.console.rendering import environment, since, until
from daemon.console.views.integrations import SORTS, integration_list, integration_page
from daemon.console.views.overview import overview
from daemon.console.views.partitions import partition_list
from daemon.console.visitors import begin_session, end_session, is_own_form, keep_visit, session_of, visit_of
from daemon.core.control import PATTERN_END, Pause, is_pattern
from daemon.log.errors import LogError
from daemon.log.topic_access import TopicRecord

ID_MAX = 600
"""Characters of what is searched for; the longest id has 512."""
OBEYED_WITHIN = 3.0
"""Seconds for which the page after a decision waits until the console has read it back."""

Write = Callable[[list[Pause]], Awaitable[None]]
"""Writes decisions to the control topic. Raises LogError."""


class Source(Protocol):
    """Where single records come from; see `Feed`."""

    @property
    def in_reader(self) -> ThreadPoolExecutor: ...

    def read(self, topic: str, places: list[tuple[int, int]]) -> list[TopicRecord]: ...

    async def next_turn(self) -> None: ...


class Pages:
    def __init__(
        self, model: Model, source: Source, access: Access, configuration: Configuration, write: Write
    ) -> None:
        self._model = model
        self._source = source
        self._access = access
        self._configuration = configuration
        self.policies = Policies(configuration.settings, configuration.tables)
        """Pages show what counts now: `use` others when the tables have changed."""
        self._write = write
        self._templates: Environment = environment()

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/", self.overview)
        router.add_get("/integrations", self.integrations)
        router.add_get("/integration", self.integration)
        router.add_post("/integration/pause", self.pause)
        router.add_post("/integration/resume", self.resume)
        router.add_get("/partitions", self.partitions)
        router.add_get("/search", self.search)
        router.add_get("/course", self.course)
        router.add_get("/sign-in", self.sign_in_page)
        router.add_post("/sign-in", self.sign_in)
        router.add_post("/sign-out", self.sign_out)

    # --- reading ------------------------------------------------------------------------------------

    async def overview(self, request: web.Request) -> web.Response:
        return self._page(request, "overview.html", view=overview(self._model, wall_ms()))

    async def integrations(self, request: web.Request) -> web.Response:
        query = _parameter(request, "q").strip()
        chosen = _parameter(request, "state")
        state = State(chosen) if chosen in set(State) else None
        sort = _parameter(request, "sort") or "state"
        if sort not in SORTS:
            sort = "state"
        reverse = _parameter(request, "order") == "reverse"
        number = _parameter(request, "page")
        page = int(number) if number.isascii() and number.isdigit() and len(number) < 7 else 1
        found = integration_list(
            self._model, wall_ms(), query=query, state=state, sort=sort, reverse=reverse, page=page
        )
        asked = {"q": query, "state": "" if state is None else state.value}
        order = {"sort": sort, "order": "reverse" if reverse else ""}

        def link(**changed: str | int) -> str:
            return f"/integrations?{urlencode({k: v for k, v in (asked | order | changed).items() if v})}"

        return self._page(
            request,
            "integrations.html",
            list=found,
            query=query,
            state=state,
            states=list(State),
            sort=sort,
            reverse=reverse,
            link=link,
        )

    async def integration(self, request: web.Request) -> web.Response:
        name = _parameter(request, "id")
        if not name:
            raise web.HTTPSeeOther("/integrations")
        return self._integration_page(request, name)

    async def partitions(self, request: web.Request) -> web.Response:
        return self._page(
            request,
            "partitions.html",
            partitions=partition_list(self._model),
            replicas=self._model.replicas,
        )

    async def search(self, request: web.Request) -> web.Response:
        integration, wanted = _parameter(request, "integration").strip(), _parameter(request, "q")
        found: dict[tuple[str, str], Found] = {}
        error = None
        # An id may have spaces around it, and what somebody has copied may have some more.
        for text in filter(None, dict.fromkeys((wanted, wanted.strip()))):
            if found:
                break
            found = {each[:2]: each for each in search(self._model, integration or None, text)}
            try:
                for each in await self._read(search_results, integration or None, text):
                    found.setdefault(each[:2], each)
            except LogError as failed:
                error = str(failed)
        if len(found) == 1 and error is None:
            (only,) = found.values()
            raise web.HTTPSeeOther(course_address(only.integration_id, only.origin_id))
        return self._page(
            request,
            "search.html",
            wanted=wanted,
            integration=integration,
            found=list(found.values()),
            error=error,
            is_integration=wanted in self._model.integrations(),
        )

    async def course(self, request: web.Request) -> web.Response:
        integration, origin = _parameter(request, "integration"), _parameter(request, "id")
        if not integration or not origin:
            raise web.HTTPSeeOther("/search")
        opened = open_changes(self._model, integration, origin)
        try:
            life = await self._read(course_life, integration, origin, opened)
        except LogError as error:
            return self._page(
                request, "message.html", status=503, title="Kafka does not answer", text=str(error)
            )
        return self._page(request, "course.html", life=life)

    # --- acting -------------------------------------------------------------------------------------

    async def pause(self, request: web.Request) -> web.Response:
        form, session = await self._own_form(request)
        name = form.get("id", "")
        if mistake := id_mistake(name):
            return self._integration_page(request, name, mistake=mistake, status=400)
        try:
            reason = TextParam().convert(form.get("reason", ""), None, None)
            end = form.get("until", "").strip()
            ends_at = UntilParam().convert(end, None, None) if end else None
        except click.BadParameter as error:
            about = "The end of the pause" if form.get("reason", "").strip() else "The reason"
            return self._integration_page(
                request, name, mistake=f"{about}: {error.message}", given=form, status=400
            )
        decision = Pause(name, True, ends_at, session.who, reason, wall_ms())
        return await self._decide(request, decision, "paused")

    async def resume(self, request: web.Request) -> web.Response:
        form, session = await self._own_form(request)
        name = form.get("id", "")
        if mistake := id_mistake(name):
            return self._integration_page(request, name, mistake=mistake, status=400)
        if not self._model.control.pauses_within(name):
            return self._integration_page(
                request, name, mistake="It is not paused; nothing was written.", status=409
            )
        try:
            reason = TextParam().convert(form.get("reason", ""), None, None)
        except click.BadParameter as error:
            return self._integration_page(
                request, name, mistake=f"The reason: {error.message}", given=form, status=400
            )
        return await self._decide(
            request, Pause(name, False, None, session.who, reason, wall_ms()), "resumed"
        )

    async def sign_in_page(self, request: web.Request) -> web.Response:
        visit = visit_of(request) or new_visit()
        response = self._sign_in(request, visit, _parameter(request, "back"))
        keep_visit(request, response, visit)
        return response

    async def sign_in(self, request: web.Request) -> web.Response:
        form = await _form(request)
        visit, back = visit_of(request), form.get("back", "")
        if visit is None or not is_own_form(request, form, self._access):
            return self._forged(request)
        try:
            cookie = self._access.sign_in(form.get("who", ""), form.get("token", ""), visit)
        except AccessError as error:
            return self._sign_in(
                request, visit, back, mistake=str(error), who=form.get("who", "")[:200], status=403
            )
        response = web.Response(status=303, headers={"Location": own_address(back)})
        begin_session(request, response, cookie)
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        form = await _form(request)
        if not is_own_form(request, form, self._access):
            return self._forged(request)
        response = web.Response(status=303, headers={"Location": "/"})
        end_session(response)
        return response

    # --- parts --------------------------------------------------------------------------------------

    async def _own_form(self, request: web.Request) -> tuple[Mapping[str, str], Session]:
        form = await _form(request)
        session = session_of(request, self._access)
        if session is None:
            back = integration_address(form.get("id", ""))
            raise web.HTTPSeeOther(f"/sign-in?{urlencode({'back': back})}")
        if not is_own_form(request, form, self._access):
            forged = self._forged(request)
            raise web.HTTPForbidden(text=forged.text, content_type="text/html")
        return form, session

    def _forged(self, request: web.Request) -> web.Response:
        text = (
            "This form is not from a page of this console, or the console was restarted since. Nothing was changed. Go back, load "
            "the page again, and repeat it."
        )
        return self._page(request, "message.html", status=403, title="Nothing was changed", text=text)

    async def _decide(self, request: web.Request, decision: Pause, done: str) -> web.Response:
        name = decision.integration
        try:
            await self._write([decision])
        except LogError as error:
            return self._integration_page(request, name, mistake=f"Nothing was written. {error}", status=503)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OBEYED_WITHIN):
                while not self._has_read(decision):
                    await self._source.next_turn()
        return web.Response(
            status=303, headers={"Location": f"{integration_address(name)}&{urlencode({'done': done})}"}
        )

    def _has_read(self, decision: Pause) -> bool:
        return any(each == decision for _, each in self._model.decisions)

    def _integration_page(
        self,
        request: web.Request,
        name: str,
        *,
        mistake: str | None = None,
        given: Mapping[str, str] | None = None,
        status: int = 200,
    ) -> web.Response:
        configuration = replace(self._configuration, tables=self.policies.tables)
        page = integration_page(self._model, self.policies, name, wall_ms())
        done = _parameter(request, "done")
        return self._page(
            request,
            "integration.html",
            status=status,
            page=page,
            name=name,
            is_pattern=is_pattern(name),
            can_be_named=id_mistake(name) is None,
            settings=list(settings_rows(configuration, name)),
            mistake=mistake,
            given=given or {},
            done=done if done in ("paused", "resumed") else None,
        )

    def _sign_in(
        self,
        request: web.Request,
        visit: str,
        back: str,
        *,
        mistake: str | None = None,
        who: str = "",
        status: int = 200,
    ) -> web.Response:
        if mistake is None:
            try:
                self._access.token()
            except AccessError as error:
                mistake = str(error)
        return self._page(
            request, "sign_in.html", status=status, visit=visit, back=back, mistake=mistake, who=who
        )

    async def _read(self, function: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._source.in_reader, lambda: function(self._model, self._source.read, *arguments)
        )

    def _page(
        self,
        request: web.Request,
        template: str,
        *,
        status: int = 200,
        visit: str | None = None,
        **values: Any,
    ) -> web.Response:
        wall = wall_ms()
        known_visit = visit or visit_of(request)
        text = self._templates.get_template(template).render(
            **{"back": request.path_qs} | values,
            path=request.path,
            wall=wall,
            since=lambda at: since(at, wall),
            until=lambda at: until(at, wall),
            reading=self._model.reading,
            halted_reason=self._model.halted_reason,
            session=session_of(request, self._access),
            access=self._access,
            form_token="" if known_visit is None else self._access.form_token(known_visit),
            integration_address=integration_address,
            course_address=course_address,
            version=__version__,
            topics=self._model.topics,
        )
        return web.Response(text=text, content_type="text/html", status=status)


def id_mistake(name: str) -> str | None:
    """Why this is neither the id of an integration nor a pattern; None if it is."""
    try:
        msgspec.convert(name, IntegrationId)
    except msgspec.ValidationError:
        return f"An id has 1 to {INTEGRATION_ID_MAX} printable ASCII characters and no spaces."
    if PATTERN_END in name.removesuffix(PATTERN_END):
        return "A pattern is the first characters of ids and one * at its end."
    return None


async def _form(request: web.Request) -> Mapping[str, str]:
    return {key: value for key, value in (await request.post()).items() if isinstance(value, str)}


def _parameter(request: web.Request, name: str) -> str:
    """As it is, because an id may begin or end with spaces, but without what is no text."""
    return request.query.get(name, "").encode(errors="replace").decode()[:ID_MAX]
