"""The named services of the Control Center: class, dependencies, parameters.

Only services that do their work are listed; those of later areas join when their work lands.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from engine.contract.component_params import COMPONENT_PARAMS
from engine.contract.connection_params import (
    AUTHENTICATION_PARAMS,
    CONNECTION_MANAGER_PARAMS,
    UDS_TOMCAT_PARAMS,
    WEB_CONNECTION_MANAGER_PARAMS,
)
from engine.contract.dirsync_params import DIRSYNC_PARAMS
from engine.contract.federation_params import FEDERATION_PARAMS
from engine.contract.message_params import MESSAGE_PARAMS
from engine.contract.node_params import NODE_PARAMS
from engine.contract.params import Param
from engine.contract.peer_params import INTERCLUSTER_SYNC_PARAMS
from engine.contract.pubsub_params import PUBSUB_PARAMS, PUSH_PARAMS
from engine.contract.recovery_params import RECOVERY_PARAMS
from engine.contract.service_keys import (
    AUTHENTICATION as AUTHENTICATION,
)
from engine.contract.service_keys import (
    BULK_PROVISIONING as BULK_PROVISIONING,
)
from engine.contract.service_keys import (
    CERTIFICATE_EXPIRY_MONITOR as CERTIFICATE_EXPIRY_MONITOR,
)
from engine.contract.service_keys import (
    CLIENT_PROFILE_AGENT as CLIENT_PROFILE_AGENT,
)
from engine.contract.service_keys import (
    CONFIG_AGENT as CONFIG_AGENT,
)
from engine.contract.service_keys import (
    CONNECTION_MANAGER as CONNECTION_MANAGER,
)
from engine.contract.service_keys import (
    DATA_MONITOR as DATA_MONITOR,
)
from engine.contract.service_keys import (
    DIRECTORY as DIRECTORY,
)
from engine.contract.service_keys import (
    DIRSYNC as DIRSYNC,
)
from engine.contract.service_keys import (
    FEDERATION_MANAGER as FEDERATION_MANAGER,
)
from engine.contract.service_keys import (
    INTERCLUSTER_SYNC_AGENT as INTERCLUSTER_SYNC_AGENT,
)
from engine.contract.service_keys import (
    PRESENCE_ENGINE as PRESENCE_ENGINE,
)
from engine.contract.service_keys import (
    SERVER_RECOVERY_MANAGER as SERVER_RECOVERY_MANAGER,
)
from engine.contract.service_keys import (
    SIP_PROXY as SIP_PROXY,
)
from engine.contract.service_keys import (
    SYNC_AGENT as SYNC_AGENT,
)
from engine.contract.service_keys import (
    TEXT_CONFERENCE_MANAGER as TEXT_CONFERENCE_MANAGER,
)
from engine.contract.service_keys import (
    UDS_TOMCAT as UDS_TOMCAT,
)
from engine.contract.service_keys import (
    WEB_CONNECTION_MANAGER as WEB_CONNECTION_MANAGER,
)
from engine.contract.service_keys import (
    XCP_ROUTER as XCP_ROUTER,
)
from engine.contract.sip_params import SIP_PROXY_PARAMS
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


IM_SERVICES = 'IM and Presence Services'
DB_SERVICES = 'Database and Admin Services'
PLATFORM_SERVICES = 'Platform Services'
DIRECTORY_SERVICES = 'Directory Services'

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
        'Elements a client may keep on the server for its user (XEP-0049). At the limit a new one is refused.',
        low=1,
        high=10000,
        section='Limits per user',
    ),
    *MESSAGE_PARAMS,
    *COMPONENT_PARAMS,
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
        SERVER_RECOVERY_MANAGER,
        'Cisco Server Recovery Manager',
        'network',
        IM_SERVICES,
        params=RECOVERY_PARAMS,
    ),
    Service(
        XCP_ROUTER,
        'Cisco XCP Router',
        'network',
        IM_SERVICES,
        params=(*ROUTER_PARAMS, *NODE_PARAMS, *STREAM_PARAMS, *PUBSUB_PARAMS, *PUSH_PARAMS),
    ),
    Service(SYNC_AGENT, 'Cisco Sync Agent', 'network', DB_SERVICES, params=SYNC_AGENT_PARAMS, publisher_only=True),
    Service(CLIENT_PROFILE_AGENT, 'Cisco Client Profile Agent', 'network', IM_SERVICES),
    Service(CERTIFICATE_EXPIRY_MONITOR, 'Cisco Certificate Expiry Monitor', 'network', PLATFORM_SERVICES),
    Service(
        INTERCLUSTER_SYNC_AGENT,
        'Cisco Intercluster Sync Agent',
        'network',
        IM_SERVICES,
        depends=(XCP_ROUTER,),
        params=INTERCLUSTER_SYNC_PARAMS,
    ),
    Service(
        PRESENCE_ENGINE,
        'Cisco Presence Engine',
        'feature',
        IM_SERVICES,
        depends=(XCP_ROUTER,),
        params=PRESENCE_ENGINE_PARAMS,
    ),
    Service(
        SIP_PROXY,
        'Cisco SIP Proxy',
        'feature',
        IM_SERVICES,
        depends=(XCP_ROUTER,),
        params=SIP_PROXY_PARAMS,
        default_active=False,
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
        TEXT_CONFERENCE_MANAGER,
        'Cisco XCP Text Conference Manager',
        'feature',
        IM_SERVICES,
        depends=(XCP_ROUTER,),
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
    Service(
        UDS_TOMCAT,
        'Cisco UDS Tomcat',
        'feature',
        DB_SERVICES,
        depends=(XCP_ROUTER,),
        params=UDS_TOMCAT_PARAMS,
        default_active=False,
    ),
    Service(
        DIRSYNC,
        'Cisco DirSync',
        'feature',
        DIRECTORY_SERVICES,
        params=DIRSYNC_PARAMS,
        publisher_only=True,
        default_active=False,
    ),
)
BY_KEY: dict[str, Service] = {service.key: service for service in SERVICES}

ENTERPRISE_PARAMS: tuple[Param, ...] = (
    Param(
        'cluster_id',
        'StandAloneCluster',
        'Cluster ID',
        'Name of this cluster: at the foot of every page, and in the primary aliases of chat rooms. 1 to 45 letters, '
        'digits, hyphens and dots.',
        pattern=r'(?!.{46})[A-Za-z0-9](-*[A-Za-z0-9])*(\.[A-Za-z0-9](-*[A-Za-z0-9])*)*',
        section='Enterprise Parameters Configuration',
    ),
    Param(
        'organization_domain',
        '',
        'Organization Top Level Domain',
        'The domain of the organization, for example example.com. IM and Presence takes it as its default domain when '
        'it is installed, and proposes it while the default domain is not set.',
        pattern=r'(?!.{256})([A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z0-9][A-Za-z0-9-]*)*)?',
        section='Clusterwide Domain Configuration',
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
