"""Keys of the named services: their stable names in data."""

from __future__ import annotations

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
UDS_TOMCAT = 'uds_tomcat'
CERTIFICATE_EXPIRY_MONITOR = 'certificate_expiry_monitor'
SIP_PROXY = 'sip_proxy'
SERVER_RECOVERY_MANAGER = 'server_recovery_manager'
INTERCLUSTER_SYNC_AGENT = 'intercluster_sync_agent'
DIRSYNC = 'dirsync'
TEXT_CONFERENCE_MANAGER = 'text_conference_manager'
