"""Fixtures of the whole suite. Everything runs on 127.0.0.1 against a temporary PostgreSQL and Redis of its own, or
those of DATABASE_URL and REDIS_URL (test database ``test_NAME``; the Redis database is emptied).

servers            PostgreSQL and Redis answer (session)
db                 an installed system: node ``imp1``, domain ``example.com``, product defaults. Rows are committed, so
                   real processes see them; they are removed after the test. ``@pytest.mark.django_db`` gives the same
make_user          ``make_user('alice', password=..., node=..., **fields)`` -> EndUser who can sign in
publish_configuration()  (tests.fixtures.data) after a test wrote configuration rows directly
api                ``api(role)``: DRF client in the test process, real token; '' is nobody
admin_client       ``admin_client(role)``: Django client in the test process, signed in
console_url        address of the real console (uvicorn); ``console`` is its handle
rest               ``rest(role)(method, path, body)``: REST over HTTP to the real console
engine             the real engine of node ``imp1``: host, port (STARTTLS), tls_port, metrics_port, kill9(), stop(),
                   restart(), wait_ready(), log(). ``make_engine(node)`` starts more
worker, beat       real Celery worker (bat, default) and beat: kill9(), restart(), log()
xmpp_client        ``xmpp_client('alice', resource=..., direct_tls=...)``: a signed-in slixmpp client at ``engine``, see
                   tests/xmppclient.py; disconnected after the test. ``xmpp`` is the same
browser_page       ``browser_page(role, language, scheme, width=..., script=...)``: Playwright page, signed in; the test
                   fails on console errors, CSP violations and requests to other hosts

Helpers: ``tests.fixtures.processes.wait_until(condition, what)``, ``free_port()``; ``tests.fixtures.tls.trusting()``;
``tests.fixtures.forking.manage(folder, 'createadmin', ...)``; ``tests.proves.proves``. A test of 20 s or more is marked
``@pytest.mark.long``: it begins first.
Console, worker and beat are kept for one module, engines for one test. A failed test shows the logs of the processes.
A test waits for conditions, with 40 s to come true (``wait_until``, ``client.expect``), never for a time that may do:
the machine is busy with two others. One that passes only when run again is named UNSTEADY, and mended (decision 0042).
"""

pytest_plugins = [
    'tests.fixtures.order',
    'tests.fixtures.again',
    'tests.fixtures.servers',
    'tests.fixtures.data',
    'tests.fixtures.processes',
    'tests.fixtures.nodes',
    'tests.fixtures.clients',
    'tests.fixtures.browser',
    'tests.fixtures.federation',
    'tests.fixtures.directory',
    'tests.fixtures.provider',
    'tests.conformance',
]
