"""Downloads of Certificate Management."""

from __future__ import annotations

import ssl

from django.http import HttpRequest, HttpResponse
from django.utils.http import content_disposition_header

from impadmin.osadmin.models import Certificate, Kind


def _file(data: bytes, name: str, kind: str) -> HttpResponse:
    answer = HttpResponse(data, content_type=kind)
    answer['Content-Disposition'] = content_disposition_header(True, name)
    return answer


def pem(request: HttpRequest, one: Certificate) -> HttpResponse:
    """The certificate (NAME.pem) or the request (NAME.csr)."""
    if one.kind == Kind.CSR:
        return _file(one.pem.encode(), f'{one.name}.csr', 'application/pkcs10')
    return _file(one.pem.encode(), f'{one.name}.pem', 'application/x-pem-file')


def der(request: HttpRequest, one: Certificate) -> HttpResponse:
    """The same in DER form."""
    body = ''.join(line for line in one.pem.splitlines() if '-----' not in line)
    framed = f'{ssl.PEM_HEADER}\n{body}\n{ssl.PEM_FOOTER}\n'
    ending, kind = ('csr.der', 'application/pkcs10') if one.kind == Kind.CSR else ('der', 'application/pkix-cert')
    return _file(ssl.PEM_cert_to_DER_cert(framed), f'{one.name}.{ending}', kind)


def chain(request: HttpRequest, one: Certificate) -> HttpResponse:
    """The certificate and the authorities between it and a trusted one."""
    return _file(f'{one.pem}{one.chain}'.encode(), f'{one.name}-chain.pem', 'application/x-pem-file')
