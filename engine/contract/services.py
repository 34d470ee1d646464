"""The named services of the Control Center: class, dependencies, parameters.

Only services that do their work are listed; those of later areas join when their work lands.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from engine.contract.message_params import MESSAGE_PARAMS
from engine.contract.params import Param
from engine.contract.pubsub_params import PUBSUB_PARAMS, PUSH_PARAMS
from engine.contract.stream_params import STREAM_PARAMS


class State(StrEnum):
    """Service states shown in the Control Center (spec 01, 19.2)."""

    NOT_ACTIVATED = 'Not Activated'
    STOPPED = 'Stopped'
    STARTING = 'Starting'
    RUNNING = 'Running'
    STOPPING = 'Stopping'
    FAILED = 'Failed'


@dataclass(frozen=True, slots=True)
class Service:
    """One service. ``key`` is its stable name in data, ``name`` the product's name, ``group`` its heading."""

    key: str
    name: str
    kind: Literal['network', 'feature']
    group: str
    depends: tuple[str, ...] = ()
    params: tuple[Param, ...] = ()
    publisher_only: bool = False
    default_active: bool = True
    """Whether a newly added node starts with this feature service activated (spec 01: basic IM works after install)."""


CONFIG_AGENT = 'config_agent'
DATA_MONITOR = 'data_monitor'
XCP_ROUTER = 'xcp_router'
SYNC_AGENT = 'sync_agent'
CLIENT_PROFILE_AGENT = 'client_profile_agent'
PRESENCE_ENGINE = 'presence_engine'
CONNECTION_MANAGER = 'xcp_connection_manager'
WEB_CONNECTION_MANAGER = 'xcp_web_connection_manager'
AUTHENTICATION = 'xcp_authentication'
FEDERATION_MANAGER = 'xcp_xmpp_federation_connection_manager'
DIRECTORY = 'xcp_directory'
BULK_PROVISIONING = 'bulk_provisioning'

IM_SERVICES = 'IM and Presence Services'
DB_SERVICES = 'Database and Admin Services'

