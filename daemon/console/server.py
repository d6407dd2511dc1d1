"""The server of the console: the pages behind the gate of the admin port, with headers that confine them.

A page may load its own style sheet and script, and nothing else: no inline script or style, no frame, no other host
(Content-Security-Policy). Pages are not kept by browsers and proxies, because they show ids.
"""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from daemon.admin.gate import Gate
from daemon.admin.host_names import UNKNOWN_HOST, is_known, names_of
from daemon.admin.server import STOP_TIMEOUT_S, Connection, complete
from daemon.console.pages import Pages
from daemon.console.rendering import STATIC

LINE_BYTES_MAX = 16 * 1024
"""Size of the request line. An id of 512 characters may take 6 KiB in an address."""
FORM_BYTES_MAX = 64 * 1024
CONNECTION_SECONDS_MAX = 30.0
"""A course is read from Kafka while its page is being made."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class ConsoleServer:
    def __init__(self, host: str, port: int, pages: Pages, host_names: Collection[str] = ()) -> None:
        """With port 0 the system chooses a port."""
        self._host, self._port = host, port
        self._pages = pages
        self._host_names = names_of(host, host_names)
        self._files = {
            path.name: (path.read_bytes(), _STATIC_TYPES[path.suffix]) for path in STATIC.iterdir()
        }
        self._running: tuple[web.AppRunner, Gate] | None = None

    async def start(self) -> int:
        """Start to listen. Returns the port.

        Raises:
            OSError: the address cannot be used.
        """
        app = web.Application(middlewares=[self._known_host], client_max_size=FORM_BYTES_MAX)
        self._pages.add_to(app.router)
        app.router.add_get("/static/{name}", self._static)
        app.router.add_get("/livez", self._live)
        app.on_response_prepare.append(_confined)
        app.on_response_prepare.append(complete)
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=STOP_TIMEOUT_S)
        await runner.setup()
        gate = Gate(lambda: Connection(runner, gate, LINE_BYTES_MAX), seconds_max=CONNECTION_SECONDS_MAX)
        try:
            await gate.listen(self._host, self._port)
        except OSError:
            await runner.cleanup()
            raise
        self._running = (runner, gate)
        return gate.port

    async def stop(self) -> None:
        """Idempotent."""
        running, self._running = self._running, None
        if running is not None:
            runner, gate = running
            gate.stop_listening()
            await runner.cleanup()
            gate.abort()

    @web.middleware
    async def _known_host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_known(request.headers.get(hdrs.HOST, ""), self._host_names):
            return await handler(request)
        return web.Response(status=421, text=UNKNOWN_HOST)

    async def _static(self, request: web.Request) -> web.Response:
        found = self._files.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        body, kind = found
        return web.Response(body=body, content_type=kind, charset="utf-8")

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="The console answers.\n")


async def _confined(request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers[hdrs.CACHE_CONTROL] = "no-cache" if request.path.startswith("/static/") else "no-store"
