"""Grafana dashboards as code: `python -m helm.dashboards` writes `helm/cvntrade/files/dashboards`.

Panels read the views `ops_*` as the role grafana_ro, and Prometheus for what only it knows. A view says what is stale
or simulated, and limits are the settings' defaults, so that no panel types either of them again.
"""
