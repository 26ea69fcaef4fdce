"""Body sources that behave well or badly, as a test wants."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from rs3d.types.objects import Checksum


class StreamSource:
    """Hands out `data` in steps, with a checkpoint before each, as a socket would."""

    def __init__(
        self,
        data: bytes,
        step: int,
        *,
        declares: bool = True,
        declared_bytes: int | None = None,
        trailing: Sequence[Checksum] = (),
        error: Exception | None = None,
    ) -> None:
        self._data = memoryview(data)
        self._step = step
        self._declared = declared_bytes if declared_bytes is not None else (len(data) if declares else None)
        self._trailing = trailing
        self._error = error
        self.calls = 0

    @property
    def declared_bytes(self) -> int | None:
        return self._declared

    @property
    def direct(self) -> None:
        return None

    @property
    def framed(self) -> None:
        return None

    def whole(self) -> memoryview | None:
        return None

    async def receive_into(self, buffer: memoryview) -> int:
        await trio.lowlevel.checkpoint()
        self.calls += 1
        taken = min(self._step, len(buffer), len(self._data))
        if not taken and self._error is not None:
            raise self._error
        buffer[:taken] = self._data[:taken]
        self._data = self._data[taken:]
        return taken

    def trailing_checksums(self) -> Sequence[Checksum]:
        return self._trailing
