"""What streams between servers implement, for the list of standards: XEP-0170 (order of stream features), XEP-0178
(SASL EXTERNAL, of clients too: engine/xmpp/sasl.py), XEP-0220 (dialback), XEP-0185 (its keys), XEP-0288 (both
directions on one connection), XEP-0344 (dialback without dialing back), XEP-0368 (direct TLS). The work is in
engine/xmpp/s2s*.py and services/federation_manager/.

Of the options of XEP-0220, several pairs of domains on one stream are accepted; our own streams carry one pair each. Of
the shortcuts of XEP-0344, a certificate that proves the domain answers a dialback request, checked when the request
comes (2.4); that of the same certificate (2.6) is not taken: the connection it needs carries the verification too."""

from __future__ import annotations

from engine.features.registry import xep

ORDER = xep(170, '1.1')
EXTERNAL = xep(178, '1.2')
KEYS = xep(185, '1.0')
DIALBACK = xep(220, '1.1.1')
BIDI = xep(288, '1.0.1')
WITHOUT_DIALING = xep(344, '0.3')
DIRECT_TLS = xep(368, '1.1.0')
