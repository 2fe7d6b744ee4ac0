"""A real Kubernetes of plain processes on one Linux machine, for the end-to-end tests. See README.md.

Standard library only, so that it runs before anything is installed; `csi_driver` alone has packages, in a venv of its own.
"""
