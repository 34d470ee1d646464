"""XEP-0060 publish-subscribe at ``pubsub.DOMAIN``, XEP-0163 at every account; one implementation for both.

``place`` who may do what where · ``requests`` dispatch · ``publishing`` ``reading`` ``subscribing`` ``owning`` the
actions · ``notify`` events · ``interests`` what clients want to hear (XEP-0115), ``abroad`` those elsewhere · ``pep``
and ``service`` the doors.
Decisions: docs/decisions/0013-pubsub.md.

Not offered, and said so by discovery and errors: collections, digests, multiple subscriptions of one address,
subscription leases, ad-hoc management of pending subscriptions (owners get the question as a message and see it in the
list of subscriptions).
"""

from engine.features.pubsub.pep import XEP as PERSONAL_EVENTING
from engine.features.pubsub.service import XEP as PUBLISH_SUBSCRIBE

__all__ = ['PERSONAL_EVENTING', 'PUBLISH_SUBSCRIBE']
