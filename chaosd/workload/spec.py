"""What is written to each replica, as an experiment says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chaosd import payload
from chaosd.quantities import Bytes

_CONFIG = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
# A log that is full stays until it was read often enough; one more may be open meanwhile.
LOGS_AT_ONCE = 2


class Share(BaseModel):
    """What chaosd's files may take of one replica's volume."""

    model_config = _CONFIG

    bytes: Annotated[Bytes, Field(ge=payload.BLOCK_BYTES, description="Bytes on each volume, such as 256Mi.")] = 256 << 20
    files: Annotated[int, Field(ge=1, le=100_000, description="Files on each volume.")] = 2_000

    def lacks(self, free_bytes: int | None, free_files: int | None) -> str:
        """What is too little for it on a volume, with the mend; empty where it fits. What it has taken already counts as
        free. None is what was not told."""
        if free_bytes is not None and free_bytes < self.bytes:
            mend = f"make room, or lower workload.share.bytes to {_quantity(free_bytes)} or less"
            return f"{free_bytes} bytes free, the share is {self.bytes}: {mend}"
        if free_files is not None and free_files < self.files:
            mend = f"make room, or lower workload.share.files to {free_files} or less"
            return f"{free_files} inodes free, the share is {self.files} files: {mend}"
        return ""


def _quantity(count: int) -> str:
    """Bytes as an experiment has them, rounded down."""
    return f"{count >> 20}Mi" if count >> 20 else f"{count >> 10}Ki"


class Registers(BaseModel):
    """Files that are overwritten again and again: every second one by rename, the others in place."""

    model_config = _CONFIG

    count: Annotated[int, Field(ge=0, le=100, description="Registers on each volume.")] = 2
    size: Annotated[
        Bytes, Field(ge=payload.BLOCK_BYTES, le=1 << 20, description="Bytes of a register, a multiple of 4Ki.")
    ] = 8 << 10


class Log(BaseModel):
    """A file that entries are appended to; when it is full, another is begun."""

    model_config = _CONFIG

    entries: Annotated[int, Field(ge=0, le=1_000, description="Entries of a full log; 0: no log is written.")] = 16
    size: Annotated[
        Bytes, Field(ge=payload.BLOCK_BYTES, le=1 << 20, description="Bytes of an entry, a multiple of 4Ki.")
    ] = 4 << 10


class Workload(BaseModel):
    """Files that are written once; and with each batch of them a new value of every register and an entry of the log."""

    model_config = _CONFIG

    files: Annotated[int, Field(ge=0, le=10_000, description="Files to each replica in each round, at least.")] = 20
    size: Annotated[
        Bytes, Field(ge=payload.BLOCK_BYTES, le=16 << 20, description="Bytes of a file, a multiple of 4Ki.")
    ] = 64 << 10
    registers: Registers = Registers()
    log: Log = Log()
    share: Share = Share()
    retire_after: Annotated[
        int, Field(alias="retireAfter", ge=1, description="Intact readings after which a file may make room.")
    ] = 2
    keep: Annotated[
        float, Field(ge=0, le=1, description="Fraction of the files that stays; its latest go where a round needs room.")
    ] = 0.05
    kind: Annotated[Literal["files"], Field(description="The only one; may be left out.")] = "files"

    @model_validator(mode="after")
    def _whole_blocks_that_fit(self) -> Workload:
        for name, size in (("size", self.size), ("registers.size", self.registers.size), ("log.size", self.log.size)):
            if size % payload.BLOCK_BYTES:
                raise ValueError(f"{name} must be a multiple of 4Ki ({payload.BLOCK_BYTES} bytes), not {size}")
        if self.files > self.room_files or self.files * self.size > self.room_bytes:
            raise ValueError(
                "the files of one round do not fit into the share beside registers and log: raise share, or lower files, "
                "size, registers or log"
            )
        return self

    @property
    def room_bytes(self) -> int:
        """Bytes of the share for files that are written once. A register takes twice its size while it is replaced."""
        return (
            self.share.bytes
            - 2 * self.registers.count * self.registers.size
            - LOGS_AT_ONCE * self.log.entries * self.log.size
        )

    @property
    def room_files(self) -> int:
        """Files of the share that may be written once."""
        return self.share.files - 2 * self.registers.count - LOGS_AT_ONCE * bool(self.log.entries)

    def bytes_at_once(self, files: int) -> int:
        """Bytes at most of a batch of so many files, with the values and the entry that are written beside them."""
        return files * self.size + self.registers.count * self.registers.size + self.log.size

    @property
    def longest_file(self) -> int:
        """Bytes of the longest file that is written."""
        return max(self.size, self.registers.size, self.log.entries * self.log.size)
