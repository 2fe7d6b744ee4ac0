"""The workload: what is written into the volumes, and how it is read back.

`spec` is what an experiment says of it; `worker` does its tasks through a probe session and journals what came of them;
`document` knows what may stand in the files that hold several records, registers and logs.
"""
