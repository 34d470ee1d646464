"""``manage.py engine --node NAME``: one engine node. DATABASE_URL, REDIS_URL and IMP_VAR come from the environment."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from typing import Any

import structlog
import uvloop

EXIT_CODES = """exit codes: 0 stopped on request; 2 wrong command line; 3 the node is not configured;
4 the database has no tables; 5 another engine runs as this node; 6 the metrics port is in use"""


def main(arguments: list[str] | None = None) -> int:
    """Run one node until SIGTERM or SIGINT. Returns the exit code."""
    parser = argparse.ArgumentParser(prog='manage.py engine', description=__doc__, epilog=EXIT_CODES)
    parser.add_argument('--node', required=True, help='name of the node, as under System > Cluster Topology')
    parser.add_argument(
        '--metrics-port',
        type=int,
        default=int(os.environ.get('IMP_METRICS_PORT', '0')),
        help='port of the Prometheus endpoint on 127.0.0.1 (IMP_METRICS_PORT); 0 lets the system choose',
    )
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    configure_logging()
    return uvloop.run(_run(options.node, options.metrics_port))


def configure_logging() -> None:
    """structlog on stderr: JSON lines with IMP_LOG=json, else for people. IMP_LOG_LEVEL: debug, info, warning ..."""
    as_json = os.environ.get('IMP_LOG', 'console') == 'json'
    level = logging.getLevelNamesMapping().get(os.environ.get('IMP_LOG_LEVEL', 'info').upper(), logging.INFO)
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt='iso', utc=True),
    ]
    if as_json:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        processors.append(  # Plain tracebacks: no values of variables, which may be secrets.
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        )
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format='%(asctime)s %(levelname)s %(name)s %(message)s'
    )
    # The pool reports each failed attempt to connect; the node says once that the database is away.
    logging.getLogger('psycopg.pool').setLevel(logging.ERROR)


async def _run(name: str, metrics_port: int) -> int:
    from engine.control import Control
    from engine.node import Node, NotRunnable, environment

    log = structlog.get_logger('engine')
    node = Node(name, *environment(), metrics_port=metrics_port)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    stop = loop.create_task(stopping.wait())
    beginning = loop.create_task(node.begin())
    code = 0
    try:
        await asyncio.wait([beginning, stop], return_when=asyncio.FIRST_COMPLETED)
        if beginning.done():
            beginning.result()
            Control(node).start()
            tune_gc()
            lost = loop.create_task(node.lost())
            await asyncio.wait([stop, lost], return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                raise lost.result()
        log.info('the node stops', node=name)
    except NotRunnable as reason:
        log.error(str(reason))
        code = reason.code
    finally:
        beginning.cancel()
        await node.end()
    return code


def tune_gc() -> None:
    """What lives now lives for ever: take it out of the collector's sight, and let it run rarely. Sessions and stanzas
    are freed by reference counts; cycles are few."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


if __name__ == '__main__':
    raise SystemExit(main())
