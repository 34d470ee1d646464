"""A schemathesis check: what the document promises of an answer holds for every other role, too.

The first example of each operation is sent again with each token of IMP_TOKENS, so the roles share the examples.
"""

from __future__ import annotations

import os

import schemathesis
from schemathesis import Case, CheckContext, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

PROMISES = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
TOKENS = os.environ['IMP_TOKENS'].split(',')
seen: set[str] = set()


@schemathesis.check
def holds_for_every_role(context: CheckContext, response: Response, case: Case) -> None:
    """Send it once more as each of the others."""
    if case.operation.label in seen:
        return
    seen.add(case.operation.label)
    for token in TOKENS:
        answer = case.call(headers={'Authorization': f'Bearer {token}'})
        for promise in PROMISES:
            promise(context, answer, case)
