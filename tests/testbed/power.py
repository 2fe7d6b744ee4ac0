"""The power switch of a disk: `python3 tests/testbed/power.py status HANDLE`, `… mode HANDLE MODE [--seed SEED]`, `… cut
HANDLE [--after-writes N]`.

Answers with a line of JSON. HANDLE is the volume handle of a disk of the storage class with a power switch; the modes are
those of `power_disk.Mode`. After a cut the pods with the disk must be deleted: the kubelet then mounts it anew.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sys
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # where the package `testbed` is, not what is in it

from testbed.layout import POWER_SOCKET
from testbed.power_disk import Mode, Status
from testbed.shell import TestbedError, wait_until


def status(handle: str) -> Status:
    return _ask(command="status", name=handle)


def set_mode(handle: str, mode: Mode, seed: int) -> Status:
    return _ask(command="mode", name=handle, mode=mode, seed=seed)


def cut(handle: str) -> Status:
    """Off and on again. Returns the status after it; `lost_bytes` may be 0, if all had been flushed.

    Raises TestbedError if the disk is not in use: then a cut would prove nothing.
    """
    _in_use(handle, _ask(command="cut", name=handle))
    return status(handle)


def cut_in_burst(handle: str, after_writes: int, timeout_seconds: float = 240) -> Status:
    """Cut at the write of the disk with this number from now on, and return the status after it.

    That write was not flushed, so there is always something to lose: `lost_bytes`. Raises TestbedError if the disk is not
    in use, or was not written to so often in time; its power then stays on.
    """
    before = _in_use(handle, _ask(command="cut_after", name=handle, writes=after_writes))
    what = f"{handle} lost its power at write {after_writes}"
    try:
        wait_until(what, lambda: status(handle).cuts > before.cuts, timeout_seconds, every_seconds=0.01)
    finally:
        _ask(command="cut_after", name=handle, writes=None)
    return status(handle)


def _in_use(handle: str, answer: Status) -> Status:
    if not answer.open:
        raise TestbedError(f"{handle} is not in use, or has no power switch: there was nothing to cut")
    return answer


def _ask(**request: object) -> Status:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        try:
            connection.connect(str(POWER_SOCKET))
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(connection.makefile().readline())
        except (OSError, ValueError) as error:
            raise TestbedError(f"no answer at {POWER_SOCKET}: {error}") from error
    if "error" in answer:
        raise TestbedError(f"{request}: {answer['error']}")
    return Status(**{**answer, "mode": Mode(answer["mode"])})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status").add_argument("handle")
    cutting = commands.add_parser("cut")
    cutting.add_argument("handle")
    cutting.add_argument("--after-writes", type=int, help="wait for the write with this number, and cut the power at it")
    mode = commands.add_parser("mode")
    mode.add_argument("handle")
    mode.add_argument("mode", choices=[mode.value for mode in Mode])
    mode.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    try:
        answer = _obey(arguments)
    except TestbedError as error:
        print(f"power: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"handle": arguments.handle, **asdict(answer)}))
    return 0


def _obey(arguments: argparse.Namespace) -> Status:
    if arguments.command == "mode":
        return set_mode(arguments.handle, Mode(arguments.mode), arguments.seed)
    if arguments.command == "status":
        return status(arguments.handle)
    if arguments.after_writes:
        return cut_in_burst(arguments.handle, arguments.after_writes)
    return cut(arguments.handle)


if __name__ == "__main__":
    sys.exit(main())
