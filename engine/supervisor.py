"""Starts, stops and restarts the named services of a node in dependency order, and keeps them alive (spec 01, 19.2)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from importlib import import_module

import structlog

from engine.contract import messages
from engine.contract import services as names
from engine.contract.config import Config
from engine.contract.messages import Text, message
from engine.contract.services import BY_KEY, SERVICES, State, dependents
from engine.services.base import Service

log = structlog.get_logger(__name__)

IMPLEMENTATIONS: dict[str, str] = {
    names.CONFIG_AGENT: 'engine.services.config_agent:ConfigAgent',
    names.DATA_MONITOR: 'engine.services.data_monitor:DataMonitor',
    names.SERVER_RECOVERY_MANAGER: 'engine.services.server_recovery_manager:ServerRecoveryManager',
    names.XCP_ROUTER: 'engine.services.xcp_router:XcpRouter',
    names.SYNC_AGENT: 'engine.services.sync_agent:SyncAgent',
    names.CLIENT_PROFILE_AGENT: 'engine.services.client_profile_agent:ClientProfileAgent',
    names.INTERCLUSTER_SYNC_AGENT: 'engine.services.intercluster_sync_agent:InterclusterSyncAgent',
    names.PRESENCE_ENGINE: 'engine.services.presence_engine:PresenceEngine',
    names.SIP_PROXY: 'engine.services.sip_proxy:SipProxy',
    names.AUTHENTICATION: 'engine.services.authentication:AuthenticationService',
    names.CONNECTION_MANAGER: 'engine.services.connection_manager:ConnectionManager',
    names.WEB_CONNECTION_MANAGER: 'engine.services.web_connection_manager:WebConnectionManager',
    names.FEDERATION_MANAGER: 'engine.services.federation_manager:FederationManager',
    names.TEXT_CONFERENCE_MANAGER: 'engine.services.text_conference_manager:TextConferenceManager',
    names.DIRECTORY: 'engine.services.directory:DirectoryService',
    names.BULK_PROVISIONING: 'engine.services.bulk_provisioning:BulkProvisioning',
    names.UDS_TOMCAT: 'engine.services.uds_tomcat:UdsTomcat',
    names.CERTIFICATE_EXPIRY_MONITOR: 'engine.services.certificate_expiry_monitor:CertificateExpiryMonitor',
    names.DIRSYNC: 'engine.services.dirsync:DirSync',
}
UNGATED = (names.CONFIG_AGENT, names.DATA_MONITOR, names.SERVER_RECOVERY_MANAGER)
"""Services that run before the Data Monitor has released the others."""

START_LIMIT_S = 30.0
STOP_LIMIT_S = 15.0
RETRY_FIRST_S = 1.0
RETRY_MOST_S = 60.0
STABLE_S = 60.0
"""A service that ran this long starts again with the shortest wait."""


class Refused(Exception):
    """The command cannot be carried out; the text says why and what would help."""


class Slot:
    """One service on this node: what is wanted, what is so."""

    __slots__ = ('detail', 'failures', 'generation', 'instance', 'key', 'name', 'retry', 'since', 'state', 'wanted')

    def __init__(self, key: str) -> None:
        self.key = key
        self.name = BY_KEY[key].name
        self.state = State.STOPPED
        self.since = time.time()
        self.generation = 0
        self.detail = ''
        self.instance: Service | None = None
        self.wanted = False
        self.failures = 0
        self.retry: asyncio.TimerHandle | None = None


def describe(error: BaseException) -> str:
    """An exception as one plain sentence for the status page."""
    if found := messages.of(error):
        return found
    if isinstance(error, TimeoutError) and not str(error):
        return message(Text.NO_ANSWER)
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return text.splitlines()[0][:400]


class Supervisor:
    """The services of one node.

    ``changed(slot)`` is called at every change of state, detail or generation. ``make(key)`` builds an instance that
    has not started. ``config()`` gives the newest configuration. Commands run one at a time, in the order they came.
    """

    def __init__(
        self,
        node_name: str,
        config: Callable[[], Config],
        make: Callable[[str], Service],
        changed: Callable[[Slot], None],
        alarm: Callable[[str, str], None],
        clear: Callable[[str], None],
    ) -> None:
        self._node_name = node_name
        self._config = config
        self._make = make
        self._changed = changed
        self._alarm = alarm
        self._clear = clear
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._booted = False
        self._released = False
        self._closing = False
        self.kept: dict[str, str] = {}
        """Services that must not start, and why: the recovery manager keeps those of an Idle node stopped."""
        self.slots: dict[str, Slot] = {service.key: Slot(service.key) for service in SERVICES}
        self.running: dict[str, Service] = {}

    # ---- what may run here

    def _activated(self, key: str) -> bool:
        node = self._config().node(self._node_name)
        return BY_KEY[key].kind == 'network' or (node is not None and key in node.activated)

    def _placed(self, key: str) -> bool:
        node = self._config().node(self._node_name)
        return not BY_KEY[key].publisher_only or (node is not None and node.publisher)

    def _may_run(self, key: str) -> bool:
        return self._activated(key) and self._placed(key)

    def _why_not(self, key: str) -> str | None:
        """Why ``key`` cannot start now, or None."""
        slot = self.slots[key]
        if not self._placed(key):
            return message(Text.PUBLISHER_ONLY, service=slot.name)
        if not self._activated(key):
            return message(Text.NOT_ACTIVATED, service=slot.name, node=self._node_name)
        if key in self.kept:
            return self.kept[key]
        for dependency in BY_KEY[key].depends:
            if dependency not in self.running:
                return message(Text.NEEDS, service=slot.name, needed=BY_KEY[dependency].name)
        if key not in UNGATED and not self._released and names.DATA_MONITOR in self.running:
            return message(Text.NOT_RELEASED, service=slot.name, monitor=BY_KEY[names.DATA_MONITOR].name)
        return None

    # ---- commands

    async def boot(self) -> None:
        """Start the ungated services; show the others as waiting. ``release`` starts them."""
        async with self._lock:
            self._booted = True
            for key in UNGATED:
                await self._start_one(self.slots[key])
            for key, slot in self.slots.items():
                if key in UNGATED:
                    continue
                if self._may_run(key) and key not in self.kept:
                    slot.wanted = True
                    self._set(slot, State.STARTING, _waiting())
                else:
                    self._rest(slot)

    async def release(self) -> None:
        """The database is ready, or no longer waited for: start every service that is wanted."""
        async with self._lock:
            if self._released or self._closing:
                return
            self._released = True
            for key, slot in self.slots.items():
                if slot.wanted and key not in self.running:
                    await self._start_if_possible(slot)

    @property
    def released(self) -> bool:
        """Whether services may start without asking the Data Monitor."""
        return self._released

    def held(self) -> list[str]:
        """Names of the services that wait for the Data Monitor."""
        return [slot.name for key, slot in self.slots.items() if slot.wanted and key not in self.running]

    async def start(self, key: str) -> None:
        """Start a service; then its activated dependents. Raises Refused."""
        async with self._lock:
            self._known(key)
            if key in self.running:
                return
            if reason := self._why_not(key):
                raise Refused(reason)
            await self._start_with(key, dependents(key))
            self._raise_if_failed(key)

    async def stop(self, key: str) -> None:
        """Stop a service, its dependents first, in reverse order of start."""
        async with self._lock:
            self._known(key)
            if not self._may_run(key):
                raise Refused(self._why_not(key) or '')
            await self._stop_many((key, *dependents(key)))

    def keep_stopped(self, keys: Iterable[str], why: str) -> None:
        """Do not start these services and what needs them; ``why`` is shown."""
        self.kept = {other: why for key in keys for other in (key, *dependents(key))}

    async def hold(self, keys: Iterable[str], why: str) -> None:
        """Stop these services, in this order and what needs them first, and keep them stopped."""
        keys = tuple(keys)
        async with self._lock:
            self.keep_stopped(keys, why)
            for key in keys:
                await self._stop_many((key, *dependents(key)))

    async def let_start(self, keys: Iterable[str]) -> None:
        """Nothing is kept stopped any more: start these services and what needs them."""
        async with self._lock:
            again = {*keys, *self.kept}
            self.kept = {}
            for key, slot in self.slots.items():
                if key in again and self._may_run(key):
                    slot.wanted = True
                    await self._start_if_possible(slot)

    @property
    def closing(self) -> bool:
        """Whether the process ends."""
        return self._closing

    async def restart(self, key: str) -> None:
        """Stop and start a service with every dependent that was active. Raises Refused before anything stops."""
        async with self._lock:
            self._known(key)
            if reason := self._why_not(key):
                raise Refused(reason)
            was_down = key not in self.running and not self.slots[key].wanted
            again = [other for other in dependents(key) if was_down or self.slots[other].wanted]
            await self._stop_many((key, *dependents(key)))
            await self._start_with(key, again)
            self._raise_if_failed(key)

    async def close(self) -> None:
        """Stop everything, for the end of the process."""
        self._closing = True
        async with self._lock:
            if self._booted:
                await self._stop_many(tuple(self.slots))
        for task in list(self._tasks):
            task.cancel()

    async def reconfigure(self, config: Config) -> None:
        """Give a new generation to the running services; start and stop what was activated or deactivated."""
        for key, instance in list(self.running.items()):
            try:
                instance.configure(config)
            except Exception as error:
                log.exception('service could not take the configuration', service=key, generation=config.generation)
                values = {'service': BY_KEY[key].name, 'number': config.generation, 'reason': describe(error)}
                self._alarm('ConfigurationNotApplied', message(Text.NOT_APPLIED, **values))
        async with self._lock:
            if self._closing:
                return
            gone = [key for key, slot in self.slots.items() if not self._may_run(key) and slot.wanted]
            if gone:
                await self._stop_many(tuple(gone))
            for key, slot in self.slots.items():
                if not self._may_run(key):
                    self._rest(slot)
                elif slot.state is State.NOT_ACTIVATED:
                    slot.wanted = True
                    await self._start_if_possible(slot)

    def died(self, instance: Service, error: BaseException) -> None:
        """A background task of a running service ended with an exception: stop what is left, start it again later."""
        self._later(self._bury(instance, error))

    # ---- the work

    def _known(self, key: str) -> None:
        if key not in self.slots:
            raise Refused(message(Text.NO_SUCH_SERVICE, service=key, node=self._node_name))

    def _raise_if_failed(self, key: str) -> None:
        slot = self.slots[key]
        if slot.state is State.FAILED:
            raise Refused(message(Text.NOT_STARTED, service=slot.name, reason=slot.detail))

    def _set(self, slot: Slot, state: State, detail: str = '', generation: int = 0) -> None:
        if (slot.state, slot.detail, slot.generation) == (state, detail, generation):
            return
        if slot.state is not state:
            slot.since = time.time()
            log.info('service state', service=slot.key, state=str(state), detail=detail)
        slot.state, slot.detail, slot.generation = state, detail, generation
        self._changed(slot)

    def _rest(self, slot: Slot) -> None:
        """The state of a service that is down and not waited for."""
        if not self._activated(slot.key):
            self._set(slot, State.NOT_ACTIVATED)
        elif not self._placed(slot.key):
            self._set(slot, State.STOPPED, message(Text.ON_PUBLISHER))
        elif slot.key in self.kept:
            self._set(slot, State.STOPPED, self.kept[slot.key])
        else:
            self._set(slot, State.STOPPED)

    async def _start_with(self, key: str, others: Iterable[str]) -> None:
        await self._start_one(self.slots[key])
        for other in others:
            if self._may_run(other):
                self.slots[other].wanted = True
                await self._start_if_possible(self.slots[other])

    async def _start_if_possible(self, slot: Slot) -> None:
        if slot.key in self.running:
            return
        if slot.key in self.kept:
            self._rest(slot)
            return
        missing = [BY_KEY[key].name for key in BY_KEY[slot.key].depends if key not in self.running]
        if missing:
            self._set(slot, State.STOPPED, message(Text.WAITS, service=missing[0]))
        elif slot.key not in UNGATED and not self._released and names.DATA_MONITOR in self.running:
            self._set(slot, State.STARTING, _waiting())
        else:
            await self._start_one(slot)

    async def _start_one(self, slot: Slot) -> None:
        slot.wanted = True
        self._cancel_retry(slot)
        self._set(slot, State.STARTING)
        instance: Service | None = None
        try:
            instance = self._make(slot.key)
            async with asyncio.timeout(START_LIMIT_S):
                await instance.start()
        except Exception as error:
            log.warning('service failed to start', service=slot.key, error=describe(error), exc_info=_unexpected(error))
            if instance is not None:
                await self._stop_instance(slot, instance)
            self._failed(slot, describe(error))
            return
        slot.instance = instance
        self.running[slot.key] = instance
        self._set(slot, State.RUNNING, instance.detail, instance.started_with.generation)
        self._clear(_alarm_name(slot))

    async def _stop_many(self, keys: Iterable[str]) -> None:
        chosen = set(keys)
        for key in reversed(self.slots):
            if key in chosen:
                await self._stop_one(self.slots[key])

    async def _stop_one(self, slot: Slot) -> None:
        slot.wanted = False
        slot.failures = 0
        self._cancel_retry(slot)
        if slot.state is State.FAILED:
            self._clear(_alarm_name(slot))
        instance = self.running.get(slot.key)
        if instance is not None:
            self._set(slot, State.STOPPING)
            # Removed first: nobody may use a service that is going down, except itself.
            del self.running[slot.key]
            slot.instance = None
            await self._stop_instance(slot, instance)
        self._rest(slot)

    async def _stop_instance(self, slot: Slot, instance: Service) -> None:
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                await instance.stop()
        except Exception:
            log.exception('service did not stop cleanly', service=slot.key)
        instance.cancel_tasks()

    def _failed(self, slot: Slot, detail: str) -> None:
        wait = min(RETRY_MOST_S, RETRY_FIRST_S * 2**slot.failures) * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
        slot.failures += 1
        self._set(slot, State.FAILED, detail)
        self._alarm(_alarm_name(slot), message(Text.FAILED, service=slot.name, reason=detail))
        if not self._closing:
            loop = asyncio.get_running_loop()
            slot.retry = loop.call_later(wait, lambda: self._later(self._try_again(slot)))

    async def _try_again(self, slot: Slot) -> None:
        async with self._lock:
            if self._closing or not slot.wanted or slot.key in self.running or slot.key in self.kept:
                return
            if any(key not in self.running for key in BY_KEY[slot.key].depends):
                return  # it starts together with what it needs
            await self._start_one(slot)
            if slot.key in self.running:
                for other in dependents(slot.key):
                    if self.slots[other].wanted:
                        await self._start_if_possible(self.slots[other])

    async def _bury(self, instance: Service, error: BaseException) -> None:
        async with self._lock:
            key = instance.key
            slot = self.slots[key]
            if self.running.get(key) is not instance:
                return
            if time.time() - slot.since > STABLE_S:
                slot.failures = 0
            for other in reversed(dependents(key)):
                was_wanted = self.slots[other].wanted
                await self._stop_one(self.slots[other])
                self.slots[other].wanted = was_wanted
            del self.running[key]
            slot.instance = None
            await self._stop_instance(slot, instance)
            self._failed(slot, describe(error))

    def refresh_detail(self, instance: Service) -> None:
        """Show what a running service now says about itself."""
        slot = self.slots[instance.key]
        if self.running.get(instance.key) is instance:
            self._set(slot, State.RUNNING, instance.detail, slot.generation)

    def _cancel_retry(self, slot: Slot) -> None:
        if slot.retry is not None:
            slot.retry.cancel()
            slot.retry = None

    def _later(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def make_service(key: str, node: object) -> Service:
    """An instance of the service called ``key``; its module is imported now."""
    module, _, name = IMPLEMENTATIONS[key].partition(':')
    service: Service = getattr(import_module(module), name)(node)
    return service


def _alarm_name(slot: Slot) -> str:
    return f'ServiceFailed: {slot.name}'


def _waiting() -> str:
    return message(Text.WAITING, service=BY_KEY[names.DATA_MONITOR].name)


def _unexpected(error: BaseException) -> bool:
    return not isinstance(error, OSError | TimeoutError)
