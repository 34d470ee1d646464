"""The configuration document that travels from console to engine, one immutable generation at a time.

The console compiles it from its models (``impadmin/compile.py``), stores it as JSON in the table
``config_generation`` and announces the number; each node's Cisco Config Agent reads and validates it.
Users and contact lists are not part of it: they are rows the engine reads when it needs them.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from engine.contract.chat import Chat

NO_LIMIT = None
"""Value of a limit whose *No Limit* box is ticked."""

AddressScheme = Literal['userid', 'directory_uri']


class PresenceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Presence > Settings > Standard Configuration (guide 5531-5569)."""

    availability_sharing: bool = True
    auto_approve: bool = True
    max_contacts: int | None = 200
    max_watchers: int | None = 200
    adhoc_subscriptions: bool = True
    adhoc_max: int = 0
    adhoc_ttl_s: int = 300


class MessagingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Messaging > Settings (guide 5574-5589)."""

    im_enabled: bool = True
    suppress_offline: bool = False
    client_history: bool = True
    cut_and_paste: bool = True


class FederatedDomain(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the XMPP federation policy: an exact domain, or ``*.DOMAIN`` for everything below it."""

    domain: str
    direction: Literal['both', 'incoming', 'outgoing'] = 'both'


class FederationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Presence > Inter-Domain Federation > XMPP Federation > Settings and Policy (spec 11, RST-R23)."""

    enabled: bool = True
    security: Literal['none', 'optional', 'required'] = 'optional'
    require_certificates: bool = False
    external_in: bool = True
    external_out: bool = True
    dialback: bool = True
    secret: str = ''
    """Dialback secret of the cluster. Shown nowhere."""
    secret_version: int = 0
    """Grows with every change of the secret: what notifications compare."""
    policy: Literal['allow', 'deny'] = 'allow'
    """allow: everybody but ``domains``; deny: nobody but ``domains``."""
    domains: tuple[FederatedDomain, ...] = ()


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """Messaging > External Server Setup > External Components: one component of XEP-0114."""

    domain: str
    secret: str
    name: str = ''


class LdapServer(msgspec.Struct, frozen=True, kw_only=True):
    """One server of a directory; ``tls``: LDAPS."""

    host: str
    port: int = 636
    tls: bool = True


class LdapAuthentication(msgspec.Struct, frozen=True, kw_only=True):
    """System > LDAP > LDAP Authentication (guide 2790-2803): how passwords of users of a directory are checked."""

    enabled: bool = False
    servers: tuple[LdapServer, ...] = ()
    """In the order to try them."""
    manager_dn: str = ''
    password: str = ''
    """Sealed, see engine.contract.sealing."""
    search_base: str = ''
    user_id_attribute: str = 'uid'
    timeout_s: int = 5
    authorities: str = ''
    """PEM of the authorities trusted to sign the servers' certificates (tomcat-trust)."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One IM and Presence node of the cluster."""

    id: int
    name: str
    address: str
    publisher: bool = False
    activated: tuple[str, ...] = ()
    """Keys of the feature services activated on this node."""
    parameters: dict[str, dict[str, Any]] = {}
    """Per-node service parameters: service key -> parameter name -> value."""
    certificates: dict[str, str] = {}
    """SHA-256 of the certificates made in the console, by name (``contract/certificates.py``). Absent: the node has a
    file or makes one itself."""
    regenerated: dict[str, str] = {}
    """Those of them that sign themselves."""


class SecuritySettings(msgspec.Struct, frozen=True, kw_only=True):
    """System > Security > Settings (guide 4945-4961)."""

    client_secure_mode: bool = True
    wildcards: bool = False


class CertificateMonitor(msgspec.Struct, frozen=True, kw_only=True):
    """Security > Certificate Monitor (guide 4843-4852)."""

    start_days: int = 30
    frequency_h: int = 7 * 24


class RedundancyGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One Presence Redundancy Group: a node, or two that stand in for each other."""

    id: int
    name: str
    nodes: tuple[int, ...]
    """Node ids, Presence Server (1) first."""
    ha: bool = False
    """Enable High Availability; only with two nodes."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration generation."""

    generation: int = 0
    cluster_name: str = 'StandAloneCluster'
    default_domain: str = 'DOMAIN.NOT.SET'
    address_scheme: AddressScheme = 'userid'
    domains: tuple[str, ...] = ()
    """Every hosted IM address domain, lower case, the default domain included."""
    presence: PresenceSettings = PresenceSettings()
    messaging: MessagingSettings = MessagingSettings()
    chat: Chat = Chat()
    federation: FederationSettings = FederationSettings()
    components: tuple[Component, ...] = ()
    incoming_acl: tuple[str, ...] = ()
    """System > Security > Incoming ACL: addresses, networks, host and domain names, ALL."""
    security: SecuritySettings = SecuritySettings()
    certificate_monitor: CertificateMonitor = CertificateMonitor()
    trust: dict[str, str] = {}
    """What each trust store holds, as a digest."""
    ldap: LdapAuthentication = LdapAuthentication()
    nodes: tuple[Node, ...] = ()
    groups: tuple[RedundancyGroup, ...] = ()
    """Every node is in exactly one of them."""
    parameters: dict[str, dict[str, Any]] = {}
    """Cluster-wide service parameters: service key -> parameter name -> value. Absent means default."""
    enterprise: dict[str, Any] = {}
    """Enterprise parameters by name. Absent means default."""

    def node(self, name: str) -> Node | None:
        """The node called ``name``, or None when it is not configured."""
        return next((node for node in self.nodes if node.name == name), None)

    def group_of(self, node_id: int) -> RedundancyGroup | None:
        """The group the node is in."""
        return next((group for group in self.groups if node_id in group.nodes), None)

    def peer_of(self, node_id: int) -> int | None:
        """The other node of the group while High Availability is on, or None."""
        group = self.group_of(node_id)
        return next((node for node in group.nodes if node != node_id), None) if group and group.ha else None


def encode(config: Config) -> bytes:
    """JSON bytes of one generation."""
    return msgspec.json.encode(config, order='deterministic')


def decode(document: bytes | str) -> Config:
    """Validate and read one generation. Raises ``msgspec.ValidationError`` with the path of the wrong value."""
    return msgspec.json.decode(document, type=Config)


def value_at(config: Config, path: str, node_name: str) -> Any:
    """The value a dotted path names, as a node sees it.

    ``presence.max_contacts``, ``default_domain``, ``enterprise.NAME`` and ``parameters.SERVICE.NAME``
    (a per-node value hides the cluster-wide one; absent gives None, meaning the parameter's default);
    ``node.certificates.NAME`` of the node's own entry; ``chat.aliases``: those of its own rooms.
    """
    if path == 'chat.aliases':
        own = config.node(node_name)
        return tuple(one.alias for one in config.chat.aliases if own is not None and one.node_id == own.id)
    head, _, rest = path.partition('.')
    if head == 'node':
        group, _, name = rest.partition('.')
        own = config.node(node_name)
        return getattr(own, group).get(name) if own is not None else None
    if head == 'parameters':
        service, _, name = rest.partition('.')
        node = config.node(node_name)
        if node is not None and name in node.parameters.get(service, {}):
            return node.parameters[service][name]
        return config.parameters.get(service, {}).get(name)
    value: Any = getattr(config, head)
    for part in filter(None, rest.split('.')):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part)
    return value
