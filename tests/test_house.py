"""The house rules that tools can check: file length, lint, types, import contracts, migrations, honest proofs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 600
FEATURE_LONGEST = 400
TOOLS = Path(sys.executable).parent


def _tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '--', *patterns],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [path for name in listed.stdout.split('\n') if name and (path := ROOT / name).is_file()]


def _run(*command: str) -> None:
    done = subprocess.run(
        [str(TOOLS / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_is_too_long() -> None:
    found = []
    generated = ROOT / 'impadmin' / 'terms.py'
    for path in _tracked('*.py', '*.html', '*.js', '*.sh'):
        if path == generated:
            continue
        allowed = FEATURE_LONGEST if 'features' in path.parts else LONGEST
        length = path.read_text(encoding='utf-8').count('\n')
        if length > allowed:
            found.append(f'{path.relative_to(ROOT)}: {length} lines, at most {allowed}')
    assert not found


def test_no_drawer_for_everything() -> None:
    names = {'utils.py', 'helpers.py', 'misc.py', 'common.py'}
    assert not [path for path in _tracked('*.py') if path.name in names]


def test_lint() -> None:
    _run('ruff', 'check', '.')


def test_import_contracts() -> None:
    _run('lint-imports', '--no-cache')


def test_no_migration_is_missing(db: None) -> None:
    from django.core.management import call_command

    call_command('makemigrations', check=True, dry_run=True, verbosity=0)


def test_migrations_are_linear() -> None:
    from django.db.migrations.loader import MigrationLoader

    loader = MigrationLoader(None)
    apps = {app for app, _ in loader.disk_migrations}
    assert not loader.detect_conflicts()
    for app in apps:
        assert len(loader.graph.leaf_nodes(app)) == 1


def test_migrations_go_back_and_forth(db: None) -> None:
    """Every migration of ours can be undone and done again (the suite itself has begun from an empty database)."""
    from django.core.management import call_command
    from django.db.migrations.loader import MigrationLoader

    steps = {
        app: names
        for app in ('bulkadmin', 'messaging', 'presence', 'serviceability', 'system', 'ucm', 'console')
        if (names := sorted(name for label, name in MigrationLoader(None).disk_migrations if label == app))
    }
    for app, names in steps.items():
        if len(names) > 1:
            call_command('migrate', app, names[0], verbosity=0)
    call_command('migrate', verbosity=0)


def test_every_documented_variable_is_read_and_the_other_way_round() -> None:
    """docs/operate.md lists exactly the IMP_ variables that the product reads."""
    import re

    read: set[str] = set()
    for path in _tracked('impadmin/*.py', 'engine/*.py'):
        read |= set(re.findall(r"'(IMP_[A-Z_]+|DATABASE_URL|REDIS_URL)'", path.read_text(encoding='utf-8')))
    read.discard('IMP_TEST_DATABASE')
    documented = set(re.findall(r'`(IMP_[A-Z_]+|DATABASE_URL|REDIS_URL)`', (ROOT / 'docs/operate.md').read_text()))
    assert documented == read


@pytest.mark.parametrize('page', ['docs/adding-a-page.md', 'docs/adding-a-feature.md'])
def test_guides_fit_one_screen(page: str) -> None:
    assert (ROOT / page).read_text(encoding='utf-8').count('\n') <= 60


def test_list_of_standards_is_what_the_code_declares() -> None:
    """``python -m engine.standards`` was run after the last ``xep(...)`` was added."""
    from engine import standards
    from engine.contract.standards import STANDARDS

    declared = standards.declared()
    assert declared == STANDARDS
    assert standards.readme(declared) == standards.README.read_text(encoding='utf-8')


UNTRIED_PARAMETERS = {
    'node_link_queue_kb': 'back-pressure between nodes needs megabytes between two engines: tests/load/',
    'remote_probe_rate': 'a rate: only a test of speed would see it',
    'domain_audit_hour': 'the hour of the night in which an audit begins',
}
"""Service parameters that no test changes, and why."""


def test_every_service_parameter_is_tried_by_some_test() -> None:
    """A parameter that nobody ever changed may do nothing."""
    import re

    from engine.contract.services import SERVICES

    words: set[str] = set()
    for path in _tracked('tests/*.py'):
        if path != Path(__file__):
            words |= set(re.findall(r'\w+', path.read_text(encoding='utf-8')))
    names = {param.name for service in SERVICES for param in service.params}
    assert names - words == set(UNTRIED_PARAMETERS)
