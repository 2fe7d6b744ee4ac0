"""Workloads: what is written into the volumes, and how it is read back.

Each is a spec for the experiment and a worker that does its tasks through a probe session and journals what came of it.
`files` writes every file once.
"""
