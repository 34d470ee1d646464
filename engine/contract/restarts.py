"""Restart rules: which services must restart before a saved value takes effect (guide 12515-12580).

One table serves both sides. The console compares the newest generation with the one each service runs and shows
Active Notifications; the engine gives each service the values it started with for exactly the same paths.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.contract.certificates import CLIENT_TRUST, CUP, CUP_XMPP, CUP_XMPP_S2S, PURPOSES, Purpose
from engine.contract.chat import RoomSettings
from engine.contract.config import Config, value_at
from engine.contract.services import (
    CONNECTION_MANAGER,
    FEDERATION_MANAGER,
    PRESENCE_ENGINE,
    SERVICES,
    SIP_PROXY,
    TEXT_CONFERENCE_MANAGER,
    XCP_ROUTER,
)


@dataclass(frozen=True, slots=True)
class RestartRule:
    """``paths`` (see ``config.value_at``) bound to ``services``; ``page`` is the menu path the reason names."""

    id: str
    page: str
    paths: tuple[str, ...]
    services: tuple[str, ...]
    severity: str = 'Medium'
    advice: bool = False
    """Recommended when the value, a list, gains something; nothing waits for the restart."""

    def differs(self, old: Any, new: Any) -> bool:
        """Whether the change of a value asks for the restart."""
        return bool(set(new) - set(old)) if self.advice else old != new


_PARAMETER_RULES = {
    'cucm_domain': 'RST-R45',
    'server_name': 'RST-R45',
    'persist_tcp': 'RST-R45',
    'max_sessions_per_user': 'RST-R54',
    'enable_multi_device_messaging': 'RST-R53',
}
"""Service parameters with a row of their own; RST-R50 stands for every other one that needs the router restarted."""

ALIASES = 'Messaging > Group Chat Server Alias Mapping'
"""Cisco XCP Text Conference Manager takes them at its start (guide 5732, 7933, 7986). After an addition the guide's
list of restarts recommends that of Cisco XCP Router (12521), which restarts the other one too."""
CERTIFICATES = 'Security > Certificate Management'
_CERTIFICATE_RULES = {CUP: 'RST-R29', CUP_XMPP: 'RST-R30'}
"""RST-R32 stands for every certificate without a row of its own, and for the upload of cup-xmpp-s2s (guide 4645)."""


def _certificate_paths(purpose: Purpose, group: str = 'certificates') -> tuple[str, ...]:
    return tuple(f'node.{group}.{name}' for name in purpose.names)


RULES: tuple[RestartRule, ...] = (
    *(
        RestartRule(_CERTIFICATE_RULES.get(one.name, 'RST-R32'), CERTIFICATES, _certificate_paths(one), one.services)
        for one in PURPOSES.values()
    ),
    RestartRule('RST-R31', CERTIFICATES, _certificate_paths(PURPOSES[CUP_XMPP_S2S], 'regenerated'), (XCP_ROUTER,)),
    *(
        RestartRule('RST-R32', CERTIFICATES, (f'trust.{store}',), (service,))
        for store, service in (
            ('cup-trust', SIP_PROXY),
            ('cup-xmpp-trust', FEDERATION_MANAGER),
            (CLIENT_TRUST, CONNECTION_MANAGER),
        )
    ),
    RestartRule(
        'RST-R18',
        'System > Security > Settings',
        ('security.client_secure_mode',),
        (CONNECTION_MANAGER, XCP_ROUTER),
    ),
    RestartRule('RST-R07', 'System > Security > Incoming ACL', ('incoming_acl',), (SIP_PROXY,)),
    RestartRule(
        'RST-R10', 'Messaging > Settings', ('messaging.im_enabled', 'messaging.suppress_offline'), (XCP_ROUTER,)
    ),
    RestartRule(
        'RST-R03',
        'Messaging > Group Chat System Administrators > Settings',
        ('chat.administrators_enabled',),
        (XCP_ROUTER,),
    ),
    RestartRule(
        'RST-R05',
        'Messaging > Group Chat and Persistent Chat',
        tuple(f'chat.settings.{name}' for name in RoomSettings.__struct_fields__),
        (TEXT_CONFERENCE_MANAGER,),
    ),
    RestartRule('RST-R06', ALIASES, ('chat.aliases',), (TEXT_CONFERENCE_MANAGER,)),
    RestartRule('RST-R06', ALIASES, ('chat.aliases',), (XCP_ROUTER,), severity='Low', advice=True),
    RestartRule(
        'RST-R13',
        'Presence > Settings > Standard Configuration',
        (
            'presence.availability_sharing',
            'presence.auto_approve',
            'presence.max_contacts',
            'presence.max_watchers',
        ),
        (PRESENCE_ENGINE, XCP_ROUTER),
    ),
    RestartRule(
        'RST-R23',
        'Presence > Inter-Domain Federation > XMPP Federation > Settings',
        (
            'federation.enabled',
            'federation.security',
            'federation.require_certificates',
            'federation.external_in',
            'federation.external_out',
            'federation.dialback',
            'federation.secret_version',
        ),
        (XCP_ROUTER,),
    ),
    RestartRule(
        'RST-R23',
        'Presence > Inter-Domain Federation > XMPP Federation > Policy',
        ('federation.policy', 'federation.domains'),
        (XCP_ROUTER,),
    ),
    RestartRule(
        'RST-R47', 'Presence > Settings > Advanced Configuration', ('address_scheme',), (XCP_ROUTER,), severity='High'
    ),
    RestartRule(
        'RST-R48', 'Presence > Settings > Advanced Configuration', ('default_domain',), (XCP_ROUTER,), severity='High'
    ),
    RestartRule('RST-R50', 'Presence > Domains', ('domains',), (XCP_ROUTER,)),
    *(
        RestartRule(
            _PARAMETER_RULES.get(param.name, 'RST-R50'),
            'System > Service Parameters',
            (f'parameters.{service.key}.{param.name}',),
            param.restart,
        )
        for service in SERVICES
        for param in service.params
        if param.restart
    ),
)


def bound_paths(service: str) -> tuple[str, ...]:
    """The paths whose value ``service`` keeps from its start."""
    return tuple(path for rule in RULES if service in rule.services and not rule.advice for path in rule.paths)


@dataclass(frozen=True, slots=True)
class Pending:
    """One service on one node runs an old value of one setting."""

    rule: RestartRule
    path: str
    service: str
    node: str
    old: Any
    new: Any


def pending(newest: Config, running: Iterable[tuple[str, str, Config]]) -> list[Pending]:
    """Compare ``newest`` with what runs. ``running``: (node name, service key, configuration it started with)."""
    found = []
    for node, service, started in running:
        for rule in RULES:
            if service not in rule.services:
                continue
            for path in rule.paths:
                old, new = value_at(started, path, node), value_at(newest, path, node)
                if rule.differs(old, new):
                    found.append(Pending(rule, path, service, node, old, new))
    return found


def effective(newest: Config, started: Config, service: str) -> Config:
    """``newest``, with the values that ``service`` takes only at its restart replaced by those of ``started``."""
    result = newest
    for path in bound_paths(service):
        head, _, rest = path.partition('.')
        if head == 'parameters':
            key, _, name = rest.partition('.')
            result = _keep_parameter(result, started, key, name)
        elif head == 'node':
            result = _keep_of_nodes(result, started, *rest.split('.', 1))
        else:
            result = _keep_at(result, started, path)
    return result


def _kept(values: dict[str, Any], old: dict[str, Any], name: str) -> dict[str, Any]:
    """``values`` with what ``old`` has of ``name``, which may be nothing."""
    kept = {key: value for key, value in values.items() if key != name}
    return {**kept, name: old[name]} if name in old else kept


def _keep_at(values: Any, old: Any, path: str) -> Any:
    """``values`` with what ``old`` has at a dotted path."""
    name, _, rest = path.partition('.')
    if isinstance(values, dict):
        return _kept(values, old, path)
    kept = _keep_at(getattr(values, name), getattr(old, name), rest) if rest else getattr(old, name)
    return msgspec.structs.replace(values, **{name: kept})


def _keep(
    values: dict[str, dict[str, Any]], old: dict[str, dict[str, Any]], key: str, name: str
) -> dict[str, dict[str, Any]]:
    return {**values, key: _kept(values.get(key, {}), old.get(key, {}), name)}


def _keep_of_nodes(result: Config, started: Config, group: str, name: str) -> Config:
    nodes = []
    for node in result.nodes:
        before = started.node(node.name)
        kept = _kept(getattr(node, group), getattr(before, group) if before else {}, name)
        nodes.append(msgspec.structs.replace(node, **{group: kept}))
    return msgspec.structs.replace(result, nodes=tuple(nodes))


def _keep_parameter(result: Config, started: Config, key: str, name: str) -> Config:
    nodes = []
    for node in result.nodes:
        before = started.node(node.name)
        parameters = _keep(node.parameters, before.parameters if before else {}, key, name)
        nodes.append(msgspec.structs.replace(node, parameters=parameters))
    parameters = _keep(result.parameters, started.parameters, key, name)
    return msgspec.structs.replace(result, parameters=parameters, nodes=tuple(nodes))


def parameter_value(config: Config, node_name: str, service: str, name: str) -> Any:
    """The value of a service parameter as a node sees it, the declared default included."""
    from engine.contract.services import parameter

    value = value_at(config, f'parameters.{service}.{name}', node_name)
    return parameter(service, name).default if value is None else value
