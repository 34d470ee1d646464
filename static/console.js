/* console.js: comfort only. Every page works without it. */
(() => {
  'use strict';
  const $ = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // ---- search palette: / or Ctrl K
  function openPalette() {
    const palette = $('palette');
    if (!palette) return;
    if (!palette.matches(':popover-open')) palette.showPopover();
    const input = palette.querySelector('input');
    input.focus();
    input.select();
    if (!$('hits').children.length) window.htmx?.trigger(input, 'load-hits');
  }
  function chooseHit(hit) {
    all('#hits .is-on').forEach((other) => {
      other.classList.remove('is-on');
      other.removeAttribute('aria-selected');
    });
    const input = document.querySelector('#palette input');
    input.setAttribute('aria-expanded', String(Boolean(document.querySelector('#hits a'))));
    input.setAttribute('aria-activedescendant', hit?.id ?? '');
    if (!hit) return;
    hit.classList.add('is-on');
    hit.setAttribute('aria-selected', 'true');
    hit.scrollIntoView({ block: 'nearest' });
  }
  function moveHit(step) {
    const hits = all('#hits a');
    const now = hits.findIndex((hit) => hit.classList.contains('is-on'));
    if (hits.length) chooseHit(hits[now < 0 && step < 0 ? hits.length - 1 : (now + step + hits.length) % hits.length]);
  }
  addEventListener('keydown', (event) => {
    // A slash may need Shift or AltGr; where text can be typed, and under an open dialog, it is just a slash.
    const typing = event.target.closest?.(
      'input:not([type=checkbox], [type=radio], [type=submit], [type=button]), textarea, select, [contenteditable], dialog',
    );
    const chord = !event.getModifierState('AltGraph') && (event.ctrlKey || event.metaKey || event.altKey);
    const slash = event.key === '/' && !typing && !chord && !event.isComposing;
    if (slash || (event.key.toLowerCase() === 'k' && (event.metaKey || event.ctrlKey))) {
      event.preventDefault();
      openPalette();
    } else if (event.target.closest?.('#palette')) {
      if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
        event.preventDefault();
        moveHit(event.key === 'ArrowDown' ? 1 : -1);
      } else if (event.key === 'Enter' && !event.isComposing) {
        const hit = document.querySelector('#hits a.is-on');
        if (hit) {
          event.preventDefault();
          hit.click();
        }
      }
    } else if (event.key === 'Escape' && event.target.closest?.('#preview')) {
      showPanel(false);
    } else if (event.key === 'Escape' && location.hash === '#nav') {
      location.hash = '';
      document.querySelector('.menu-btn')?.focus();
    }
  });

  // ---- forms: changed marks, undo, No Limit
  function isChanged(control) {
    const { initial } = control.dataset;
    if (control.type === 'checkbox') return (control.checked ? '1' : '') !== initial;
    return control.value !== initial;
  }
  const fieldChanged = (field) => all('[data-initial]', field).some((control) => !control.disabled && isChanged(control));
  function markField(field) {
    const changed = fieldChanged(field);
    field.classList.toggle('is-changed', changed);
    const was = field.querySelector('[data-was]');
    if (was) was.hidden = !changed;
  }
  function countChanges(form) {
    const bar = document.querySelector('[data-changed]');
    if (!bar) return;
    const n = all('.field.is-changed', form).length;
    bar.textContent = n === 0 ? bar.dataset.none : n === 1 ? bar.dataset.one : bar.dataset.many.replace('%s', n);
    bar.classList.toggle('muted', n === 0);
  }
  function noLimit(box) {
    const input = $(box.dataset.nolimit);
    if (input) input.disabled = box.checked;
  }
  function refreshForm(form) {
    all('[data-nolimit]', form).forEach(noLimit);
    all('.field', form).forEach(markField);
    countChanges(form);
  }
  addEventListener('input', (event) => {
    const field = event.target.closest?.('form[data-changes] .field');
    if (!field) return;
    if (event.target.dataset.nolimit) noLimit(event.target);
    const mine = field.querySelector('[data-mine]');
    if (mine && !event.target.closest('.pick')) mine.checked = true;
    markField(field);
    countChanges(field.closest('form'));
  });
  function undo(button) {
    const field = button.closest('.field');
    all('[data-initial]', field).forEach((control) => {
      const { initial } = control.dataset;
      if (control.type === 'checkbox') control.checked = initial === '1';
      else control.value = initial;
      if (control.dataset.nolimit) noLimit(control);
    });
    markField(field);
    countChanges(field.closest('form'));
    field.querySelector('[data-initial]')?.focus();
  }

  // ---- lists: selection; ticks the server does not know yet are sent before another page of the list is opened
  const rowBoxes = (form) => all('tbody .check .ck:not(:disabled)', form);
  function keepTicks(event, url) {
    const form = document.querySelector('.rows-form');
    if (!form || !rowBoxes(form).some((box) => box.checked !== box.defaultChecked)) return;
    event.preventDefault();
    const next = Object.assign(document.createElement('input'), { type: 'hidden', name: 'next', value: url });
    form.append(next);
    form.submit();
  }
  addEventListener('submit', (event) => {
    if (event.target.matches('.pager form, #cols form')) keepTicks(event, `?${new URLSearchParams(new FormData(event.target))}`);
  });
  function countSelected(form) {
    const text = form.querySelector('[data-selected]');
    if (!text) return;
    const boxes = rowBoxes(form);
    const n = boxes.filter((box) => box.checked).length;
    const total = n + Number(text.dataset.elsewhere);
    text.textContent = total === 1 ? text.dataset.one : text.dataset.many.replace('%s', total.toLocaleString(document.documentElement.lang));
    const head = form.querySelector('[data-check-all]');
    if (head) {
      head.checked = n > 0 && n === boxes.length;
      head.indeterminate = n > 0 && n < boxes.length;
      head.classList.toggle('is-some', head.indeterminate);
    }
    boxes.forEach((box) => box.closest('tr').setAttribute('aria-selected', box.checked));
  }
  addEventListener('change', (event) => {
    const target = event.target;
    if (target.matches?.('form[data-auto] select')) target.form.requestSubmit();
    const form = target.closest?.('.rows-form');
    if (!form) return;
    if (target.matches('[data-check-all]')) {
      all('tbody .check .ck:not(:disabled)', form).forEach((box) => {
        box.checked = target.checked;
      });
    }
    countSelected(form);
  });

  // ---- Do this by API: while it is open it follows what is typed; passwords are not sent for it
  let renewTimer;
  function renewExamples() {
    const list = $('by-api-list');
    if (list?.matches('[hx-post]') && list.closest('details').open) window.htmx?.trigger(list, 'renew');
  }
  addEventListener('toggle', (event) => { if (event.target.id === 'by-api') renewExamples(); }, true);
  addEventListener('input', (event) => {
    if (!event.target.closest?.('#form')) return;
    clearTimeout(renewTimer);
    renewTimer = setTimeout(renewExamples, 400);
  });
  addEventListener('htmx:configRequest', (event) => {
    if (event.detail.elt.id !== 'by-api-list') return;
    all('#form input[type=password]').forEach((input) => event.detail.formData.delete(input.name));
  });

  // ---- suggestions for reference fields
  let typingTimer;
  addEventListener('input', (event) => {
    const input = event.target;
    if (!input.dataset?.lookup) return;
    clearTimeout(typingTimer);
    typingTimer = setTimeout(async () => {
      const url = new URL(input.form.dataset.lookups + input.dataset.lookup + '/', location.href);
      url.searchParams.set('q', input.value);
      const answer = await fetch(url, { headers: { 'X-Requested-With': 'fetch' } });
      const list = $(input.getAttribute('list'));
      if (!answer.ok || !list) return;
      const parsed = new DOMParser().parseFromString(await answer.text(), 'text/html');
      list.replaceChildren(...parsed.querySelectorAll('option'));
    }, 150);
  });

  // ---- clicks
  const showCopy = () => { if (navigator.clipboard) all('[data-copy]').forEach((button) => { button.hidden = false; }); };
  showCopy();
  addEventListener('click', (event) => {
    const view = event.target.closest?.('.rows-form thead a, .pager a');
    if (view && !event.ctrlKey && !event.metaKey && !event.shiftKey) keepTicks(event, view.getAttribute('href'));
    const field = event.target.closest?.('#problems a[href^="#"]');
    if (field) $(field.hash.slice(1))?.focus();
    const target = event.target.closest?.('[data-palette], [data-undo], [data-close-dialog], [data-close-panel], [data-copy]');
    if (!target) return;
    if ('palette' in target.dataset) {
      event.preventDefault();
      openPalette();
    } else if ('undo' in target.dataset) {
      undo(target);
    } else if ('closeDialog' in target.dataset && target.closest('dialog')) {
      event.preventDefault();
      $('dialog').close();
    } else if ('copy' in target.dataset) {
      navigator.clipboard.writeText(target.nextElementSibling.textContent).then(() => { target.textContent = target.dataset.copy; });
    } else if ('closePanel' in target.dataset) {
      event.preventDefault();
      showPanel(false);
    }
  });

  // ---- dialog and panel filled by htmx
  function showPanel(open) {
    const frame = $('frame');
    if (!frame) return;
    frame.classList.toggle('with-panel', open);
    frame.classList.toggle('without-panel', !open);
    $('preview').hidden = !open;
    if (!open) document.querySelector('[hx-target="#preview"]')?.focus();
  }
  addEventListener('htmx:afterSwap', (event) => {
    if (event.detail.target.id === 'dialog') {
      const dialog = $('dialog');
      if (!dialog.open) dialog.showModal();
      (dialog.querySelector('[autofocus]') ?? dialog.querySelector('input:not([type=hidden]), select, textarea'))?.focus();
    }
    if (event.detail.target.id === 'hits') {
      chooseHit(document.querySelector('#palette input').value.trim() ? document.querySelector('#hits a') : null);
    }
    if (event.detail.target.id === 'by-api-list') showCopy();
    if (event.detail.target.id === 'preview') {
      showPanel(true);
      $('preview').querySelector('[data-close-panel]')?.focus();
    }
  });
  addEventListener('htmx:afterRequest', (event) => {
    if (event.detail.successful && event.detail.elt.matches?.('[data-popup]')) event.detail.elt.closest('.popup').remove();
  });
  // A part that cannot be loaded becomes the whole page: its message is written for people.
  addEventListener('htmx:responseError', (event) => {
    const note = document.createElement('div');
    note.className = 'note bad';
    note.setAttribute('role', 'alert');
    note.textContent = new DOMParser()
      .parseFromString(event.detail.xhr.responseText, 'text/html')
      .querySelector('h1')?.parentElement.textContent.trim() || `${event.detail.xhr.status}`;
    document.querySelector('.page')?.prepend(note);
  });

  addEventListener('DOMContentLoaded', () => {
    document.body.classList.remove('no-js');
    document.querySelector('form[data-sends]')?.submit();
    all('form[data-changes]').forEach(refreshForm);
    all('.rows-form').forEach(countSelected);
    if ($('problems')) {
      if (location.hash) history.replaceState(null, '', location.pathname + location.search); // else the focus goes there
      $('problems').focus();
    }
    const find = $('nav-find');
    find?.addEventListener('input', () => {
      const wanted = find.value.trim().toLowerCase();
      all('.nav details').forEach((menu) => {
        let any = false;
        all('a', menu).forEach((link) => {
          const hit = link.textContent.toLowerCase().includes(wanted);
          link.parentElement.hidden = !hit;
          any ||= hit;
        });
        all('.sub', menu).forEach((caption) => {
          caption.parentElement.hidden = !all('a', caption.parentElement).some((link) => !link.parentElement.hidden);
        });
        menu.hidden = !any;
        if (wanted) menu.open = any;
      });
    });
    document.querySelector('.nav [aria-current="page"]')?.scrollIntoView({ block: 'nearest' });
  });
})();
