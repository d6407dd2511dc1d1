"""The Grafana dashboards that ship, as code: ``python -m tests.tools.dashboards helm/course-sync-daemon/files/dashboards``.

`queries` has the PromQL, with metrics of the daemon's catalogue; `panels` has the kinds of panels and the colours; `overview`
and `internals` say what is shown where. Grafana's own builders make the JSON.
"""
