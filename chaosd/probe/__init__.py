"""The probe: what runs beside the volume, and the session that speaks with it.

`protocol` is the wire format, pure; `shell.sh` the program for any target that has a POSIX shell; `session` starts it
by exec and binds it to one pod. Nothing here judges: findings are named by `chaosd.payload` and judged by the checkers.
"""
