"""Cisco UDS Tomcat: User Data Services. See docs/decisions for what it offers and why.

HTTPS only. ``/cucm-uds/version`` and ``/cucm-uds/servers`` are for everybody, ``clusterUser``, ``user/ID`` and what is
below it (``serviceProfile``, ``extensions``, ``devices``, ``device/NAME``) for the user with the password: the
resources that a client needs to find its servers, line and devices. ``PUT user/ID/device/NAME`` without a body adds a
device where the user profile lets users provision their own phones; nothing else is written.
"""

from engine.services.uds_tomcat.service import UdsTomcat

__all__ = ['UdsTomcat']
