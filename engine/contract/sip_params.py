"""Parameters of Cisco SIP Proxy (guide 1187, 3180, 11914, 12569)."""

from __future__ import annotations

from engine.contract.params import (
    Param,
    connection_limit,
    listen_address,
    listen_port,
    name_servers,
    size_limit,
    time_limit,
)
from engine.contract.service_keys import SIP_PROXY

_DOMAIN = r'([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?){0,30})?'

SIP_PROXY_PARAMS = (
    Param(
        'cucm_domain',
        '',
        'CUCM Domain',
        'The DNS domain of the Unified CM cluster: in its SIP addresses the user part is the user ID. Empty means the '
        'DNS domain of the publisher.',
        restart=(SIP_PROXY,),
        section='Domains',
        pattern=_DOMAIN,
    ),
    Param(
        'srv_cluster_name',
        '',
        'SRV Cluster Name',
        'The DNS SRV name of the SIP trunk on Unified CM, when it is not the default domain. SIP addresses with it are '
        'addresses of this cluster.',
        restart=(SIP_PROXY,),
        section='Domains',
        pattern=_DOMAIN,
    ),
    Param(
        'server_name',
        '',
        'Server Name (supplemental)',
        'Another name of this cluster in SIP addresses, besides the names and addresses of its nodes.',
        restart=(SIP_PROXY,),
        section='Domains',
        pattern=_DOMAIN,
    ),
    listen_port('port', 5060, 'SIP port', 'UDP and TCP, not encrypted.', SIP_PROXY),
    listen_port('tls_port', 5061, 'SIP TLS port', 'TLS with the certificate of the node.', SIP_PROXY),
    listen_port(
        'mutual_tls_port',
        5062,
        'SIP mutual TLS port',
        'TLS with certificates on both sides. A certificate of an authority in the trust store cup-trust speaks '
        'for the users whose addresses it holds.',
        SIP_PROXY,
    ),
    listen_address(
        'IP address the ports listen on. 0.0.0.0 means every IPv4 address of the node, :: every address.', SIP_PROXY
    ),
    Param(
        'udp_trusted',
        False,
        'Incoming ACL holds for UDP',
        'Anybody can write the address of another host into a UDP packet. Switch it on only where the network does not '
        'let such packets in.',
        restart=(SIP_PROXY,),
        section='Security',
    ),
    name_servers('the host names of the Incoming ACL', SIP_PROXY, 'Security'),
    Param(
        'registration_s',
        3600,
        'Longest registration',
        'A client that does not register again in this time is signed out.',
        low=60,
        high=86400,
        unit='seconds',
        section='Limits',
    ),
    Param(
        'subscriptions',
        500,
        'Maximum number of subscriptions per client',
        'SIP subscriptions one client can have. At the limit a new one is refused.',
        low=1,
        high=10000,
        section='Limits',
    ),
    connection_limit('connections_per_ip', 1000),
    Param(
        'persist_tcp',
        True,
        'Persist TCP Connections',
        'Connections stay open for further requests. Off: a TCP or TLS connection is closed when its requests are '
        'answered and no client is reached over it.',
        restart=(SIP_PROXY,),
        section='Limits',
    ),
    time_limit(
        'request_timeout_s',
        30,
        'Request time-out',
        'A connection on which a TLS handshake or a request takes longer is closed.',
    ),
    time_limit(
        'idle_timeout_s',
        600,
        'Idle time-out',
        'A connection without a registered client is closed after this time without a request.',
        high=86400,
    ),
    size_limit('max_body_bytes', 65536, 'Maximum body size', 'A request with a larger body is refused.', 1300, 1048576),
)
