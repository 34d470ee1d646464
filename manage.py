#!/usr/bin/env python
"""Command line of the console; ``manage.py engine --node NAME`` runs one engine node (no Django in it)."""

import os
import sys


def main() -> None:
    """Run the command named on the command line."""
    if sys.argv[1:2] == ['engine']:
        from engine.__main__ import main as engine_main

        raise SystemExit(engine_main(sys.argv[2:]))
    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'impadmin.settings')
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == '__main__':
    main()
