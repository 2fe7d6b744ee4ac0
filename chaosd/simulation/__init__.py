"""Simulation: whole runs of chaosd against the sandbox, in memory and in virtual time, from one seed.

The same program runs as anywhere else, on disks whose faults are planted on purpose and beside an API server that fails on
purpose: `world` is such a run, `plants` are the faults of the storage (each is a `fault`), `healthy` are runs in which only
what stands between it and chaosd fails, `ledger` is what they are journaled in. Used by chaosd.drill, tests and benchmarks.
"""
