"""The daemon's HTTP port: metrics for Prometheus, probes for Kubernetes, the state for operators.

server.py       the endpoints, on aiohttp
gate.py         accepts connections and bounds their number, duration and rate
rendering.py    bounds the event loop's time that expensive pages can use
"""

from daemon.admin.server import ENDPOINTS, AdminServer

__all__ = ["ENDPOINTS", "AdminServer"]
