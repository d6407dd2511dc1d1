"""The daemon's HTTP port: metrics for Prometheus, probes for Kubernetes, the state for people.

server.py       the endpoints, on aiohttp
gate.py         accepts connections and bounds their number, their life and their pace
rendering.py    keeps pages that are expensive to render from taking the event loop's time
"""

from daemon.admin.server import ENDPOINTS, AdminServer

__all__ = ["ENDPOINTS", "AdminServer"]