ROUTER_PARAMS = (
    Param(
        'max_sessions_per_user',
        10,
        'Maximum number of logon sessions per user',
        'How many clients one user can have signed in at the same time. A further sign-in is refused.',
        low=1,
        high=100,
        restart=(XCP_ROUTER,),
    ),
    Param(
        'max_offline_messages',
        100,
        'Maximum number of offline messages per user',
        'Instant messages kept for a user who is not signed in. At the limit the sender gets an error.',
        low=1,
        high=100000,
    ),
    Param(
        'reply_lock_timeout_s',
        1800,
        'Reply lock time-out',
        'After this time without traffic, messages go to all clients of the user again.',
        low=10,
        high=86400,
        unit='seconds',
    ),
    Param(
        'privacy_lists',
        20,
        'Maximum number of privacy lists per user',
        'Lists with which a user decides who reaches whom. Lists above a lowered limit stay.',
        low=1,
        high=1000,
        section='Limits per user',
    ),
    Param(
        'privacy_list_items',
        1000,
        'Maximum number of entries of a privacy list',
        'Also the number of addresses a user can block.',
        low=1,
        high=100000,
        section='Limits per user',
    ),
    Param(
        'private_data_kib',
        256,
        'Private data per user',
        'What the clients of a user may keep on the server for themselves, such as bookmarks.',
        low=1,
        high=10240,
        unit='KiB',
        section='Limits per user',
    ),
    Param(
        'private_data_elements',
        100,
        'Maximum number of private data elements per user',
        low=1,
        high=10000,
        section='Limits per user',
    ),
    *MESSAGE_PARAMS,
    Param(
        'component_port',
        7400,
        'External component port',
        'External components (XEP-0114) connect here. Nothing listens while none is configured.',
        low=1,
        high=65535,
        scope='node',
        restart=(XCP_ROUTER,),
        section='External components',
    ),
    Param(
        'component_bind_address',
        '127.0.0.1',
        'Listen address for external components',
        'IP address of the node. The protocol has no encryption: use an address that only the components can reach.',
        scope='node',
        restart=(XCP_ROUTER,),
        section='External components',
        pattern=r'[0-9A-Fa-f.:]{2,45}',
    ),
    Param(
        'component_timeout_s',
        30,
        'Handshake time-out of components',
        'A connection that has not shown the secret of a component after this time is closed.',
        low=1,
        high=600,
        unit='seconds',
        section='External components',
    ),
    Param(
        'component_connections_per_ip',
        100,
        'Maximum component connections per IP address',
        'Further connections from the same address are closed at once.',
        low=1,
        high=10000,
        section='External components',
    ),
    Param(
        'component_max_stanza_bytes',
        1048576,
        'Maximum stanza size of components',
        'A component that sends a larger stanza is disconnected with a policy violation.',
        low=10000,
        high=16777216,
        unit='bytes',
        section='External components',
    ),
    Param(
        'component_queue_bytes',
        16777216,
        'Maximum bytes waiting for a component',
        'When a component does not take what is sent to it, further stanzas are answered with an error.',
        low=65536,
        high=1073741824,
        unit='bytes',
        section='External components',
    ),
)
PRESENCE_ENGINE_PARAMS = (
    Param(
        'max_waiting_requests',
        100,
        'Maximum number of waiting requests per user',
        'Subscription requests from other domains that wait for an answer, and approvals given in advance. Further '
        'requests are refused.',
        low=1,
        high=100000,
        section='Other Domains',
    ),
    Param(
        'remote_resources',
        10,
        'Maximum number of clients per contact in another domain',
        'The presence of so many clients of one contact at another server is kept for users who are signed in.',
        low=1,
        high=100,
        section='Other Domains',
    ),
    Param(
        'remote_probe_rate',
        1000,
        'Presence probes per second',
        'How fast the presence of contacts at other servers is asked for, and how fast their questions are answered.',
        low=10,
        high=100000,
        unit='probes per second',
        section='Other Domains',
    ),
)
CONNECTION_MANAGER_PARAMS = (
    Param(
        'client_port',
        5222,
        'XMPP client access port',
        'Clients connect here and secure the connection with STARTTLS.',
        low=1,
        high=65535,
        scope='node',
        restart=(CONNECTION_MANAGER,),
        section='Listeners',
    ),
    Param(
        'direct_tls_port',
        5223,
        'XMPP direct TLS port',
        'Clients connect here with TLS from the first byte.',
        low=1,
        high=65535,
        scope='node',
        restart=(CONNECTION_MANAGER,),
        section='Listeners',
    ),
    Param(
        'bind_address',
        '127.0.0.1',
        'Listen address',
        'IP address the client ports listen on. 0.0.0.0 means every IPv4 address of the node, :: every address.',
        scope='node',
        restart=(CONNECTION_MANAGER,),
        section='Listeners',
        pattern=r'[0-9A-Fa-f.:]{2,45}',
    ),
    Param(
        'preauth_bytes',
        8192,
        'Maximum bytes before authentication',
        'A client that sends more before it has signed in is disconnected.',
        low=4096,
        high=65536,
        unit='bytes',
        section='Limits',
    ),
    Param(
        'preauth_elements',
        32,
        'Maximum elements before authentication',
        'A client that sends more XML elements before it has signed in is disconnected.',
        low=8,
        high=1024,
        section='Limits',
    ),
    Param(
        'preauth_timeout_s',
        30,
        'Authentication time-out',
        'A client that has not signed in after this time is disconnected.',
        low=1,
        high=600,
        unit='seconds',
        section='Limits',
    ),
    Param(
        'connections_per_ip',
        1000,
        'Maximum connections per IP address',
        'Further connections from the same address are closed at once.',
        low=1,
        high=1000000,
        section='Limits',
    ),
    Param(
        'max_stanza_bytes',
        262144,
        'Maximum stanza size',
        'A client that sends a larger stanza is disconnected with a policy violation.',
        low=10000,
        high=16777216,
        unit='bytes',
        section='Limits',
    ),
)
WEB_CONNECTION_MANAGER_PARAMS = (
    Param(
        'port',
        7335,
        'Web client port',
        'BOSH, WebSocket and discovery (host-meta) share this port.',
        low=1,
        high=65535,
        scope='node',
        restart=(WEB_CONNECTION_MANAGER,),
        section='Listeners',
    ),
    Param(
        'bind_address',
        '127.0.0.1',
        'Listen address',
        'IP address the port listens on. 0.0.0.0 means every IPv4 address of the node, :: every address.',
        scope='node',
        restart=(WEB_CONNECTION_MANAGER,),
        section='Listeners',
        pattern=r'[0-9A-Fa-f.:]{2,45}',
    ),
    Param(
        'secure_mode',
        True,
        'Enable Web Client to IM/P Service Secure Mode',
        'Web clients use HTTPS with the certificate of the node. Switch it off only behind a proxy on the same '
        'machine: then the port speaks HTTP and clients can only sign in with SCRAM.',
        restart=(WEB_CONNECTION_MANAGER,),
        section='Listeners',
    ),
    Param(
        'bosh_path',
        '/httpbinding',
        'BOSH path',
        'Path of the address for BOSH clients.',
        restart=(WEB_CONNECTION_MANAGER,),
        section='Addresses',
        pattern=r'(/[A-Za-z0-9._~-]{1,64}){1,4}',
    ),
    Param(
        'websocket_path',
        '/websocket',
        'WebSocket path',
        'Path of the address for WebSocket clients.',
        restart=(WEB_CONNECTION_MANAGER,),
        section='Addresses',
        pattern=r'(/[A-Za-z0-9._~-]{1,64}){1,4}',
    ),
    Param(
        'public_url',
        '',
        'Public address',
        'What discovery tells clients when they reach the node by another address, for example '
        'https://im.example.com. Empty: the address and port of the node.',
        scope='node',
        section='Addresses',
        pattern=r'(https?://[A-Za-z0-9.:\[\]-]{1,255})?',
    ),
    Param(
        'allowed_origins',
        '',
        'Allowed origins',
        'Web sites whose pages may connect, separated by spaces, for example https://www.example.com. '
        'Pages of the node itself always may; * allows every site.',
        section='Addresses',
        pattern=r'(\*|https?://[A-Za-z0-9.:\[\]-]{1,255})?( (\*|https?://[A-Za-z0-9.:\[\]-]{1,255}))*',
    ),
    Param(
        'bosh_wait_s',
        60,
        'BOSH longest wait',
        'The longest a request waits for something to answer. Clients may ask for less.',
        low=5,
        high=600,
        unit='seconds',
        section='BOSH',
    ),
    Param(
        'bosh_hold',
        1,
        'BOSH requests on hold',
        'How many requests of one client may wait at the same time. Clients may ask for less.',
        low=1,
        high=5,
        section='BOSH',
    ),
    Param(
        'bosh_inactivity_s',
        60,
        'BOSH inactivity',
        'A session without a request for this time is over.',
        low=5,
        high=600,
        unit='seconds',
        section='BOSH',
    ),
    Param(
        'bosh_polling_s',
        2,
        'BOSH shortest polling interval',
        'A client that does not let requests wait and polls more often is disconnected.',
        low=0,
        high=60,
        unit='seconds',
        section='BOSH',
    ),
    Param(
        'bosh_pause_s',
        120,
        'BOSH longest pause',
        'For so long a client may announce to stay away.',
        low=5,
        high=3600,
        unit='seconds',
        section='BOSH',
    ),
    Param(
        'max_body_bytes',
        524288,
        'Maximum request size',
        'A larger HTTP request is refused.',
        low=10000,
        high=33554432,
        unit='bytes',
        section='Limits',
    ),
    *(param for param in CONNECTION_MANAGER_PARAMS if param.section == 'Limits'),
)
AUTHENTICATION_PARAMS = (
    Param(
        'failed_logins',
        5,
        'Failed sign-ins before delay',
        'After this many wrong passwords in a row for one user from one address, '
        'further attempts are refused for a while.',
        low=1,
        high=1000,
    ),
    Param(
        'failed_login_delay_s',
        60,
        'Delay after failed sign-ins',
        'How long further attempts are refused.',
        low=1,
        high=86400,
        unit='seconds',
    ),
    Param(
        'allow_plain',
        True,
        'Allow SASL PLAIN under TLS',
        'Clients that support SCRAM never send the password itself. PLAIN is never offered without TLS.',
    ),
)
FEDERATION_PARAMS = (
    Param(
        'server_port',
        5269,
        'XMPP server-to-server port',
        'Other servers connect here and secure the connection with STARTTLS.',
        low=1,
        high=65535,
        scope='node',
        restart=(FEDERATION_MANAGER,),
        section='Listeners',
    ),
    Param(
        'server_direct_tls_port',
        0,
        'XMPP server-to-server direct TLS port',
        'Other servers connect here with TLS from the first byte (XEP-0368); the usual port is 5270. 0 means none.',
        low=0,
        high=65535,
        scope='node',
        restart=(FEDERATION_MANAGER,),
        section='Listeners',
    ),
    Param(
        'server_bind_address',
        '127.0.0.1',
        'Listen address',
        'IP address the server-to-server port listens on. 0.0.0.0 means every IPv4 address of the node, :: every '
        'address.',
        scope='node',
        restart=(FEDERATION_MANAGER,),
        section='Listeners',
        pattern=r'[0-9A-Fa-f.:]{2,45}',
    ),
    Param(
        'dns_servers',
        '',
        'DNS servers',
        'Addresses of the name servers that find other servers, separated by commas, each with or without a port. '
        'Empty means those of the operating system.',
        scope='node',
        restart=(FEDERATION_MANAGER,),
        section='Connections to other servers',
        pattern=r'[0-9A-Fa-f.:\[\], ]{0,300}',
    ),
    Param(
        'system_trust',
        False,
        'Trust the certification authorities of the operating system',
        'When this is off, only certificates in the folder cup-xmpp-trust of the node are trusted.',
        restart=(FEDERATION_MANAGER,),
        section='Connections to other servers',
    ),
    Param(
        'bidirectional',
        True,
        'Use connections in both directions',
        'When the other server can do it as well, one connection carries the stanzas of both sides.',
        restart=(FEDERATION_MANAGER,),
        section='Connections to other servers',
    ),
    Param(
        'connect_timeout_s',
        30,
        'Connection time-out',
        'When another server has not accepted us after this time, the senders get an error.',
        low=1,
        high=600,
        unit='seconds',
        section='Connections to other servers',
    ),
    Param(
        'target_timeout_s',
        10,
        'Time-out of one host',
        'When one host of another domain does not answer in this time, the next one in DNS is tried.',
        low=1,
        high=120,
        unit='seconds',
        section='Connections to other servers',
    ),
    Param(
        'retry_first_s',
        5,
        'Shortest wait after a failure',
        'While it lasts, stanzas for that domain are refused at once. It doubles with every failure.',
        low=1,
        high=600,
        unit='seconds',
        section='Connections to other servers',
    ),
    Param(
        'retry_most_s',
        300,
        'Longest wait after a failure',
        'The wait after a failure does not become longer than this.',
        low=1,
        high=86400,
        unit='seconds',
        section='Connections to other servers',
    ),
    Param(
        'idle_timeout_s',
        900,
        'Idle time-out',
        'A connection on which no stanza travelled for so long is closed.',
        low=10,
        high=86400,
        unit='seconds',
        section='Connections to other servers',
    ),
    Param(
        'keepalive_s',
        240,
        'Keep-alive interval',
        'A space is sent on a connection on which nothing was sent for so long, so that firewalls keep it.',
        low=5,
        high=3600,
        unit='seconds',
        section='Connections to other servers',
    ),
    Param(
        'queue_stanzas',
        1000,
        'Maximum stanzas waiting for one domain',
        'Stanzas wait while a connection is made or the other server is slow. At the limit the senders get an error.',
        low=1,
        high=1000000,
        section='Limits',
    ),
    Param(
        'queue_bytes',
        4194304,
        'Maximum bytes waiting for one domain',
        'At the limit the senders get an error.',
        low=65536,
        high=1073741824,
        unit='bytes',
        section='Limits',
    ),
    Param(
        'queue_total_bytes',
        67108864,
        'Maximum bytes waiting for all domains',
        'At the limit the senders get an error.',
        low=1048576,
        high=17179869184,
        unit='bytes',
        section='Limits',
    ),
    Param(
        'links',
        10000,
        'Maximum remote domains',
        'Pairs of a domain here and a remote domain that are connected or tried at the same time.',
        low=10,
        high=1000000,
        section='Limits',
    ),
    Param(
        'verifications',
        20,
        'Maximum dialback requests for one domain',
        'Connections that claim the same domain and are being verified at the same time.',
        low=1,
        high=10000,
        section='Limits',
    ),
    Param(
        'server_connections_per_ip',
        200,
        'Maximum connections per IP address',
        'Further connections from the same address are closed at once.',
        low=1,
        high=1000000,
        section='Limits',
    ),
    Param(
        'server_preauth_bytes',
        16384,
        'Maximum bytes before authentication',
        'A server that sends more before a domain of it is verified is disconnected.',
        low=8192,
        high=262144,
        unit='bytes',
        section='Limits',
    ),
    Param(
        'server_preauth_elements',
        64,
        'Maximum elements before authentication',
        'A server that sends more XML elements before a domain of it is verified is disconnected.',
        low=8,
        high=1024,
        section='Limits',
    ),
    Param(
        'server_preauth_timeout_s',
        60,
        'Authentication time-out',
        'A server of which no domain is verified after this time is disconnected.',
        low=1,
        high=600,
        unit='seconds',
        section='Limits',
    ),
    Param(
        'server_max_stanza_bytes',
        524288,
        'Maximum stanza size',
        'A server that sends a larger stanza is disconnected with a policy violation.',
        low=10000,
        high=16777216,
        unit='bytes',
        section='Limits',
    ),
    Param(
        'domain_pairs',
        100,
        'Maximum domains on one connection',
        'Pairs of domains that another server may have verified on one connection.',
        low=1,
        high=10000,
        section='Limits',
    ),
)
DIRECTORY_PARAMS = (
    Param(
        'max_results',
        100,
        'Maximum number of search results',
        'When a search finds more users, the client gets the first ones and a note.',
        low=1,
        high=1000,
    ),
)
BULK_PROVISIONING_PARAMS = (
    Param(
        'contact_list_import_rate',
        0,
        'Contact List Import Rate (contacts per second)',
        '0 imports as fast as the nodes stay healthy. A higher rate costs CPU and memory.',
        low=0,
        high=500,
        unit='contacts per second',
    ),
    Param(
        'listed_rows',
        1_000_000,
        'Maximum number of rows listed per job',
        'Rows that were not imported are kept with their reasons up to this number; further ones are only counted.',
        low=1000,
        high=100_000_000,
    ),
)
SYNC_AGENT_PARAMS = (
    Param(
        'domain_audit_hour',
        1,
        'Hour of the nightly domain audit',
        'Hour of the day, local time, at which the list of IM address domains is rebuilt from the users.',
        low=0,
        high=23,
    ),
)
DATA_MONITOR_PARAMS = (
    Param(
        'release_timeout_s',
        1200,
        'Service start time-out',
        'How long the publisher holds its services back while the database is not ready.',
        low=10,
        high=86400,
        unit='seconds',
    ),
)

