"""Cisco UDS Tomcat: User Data Services. See docs/decisions for what it offers and why.

Read only, HTTPS only. ``/cucm-uds/version`` and ``/cucm-uds/servers`` are for everybody, ``clusterUser``, ``user/ID``
and ``user/ID/serviceProfile`` for the user with the password: the resources that a client needs to find its servers.
"""

from engine.services.uds_tomcat.service import UdsTomcat

__all__ = ['UdsTomcat']
