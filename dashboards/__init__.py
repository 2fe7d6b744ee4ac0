"""The Grafana dashboard: what it shows (`panels`), its JSON (`board`), and its pictures for the docs (`pictures`).

No part of what is shipped: `make docs` writes dashboards/chaosd.json and the chart's copy of it.
"""
