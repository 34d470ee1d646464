"""Parameters of the services clients connect to: Connection Managers, Authentication Service, Cisco UDS Tomcat."""

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
from engine.contract.service_keys import CONNECTION_MANAGER, UDS_TOMCAT, WEB_CONNECTION_MANAGER

CONNECTION_MANAGER_PARAMS = (
    listen_port(
        'client_port',
        5222,
        'XMPP client access port',
        'Clients connect here and secure the connection with STARTTLS.',
        CONNECTION_MANAGER,
    ),
    listen_port(
        'direct_tls_port',
        5223,
        'XMPP direct TLS port',
        'Clients connect here with TLS from the first byte.',
        CONNECTION_MANAGER,
    ),
    listen_address(
        'IP address the client ports listen on. 0.0.0.0 means every IPv4 address of the node, :: every address.',
        CONNECTION_MANAGER,
    ),
    Param(
        'client_certificates',
        False,
        'Accept client certificates',
        'Users may sign in with a certificate instead of a password (SASL EXTERNAL): one that holds their IM address '
        'and comes from an authority in the trust store cup-xmpp-client-trust. A client that shows another certificate '
        'cannot connect.',
        restart=(CONNECTION_MANAGER,),
        section='Certificates',
    ),
    size_limit(
        'preauth_bytes',
        8192,
        'Maximum bytes before authentication',
        'A client that sends more before it has signed in is disconnected.',
        4096,
        65536,
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
    time_limit(
        'preauth_timeout_s',
        30,
        'Authentication time-out',
        'A client that has not signed in after this time is disconnected.',
    ),
    connection_limit('connections_per_ip', 1000),
    size_limit(
        'max_stanza_bytes',
        262144,
        'Maximum stanza size',
        'A client that sends a larger stanza is disconnected with a policy violation.',
        10000,
        16777216,
    ),
    Param(
        'reverse_lookup',
        False,
        'Log the host names of clients',
        'Each address is looked up in DNS (PTR) after the client has connected. No client waits for the answer; '
        'failures are logged and counted.',
        restart=(CONNECTION_MANAGER,),
        section='Host names of clients',
    ),
    name_servers('host names of clients', CONNECTION_MANAGER, 'Host names of clients'),
)
WEB_CONNECTION_MANAGER_PARAMS = (
    listen_port(
        'port',
        7335,
        'Web client port',
        'BOSH, WebSocket and discovery (host-meta) share this port.',
        WEB_CONNECTION_MANAGER,
    ),
    listen_address(
        'IP address the port listens on. 0.0.0.0 means every IPv4 address of the node, :: every address.',
        WEB_CONNECTION_MANAGER,
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
    size_limit('max_body_bytes', 524288, 'Maximum request size', 'A larger HTTP request is refused.', 10000, 33554432),
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
UDS_TOMCAT_PARAMS = (
    listen_port(
        'port',
        8443,
        'User Data Services port',
        'Clients read the data of their user here over HTTPS, with user ID and password.',
        UDS_TOMCAT,
    ),
    listen_address(
        'IP address the port listens on. 0.0.0.0 means every IPv4 address of the node, :: every address.',
        UDS_TOMCAT,
    ),
    connection_limit('connections_per_ip', 100),
    time_limit(
        'request_timeout_s',
        30,
        'Request time-out',
        'A connection without a request for so long is closed.',
    ),
)
