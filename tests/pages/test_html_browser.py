"""The machine of the console in a real Chromium: keyboard, accessibility, narrow screens, no script, live updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fixtures.data import PASSWORD, make_administrator
from tests.pages.test_looks import LIGHT, violations
from tests.proves import proves

SETTINGS = '/admin/presence/standard-configuration/'
USERS = '/ucm/ucm/end-users/'
DOMAINS = '/admin/presence/domains/'


def test_menu_of_a_phone(browser_page: Callable[..., Any]) -> None:
    page = browser_page(width=400)
    page.goto(USERS)
    page.click('.menu-btn')
    page.wait_for_selector('.nav a[aria-current=page]')
    page.keyboard.press('Escape')
    page.wait_for_selector('.nav', state='hidden')


def test_skip_link_leads_to_the_content(browser_page: Callable[..., Any]) -> None:
    page = browser_page()
    page.goto(SETTINGS)
    page.keyboard.press('Tab')
    assert page.evaluate('document.activeElement.className') == 'skip'
    page.keyboard.press('Enter')
    assert page.evaluate('document.activeElement.id') == 'main'
    page.keyboard.press('Tab')
    assert page.evaluate("document.activeElement.closest('#main') !== null")


def test_edit_marks_undo_preview_error_save(browser_page: Callable[..., Any]) -> None:
    page = browser_page()
    page.goto(SETTINGS)
    page.fill('#f-max_contacts', '150')
    field = page.locator('[data-field=max_contacts]')
    assert 'is-changed' in field.get_attribute('class')
    assert 'was 200' in field.inner_text()
    field.get_by_role('button', name='Undo').click()
    assert page.input_value('#f-max_contacts') == '200'
    page.check('#f-max_contacts-nolimit')
    assert page.is_disabled('#f-max_contacts')
    page.get_by_role('button', name='Preview impact').click()
    page.wait_for_selector('#preview ins:has-text("No Limit")')
    page.fill('#f-adhoc_ttl_s', '20')
    page.get_by_role('button', name='Save', exact=True).click()
    page.wait_for_selector('#f-adhoc_ttl_s-err')
    assert page.evaluate('document.activeElement.id') == 'problems'
    page.click('#problems a')
    assert page.input_value('#f-adhoc_ttl_s') == '20', 'the typed value is kept'
    page.fill('#f-adhoc_ttl_s', '60')
    page.get_by_role('button', name='Save', exact=True).click()
    page.wait_for_selector('.note:has-text("Standard Configuration was saved.")')
    assert page.is_checked('#f-max_contacts-nolimit')


def test_two_administrators_edit_the_same_page(browser_page: Callable[..., Any]) -> None:
    one, two = browser_page(), browser_page('administrator', 'en', 'dark')
    for page in (one, two):
        page.goto(SETTINGS)
    one.fill('#f-max_contacts', '150')
    one.get_by_role('button', name='Save', exact=True).click()
    one.wait_for_selector('.note:has-text("was saved")')
    two.fill('#f-max_watchers', '99')
    two.get_by_role('button', name='Save', exact=True).click()
    two.wait_for_selector('.note.warn:has-text("Not saved: test-administrator changed this in the meantime")')
    assert two.input_value('#f-max_watchers') == '99'
    assert 'Saved by test-administrator: 150' in two.locator('[data-field=max_contacts]').inner_text()
    two.get_by_role('button', name='Save', exact=True).click()
    two.wait_for_selector('.note:has-text("was saved")')
    assert (two.input_value('#f-max_contacts'), two.input_value('#f-max_watchers')) == ('150', '99'), 'both are saved'


def test_find_select_and_delete_by_keyboard(browser_page: Callable[..., Any], make_user: Callable[..., Any]) -> None:
    for name in ('anna', 'anton', 'bert'):
        make_user(name)
    page = browser_page()
    page.goto(USERS)
    page.fill('#find input[name=v]', 'an')
    page.keyboard.press('Enter')
    page.wait_for_url('**v=an**')
    assert page.locator('tbody tr').count() == 2
    page.select_option('#find-f0', 'last_name')
    page.wait_for_load_state('networkidle')
    assert page.input_value('#find-f0') == 'last_name'
    page.focus('tbody .ck >> nth=0')
    page.keyboard.press('Space')
    assert page.inner_text('[data-selected]') == '1 selected'
    page.get_by_role('button', name='Delete Selected').focus()
    page.keyboard.press('Enter')
    page.wait_for_selector('dialog[open]:has-text("Delete anna?")')
    assert page.evaluate('document.activeElement.textContent') == 'Cancel', 'the first focus is on Cancel'
    assert not violations(page, LIGHT)
    for _ in range(4):
        page.keyboard.press('Tab')
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.keyboard.press('Escape')
    page.wait_for_selector('dialog', state='hidden')
    assert page.evaluate('document.activeElement.textContent') == 'Delete Selected', 'the focus is where it was'
    page.get_by_role('button', name='Delete Selected').click()
    page.get_by_role('button', name='Delete anna').click()
    page.wait_for_selector('.note:has-text("anna was deleted.")')
    assert page.locator('tbody tr').count() == 1


def focused(page: Any) -> str:
    """What has the focus: its id, name or text."""
    return str(page.evaluate('(e => e.id || e.name || e.textContent.trim())(document.activeElement)'))


def tab_to(page: Any, wanted: str, most: int = 60) -> None:
    """Press Tab until the control with this id, name or text has the focus; its outline is seen on the way."""
    for _ in range(most):
        page.keyboard.press('Tab')
        seen = page.evaluate("""() => { const e = document.activeElement, ring = getComputedStyle(e);
            const around = e.closest('header')?.matches('.palette *') || ring.outlineStyle !== 'none';
            const box = e.getBoundingClientRect(), top = document.elementFromPoint(box.x + box.width / 2, box.y + 2);
            const covered = top?.closest('.savebar') && !e.closest('.savebar');
            return (around ? '' : 'no ring ') + (covered ? 'below the save bar' : ''); }""")
        assert not seen, f'{focused(page)}: {seen}'
        if focused(page) == wanted:
            return
    raise AssertionError(f'Tab does not reach {wanted}')


def test_a_setting_is_changed_by_keyboard(browser_page: Callable[..., Any]) -> None:
    """Tab through the form, preview and back, a wrong value, its link, save: the focus is seen and never lost."""
    page = browser_page(height=700)
    page.goto(SETTINGS)
    page.focus('#main')
    tab_to(page, 'f-max_contacts')
    page.keyboard.press('Control+a')
    page.keyboard.type('150')
    tab_to(page, 'f-adhoc_ttl_s')
    page.keyboard.press('Control+a')
    page.keyboard.type('20')
    tab_to(page, 'preview')
    page.keyboard.press('Enter')
    page.wait_for_selector('#preview:not([hidden]) *')
    page.wait_for_function("document.activeElement.matches('[data-close-panel]')")
    page.keyboard.press('Escape')
    page.wait_for_selector('#preview', state='hidden')
    assert focused(page) == 'preview', 'the focus is where it was'
    tab_to(page, 'Save')
    page.keyboard.press('Enter')
    page.wait_for_selector('#f-adhoc_ttl_s-err')
    assert focused(page) == 'problems'
    page.keyboard.press('Tab')
    page.keyboard.press('Enter')
    assert focused(page) == 'f-adhoc_ttl_s', 'the link of an error leads into its field'
    page.keyboard.press('Control+a')
    page.keyboard.type('60')
    page.keyboard.press('Enter')
    page.wait_for_selector('.note:has-text("was saved")')
    page.keyboard.press('Control+k')
    page.wait_for_selector('#hits a')
    page.keyboard.press('Escape')
    page.wait_for_selector('#palette', state='hidden')


def test_search_with_slash(browser_page: Callable[..., Any], make_user: Callable[..., Any]) -> None:
    make_user('haruka')
    page = browser_page()
    page.keyboard.press('/')
    page.wait_for_selector('#hits a')
    page.keyboard.type('watchers')
    page.wait_for_selector('#hits a:has-text("Maximum Watchers (per user)")')
    assert not violations(page, LIGHT)
    chosen = page.get_attribute('#palette input', 'aria-activedescendant')
    assert page.locator('#hits [role=option]').first.get_attribute('id') == chosen
    page.keyboard.press('ArrowUp')
    last = page.get_attribute('#palette input', 'aria-activedescendant')
    assert page.locator('#hits [role=option]').last.get_attribute('id') == last, 'from the first to the last group'
    page.keyboard.press('ArrowDown')
    page.keyboard.press('Enter')
    page.wait_for_url('**#f-max_watchers')
    page.keyboard.press('Control+k')
    page.keyboard.type('haruka')
    page.click('#hits a:has-text("haruka")')
    page.wait_for_selector('h1:has-text("haruka")')


def test_slash_of_any_keyboard_but_not_while_typing(browser_page: Callable[..., Any]) -> None:
    page = browser_page()
    page.goto(SETTINGS)
    press = "(node, init) => node.dispatchEvent(new KeyboardEvent('keydown', {key: '/', bubbles: true, ...init}))"
    palette = page.locator('#palette')
    page.focus('#f-max_contacts')
    page.keyboard.press('/')
    page.locator('body').evaluate(press, {'ctrlKey': True})
    assert not palette.is_visible()
    page.locator('#f-availability_sharing').evaluate(press, {'shiftKey': True})
    assert palette.is_visible(), 'Shift, and the focus on a box'
    page.keyboard.press('Escape')
    assert not palette.is_visible()
    page.locator('body').evaluate(press, {'ctrlKey': True, 'altKey': True, 'modifierAltGraph': True})
    assert palette.is_visible(), 'AltGr'


def test_everything_works_without_script(browser_page: Callable[..., Any], make_user: Callable[..., Any]) -> None:
    """Sign in, find, add, edit, save, run a command, edit in bulk, import, delete, search, help, sign out."""
    for name in ('anna', 'anton'):
        make_user(name)
    make_administrator('administrator')
    page = browser_page('', script=False)
    page.fill('input[name=username]', 'test-administrator')
    page.fill('input[name=password]', PASSWORD)
    page.click('main .btn-primary')
    page.wait_for_url(lambda url: '/login/' not in url)
    page.goto(SETTINGS)
    page.fill('#f-max_contacts', '150')
    page.get_by_role('button', name='Preview impact').click()
    assert '150' in page.inner_text('#preview')
    page.fill('#f-adhoc_ttl_s', '20')
    page.get_by_role('button', name='Save', exact=True).click()
    page.click('.err a')
    page.wait_for_url('**/help/#adhoc_ttl_s')
    page.goto(SETTINGS)
    page.fill('#f-adhoc_ttl_s', '60')
    page.get_by_role('button', name='Save', exact=True).click()
    assert 'was saved' in page.inner_text('.note')
    page.goto(DOMAINS)
    page.click('text=Add New')
    page.fill('#f-name', 'sales.example.com')
    page.get_by_role('button', name='Save', exact=True).click()
    assert 'was added' in page.inner_text('.note')
    page.fill('#f-name', 'shop.example.com')
    page.get_by_role('button', name='Save', exact=True).click()
    assert 'was saved' in page.inner_text('.note')
    page.click('.search-box')
    page.fill('#q', 'domains')
    page.keyboard.press('Enter')
    page.locator('.results a').filter(has_text='Domains').first.click()
    page.wait_for_url(f'**{DOMAINS}')
    page.get_by_role('link', name='Run audit now').click()
    page.get_by_role('button', name='Run audit now').click()
    page.wait_for_selector('.note')
    page.get_by_role('button', name='Add condition').click()
    assert page.locator('.find-line').count() == 2
    page.goto(f'{USERS}?clear=1')
    for user in ('anna', 'anton'):
        page.locator('tbody tr').filter(has_text=user).locator('.ck').check()
    page.get_by_role('button', name='Bulk Edit').click()
    page.check('[name=set][value=department]')
    page.fill('#f-department', 'Legal')
    page.get_by_role('button', name='Preview impact').click()
    page.get_by_role('button', name='Change 2 entries').click()
    assert department_of('anna') == department_of('anton') == 'Legal'
    page.goto(f'{USERS}import/')
    page.set_input_files(
        '[name=file]', {'name': 'users.csv', 'mimeType': 'text/csv', 'buffer': b'user_id,last_name\nbert,Bauer\n'}
    )
    page.get_by_role('button', name='Upload and check').click()
    page.get_by_role('button', name='Import 1 row').click()
    assert '1 row was imported' in page.inner_text('main')
    page.goto(DOMAINS)
    page.locator('tbody tr').filter(has_text='shop').locator('.ck').check()
    page.get_by_role('button', name='Delete Selected').click()
    page.get_by_role('button', name='Delete shop.example.com').click()
    assert 'shop.example.com was deleted.' in page.inner_text('.note')
    page.click('[popovertarget=user]')
    page.get_by_role('button', name='Sign out').click()
    page.wait_for_url('**/login/')


def test_theme_and_language_of_the_popover(browser_page: Callable[..., Any]) -> None:
    page = browser_page()
    page.click('[popovertarget=theme]')
    page.get_by_role('button', name='Dark').click()
    page.wait_for_selector('html[data-theme=dark]')
    assert page.evaluate('getComputedStyle(document.body).colorScheme') == 'dark'
    page.click('[popovertarget=theme]')
    page.get_by_role('button', name='日本語').click()
    page.wait_for_selector('html[lang=ja]')


@proves('RST-01', 'RST-02')
def test_notifications_appear_live_and_clear(browser_page: Callable[..., Any], engine: Any) -> None:
    """A save that needs a restart: message, summary at the top right of another open page, pop-up, dismissal."""
    watching = browser_page()
    watching.goto(USERS)
    watching.wait_for_selector('.alerts[data-count="0"]')
    page = browser_page()
    page.goto('/admin/messaging/messaging-settings/')
    page.uncheck('#f-im_enabled')
    page.get_by_role('button', name='Save', exact=True).click()
    note = page.wait_for_selector('.note.warn:has-text("takes effect after a restart of: Cisco XCP Router")')
    assert note.query_selector('a:has-text("Open the Control Center")')
    watching.wait_for_selector('.alerts[data-count="1"]')
    watching.wait_for_selector('.popup:has-text("Cisco XCP Router")')
    watching.click('.alerts')
    watching.wait_for_selector('#notif:has-text("Enable instant messaging")')
    watching.keyboard.press('Escape')
    watching.click('.popup button')
    watching.wait_for_selector('.popup', state='detached')
    watching.goto(SETTINGS)
    assert watching.locator('.popup').count() == 0, 'dismissed for this session'
    assert watching.locator('.alerts[data-count="1"]').count() == 1, 'but still in the summary'


def test_lost_live_connection_is_said(browser_page: Callable[..., Any], console: Any) -> None:
    page = browser_page()
    page.allowed_errors += ['WebSocket', 'Failed to load resource', 'ERR_']
    page.goto('/admin/system/notifications/')
    page.wait_for_selector('.page .live:not(.is-stale)')
    console.stop()
    page.wait_for_selector('.page .live.is-stale:has-text("No live data for")')
    console.restart()
    page.wait_for_selector('.page .live:not(.is-stale):has-text("Live")', timeout=40_000)


def test_rows_of_two_pages_are_deleted_together(
    browser_page: Callable[..., Any], make_user: Callable[..., Any]
) -> None:
    """Ticks survive Next and sorting with scripts (sent on the way) and without them (kept by a button)."""
    users = {make_user(f'person{n:02}').user_id for n in range(25)}
    page = browser_page()
    page.goto(f'{USERS}?clear=1&rows=20&sort=user_id')
    page.check('text=person03 >> xpath=ancestor::tr >> .ck')
    page.get_by_role('link', name='Next').click()
    page.wait_for_selector('tbody >> text=person20')
    assert page.inner_text('[data-selected]') == '1 selected'
    page.check('text=person21 >> xpath=ancestor::tr >> .ck')
    assert page.inner_text('[data-selected]') == '2 selected'
    page.get_by_role('link', name='User ID').click()
    page.wait_for_selector('th[aria-sort=descending]')
    page.get_by_role('button', name='Delete Selected').click()
    page.wait_for_selector('dialog[open] >> text=person03')
    page.get_by_role('button', name='Delete 2 End Users').click()
    page.wait_for_selector('text=2 entries were deleted.')
    assert named_users() == users - {'person03', 'person21'}
    plain = browser_page(script=False)
    plain.goto(f'{USERS}?clear=1&rows=20&sort=user_id')
    plain.check('text=person04 >> xpath=ancestor::tr >> .ck')
    plain.get_by_role('button', name='Keep while paging').click()
    plain.get_by_role('link', name='Next').click()
    plain.check('text=person22 >> xpath=ancestor::tr >> .ck')
    plain.get_by_role('button', name='Delete Selected').click()
    plain.get_by_role('button', name='Delete 2 End Users').click()
    plain.wait_for_selector('text=2 entries were deleted.')
    assert named_users() == users - {'person03', 'person21', 'person04', 'person22'}


def test_a_list_goes_through_a_file_and_back(
    browser_page: Callable[..., Any], make_user: Callable[..., Any], tmp_path: Any
) -> None:
    """Export, change a cell, import: dry run, then the change, through the real console and its streamed download."""
    make_user('carla', department='Sales')
    make_user('deng', department='Sales')
    page = browser_page()
    page.goto(f'{USERS}?clear=1')
    page.get_by_role('link', name='Export').click()
    page.wait_for_selector('[name=column]')
    with page.expect_download() as download:
        page.get_by_role('button', name='Export').click()
    file = tmp_path / 'users.csv'
    file.write_text(download.value.path().read_text().replace('Sales', 'Support', 1))
    page.goto(f'{USERS}import/')
    page.set_input_files('[name=file]', file)
    page.get_by_role('button', name='Upload and check').click()
    page.wait_for_selector('text=Department: Sales → Support')
    assert department_of('carla') == 'Sales'
    page.get_by_role('button', name='Import 2 rows').click()
    page.wait_for_selector('text=1 row was imported.')
    assert department_of('carla') == 'Support'


def named_users() -> set[str]:
    """User IDs as the database has them now."""
    from impadmin.ucm.models import EndUser

    return set(EndUser.objects.values_list('user_id', flat=True))


def department_of(user_id: str) -> str:
    """The department of a user as the database has it now."""
    from impadmin.ucm.models import EndUser

    return EndUser.objects.get(user_id=user_id).department
