"""The size bar: an ordinary page costs at most 60 lines: its model, its rules and its declaration."""

from __future__ import annotations

import ast
import inspect
import sys
from types import FunctionType
from typing import Any

import pytest

from impadmin.console import registry
from impadmin.console.page import Page, SettingsPage

MOST = 60
WAITING = ('presence-gateways',)
"""The pages that wait for their services."""
ORDINARY = (
    *WAITING, 'group-chat-administrators', 'group-chat-administrator-settings', 'incoming-acls', 'uc-services',
    'service-profiles', 'feature-group-templates', 'user-profiles',
)  # fmt: skip
"""Pages like most of those to come: a handful of fields, some rules."""


def lines(thing: Any) -> int:
    """Lines of a class or function."""
    return len(inspect.getsource(thing).rstrip().splitlines())


def declaration(page: Page | SettingsPage) -> int:
    """Lines of the statement ``NAME = Page(...)``, wherever it stands."""
    modules = [module for name, module in sys.modules.items() if name.startswith('impadmin.')]
    for module in modules:
        for name, value in vars(module).items():
            if value is page:
                for node in ast.parse(inspect.getsource(module)).body:
                    if isinstance(node, ast.Assign) and any(getattr(t, 'id', '') == name for t in node.targets):
                        return (node.end_lineno or 0) - node.lineno + 1
    raise AssertionError(f'{page.name} is declared nowhere')


def cost(page: Page | SettingsPage) -> int:
    """Lines of model, declaration and rules."""
    rules = [rule for rule in page.rules if isinstance(rule, FunctionType)]
    return lines(page.model) + declaration(page) + sum(lines(rule) for rule in rules)


@pytest.mark.parametrize('name', ORDINARY)
def test_a_page_costs_at_most_sixty_lines(name: str) -> None:
    page = registry.page(name)
    assert isinstance(page, Page | SettingsPage)
    assert cost(page) <= MOST


@pytest.mark.parametrize('name', WAITING)
def test_a_page_that_waits_cannot_be_mistaken_for_working(name: str, admin_client: Any, api: Any) -> None:
    """It says so, and it is in no menu, search, start page or export."""
    page = registry.page(name)
    client = admin_client('administrator')
    shown = client.get(registry.page_url(page)).content.decode()
    assert 'Nothing obeys this page yet' in shown
    assert str(page.waits_for) in shown
    address = f'href="{registry.page_url(page)}"'
    assert address not in client.get('/admin/presence/domains/').content.decode()
    assert address not in client.get('/search/', {'q': str(page.title)}).content.decode()
    from impadmin.console import configuration
    from impadmin.console.actions import SYSTEM

    document = configuration.export(SYSTEM)
    assert name not in document['lists']
    assert name not in document['settings']
