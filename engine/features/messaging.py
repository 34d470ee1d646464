"""Specifications that the router itself implements: they declare here what they add to service discovery."""

from __future__ import annotations

from engine.features.registry import xep
from engine.xmpp import ns

FORMS = xep(4, '2.13.1', server=(ns.DATA_FORMS,))
FORM_TYPES = xep(68, '1.3.0')
TIMES = xep(82, '1.1.1')
OFFLINE = xep(160, '1.0.1', server=('msgoffline',))
DELAY = xep(203, '2.0', server=(ns.DELAY,))
ESCAPING = xep(106, '1.1', server=('jid\\20escaping',))
XHTML = xep(71, '1.5.4')
"""Between clients: the server passes it on untouched."""
HINTS = xep(334, '0.4.0', server=(ns.HINTS,))
PORTABLE = xep(227, '1.1')
"""manage.py imp_export_xep0227 and imp_import_xep0227 (impadmin/ucm/portable). Message archives, which a document may
hold (4.11), are left out."""
