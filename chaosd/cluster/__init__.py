"""The cluster as chaosd sees it: the port, and the two adapters behind it.

`port` holds the protocol and its value types and imports nothing of an adapter. `kubernetes` speaks to an API server;
`sandbox` is an embedded model with real folders as disks. Only `daemon` and `cli` choose between them.
"""
