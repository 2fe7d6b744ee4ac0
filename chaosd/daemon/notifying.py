"""What came of gates, told by webhooks. Each has a queue and a task of its own, so that one that hangs holds up no run, no
other webhook, and the daemon's end for a moment only."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from chaosd import webhook
from chaosd.daemon.logs import Logger
from chaosd.metrics import Metrics
from chaosd.report.gate import GateStatus, summary
from chaosd.settings import Webhook
from chaosd.webhook import DeliveryError, Message

_MOST_WAITING = 100
_LAST_SECONDS = 3.0


class Notifier:
    """Tells while it is `open`. What is not delivered then is not told any more: the API and the metrics do."""

    def __init__(self, metrics: Metrics, log: Logger, hooks: tuple[Webhook, ...]) -> None:
        self._metrics = metrics
        self._log = log
        self._waiting = {hook: asyncio.Queue[tuple[str, Message]](_MOST_WAITING) for hook in hooks}
        metrics.webhooks(hook.name for hook in hooks)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Deliver while the context is open, and for a moment after."""
        rng = random.SystemRandom()
        tasks = [asyncio.create_task(self._serve(hook, rng), name=f"webhook {hook.name}") for hook in self._waiting]
        try:
            yield
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_SECONDS):
                    await asyncio.gather(*(queue.join() for queue in self._waiting.values()))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._give_up()

    def tell(self, gate: GateStatus) -> None:
        """Have it told what came of the gate's last run, which has ended. Returns at once."""
        assert gate.last, "a run has ended"
        for hook, queue in self._waiting.items():
            if gate.last.verdict in hook.verdicts:
                message = Message(body(hook, gate), gate.last.run)
                if queue.full():
                    self._failed(hook, queue.get_nowait()[0], f"{_MOST_WAITING} wait already")
                    queue.task_done()
                queue.put_nowait((gate.gate, message))

    async def _serve(self, hook: Webhook, rng: random.Random) -> None:
        queue = self._waiting[hook]
        while True:
            gate, message = await queue.get()
            try:
                attempts = await webhook.deliver(hook, message, rng)
            except DeliveryError as error:
                self._failed(hook, gate, str(error))
            except asyncio.CancelledError:
                self._failed(hook, gate, "the daemon ended")
                raise
            else:
                self._metrics.webhook_deliveries.labels(hook.name, "delivered").inc()
                self._log.info(f"run {message.key} was told by webhook {hook.name}, attempt {attempts}", experiment=gate)
            finally:
                queue.task_done()

    def _give_up(self) -> None:
        for hook, queue in self._waiting.items():
            while not queue.empty():
                self._failed(hook, queue.get_nowait()[0], "the daemon ended")

    def _failed(self, hook: Webhook, gate: str, why: str) -> None:
        self._metrics.webhook_deliveries.labels(hook.name, "failed").inc()
        self._log.warning(f"a run was not told by webhook {hook.name}: {why}", experiment=gate)


def body(hook: Webhook, gate: GateStatus) -> bytes:
    """What a webhook is told of a gate: what the API says, or a line for a chat."""
    if hook.format == "slack":
        return json.dumps({"text": _escaped(summary(gate))}).encode()
    return gate.as_json().encode()


def _escaped(text: str) -> str:
    """Source: Slack's docs, "Formatting text for app surfaces", Escaping text."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