SERVICES: tuple[Service, ...] = (
    Service(CONFIG_AGENT, 'Cisco Config Agent', 'network', DB_SERVICES),
    Service(DATA_MONITOR, 'Cisco IM and Presence Data Monitor', 'network', DB_SERVICES, params=DATA_MONITOR_PARAMS),
    Service(
        XCP_ROUTER,
        'Cisco XCP Router',
        'network',
        IM_SERVICES,
        params=(*ROUTER_PARAMS, *STREAM_PARAMS, *PUBSUB_PARAMS, *PUSH_PARAMS),
    ),
    Service(SYNC_AGENT, 'Cisco Sync Agent', 'network', DB_SERVICES, params=SYNC_AGENT_PARAMS, publisher_only=True),
    Service(CLIENT_PROFILE_AGENT, 'Cisco Client Profile Agent', 'network', IM_SERVICES),
    Service(
        PRESENCE_ENGINE,
        'Cisco Presence Engine',
        'feature',
        IM_SERVICES,
        depends=(XCP_ROUTER,),
        params=PRESENCE_ENGINE_PARAMS,
    ),
    Service(
        AUTHENTICATION,
        'Cisco XCP Authentication Service',
        'feature',
        IM_SERVICES,
        depends=(XCP_ROUTER,),
        params=AUTHENTICATION_PARAMS,
    ),
    Service(
        CONNECTION_MANAGER,
        'Cisco XCP Connection Manager',
        'feature',
        IM_SERVICES,
        depends=(XCP_ROUTER,),
        params=CONNECTION_MANAGER_PARAMS,
    ),
    Service(
        WEB_CONNECTION_MANAGER,
        'Cisco XCP Web Connection Manager',
        'feature',
        IM_SERVICES,
        depends=(XCP_ROUTER,),
        params=WEB_CONNECTION_MANAGER_PARAMS,
        default_active=False,
    ),
    Service(
        FEDERATION_MANAGER,
        'Cisco XCP XMPP Federation Connection Manager',
        'feature',
        IM_SERVICES,
        depends=(XCP_ROUTER,),
        params=FEDERATION_PARAMS,
        default_active=False,
    ),
    Service(
        DIRECTORY,
        'Cisco XCP Directory Service',
        'feature',
        IM_SERVICES,
        depends=(XCP_ROUTER,),
        params=DIRECTORY_PARAMS,
        default_active=False,
    ),
    Service(
        BULK_PROVISIONING,
        'Cisco Bulk Provisioning Service',
        'feature',
        DB_SERVICES,
        params=BULK_PROVISIONING_PARAMS,
        publisher_only=True,
    ),
)
BY_KEY: dict[str, Service] = {service.key: service for service in SERVICES}

ENTERPRISE_PARAMS: tuple[Param, ...] = (
    Param(
        'cluster_id',
        'StandAloneCluster',
        'Cluster ID',
        'Name of this cluster, shown at the foot of every page.',
        pattern=r'[A-Za-z0-9.-]{1,50}',
        section='Enterprise Parameters Configuration',
    ),
    Param(
        'user_assignment_mode',
        'balanced',
        'User Assignment Mode for Presence Server',
        'How the Sync Agent spreads users over the nodes. Users already assigned do not move.',
        choices=(('balanced', 'Balanced'), ('active_standby', 'Active-Standby'), ('none', 'None')),
        section='User Management Parameters',
    ),
)


def dependents(key: str) -> tuple[str, ...]:
    """Keys of the services that stop when ``key`` stops, in start order (direct and indirect)."""
    found = {key}
    for service in SERVICES:
        if found.intersection(service.depends):
            found.add(service.key)
    found.discard(key)
    return tuple(service.key for service in SERVICES if service.key in found)


def parameter(service: str, name: str) -> Param:
    """The declaration of one service parameter. KeyError when there is none."""
    for param in BY_KEY[service].params:
        if param.name == name:
            return param
    raise KeyError(f'{service}.{name}')
