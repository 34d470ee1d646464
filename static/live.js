/* live.js: keeps what carries data-live up to date over the WebSocket /ws/live/. Without it pages show the state at load.

   data-live="job:ID"            gets data-state, data-done, data-total; children [data-part=done|total|percent|state]
   data-live="service:NODE:KEY"  children [data-part=state]; data-state on the element
   data-live="node:NAME"         children [data-part=sessions]
   data-live="notifications"     is asked for again from data-refresh
   data-count-of="notifications|jobs" shows how many there are; data-jobs holds the numbers of the running jobs
   data-says="ID": the text of [data-say] in the new content is put into that live region when it differs
   data-reload on a job: nothing can be typed while it runs; the page is loaded again when it has ended
   data-with-state (with an id): replaced or removed, with the head of the page, when the state of a job changes;
   with the value "notifications" when a service changes or something is saved
   data-live may hold several, and all of a kind: "node:* job:*"
   data-refresh="URL" on any of them: the element's content is replaced by the answer instead (at most once a second;
   with data-every="S" at most every S seconds while only numbers move, that is for nodes and jobs)
   A page listens for the event "imp:live" (detail: the message) for anything else. */
(() => {
  'use strict';
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const STATES = {
    Running: 'ok', Starting: 'busy', Stopping: 'busy', Stopped: 'off', Failed: 'bad', 'Not Activated': 'off',
    processing: 'busy', completed: 'ok', incomplete: 'warn', failed: 'bad', pending: 'off', hold: 'off', cancelled: 'off',
  };
  let socket;
  let delay = 1000;
  let lostAt = 0;

  function part(element, name, text) {
    all(`[data-part="${name}"]`, element).forEach((node) => {
      node.textContent = text;
    });
  }
  function mark(element, state) {
    element.dataset.state = state;
    const shape = STATES[state];
    if (!shape) return;
    const owners = element.matches('.st') ? [element] : all('.st[data-part-mark]', element);
    owners.forEach((owner) => {
      owner.className = owner.className.replace(/\bst-\w+/g, '').trim() + ` st-${shape}`;
      const use = owner.querySelector('use');
      if (use) use.setAttribute('href', use.getAttribute('href').replace(/#s-\w+$/, `#s-${shape}`));
    });
  }

  // ---- counts beside the pinned pages
  function showCount(name, n) {
    all(`[data-count-of="${name}"]`).forEach((element) => {
      element.textContent = n ? n.toLocaleString(document.documentElement.lang) : '';
    });
  }
  function countJobs(message) {
    all('[data-jobs]').forEach((element) => {
      const running = new Set(element.dataset.jobs.split(' ').filter(Boolean));
      running[message.state === 'processing' ? 'add' : 'delete'](String(message.job));
      element.dataset.jobs = [...running].join(' ');
      showCount('jobs', running.size);
    });
  }

  // ---- what may be done depends on the state: buttons in the head of the page, and parts marked data-with-state
  let headTimer;
  function refreshHead() {
    clearTimeout(headTimer);
    headTimer = setTimeout(async () => {
      try {
        const answer = await fetch(location.href, { credentials: 'same-origin' });
        if (!answer.ok) return;
        const parsed = new DOMParser().parseFromString(await answer.text(), 'text/html');
        const head = parsed.querySelector('.page-head');
        if (head) document.querySelector('.page-head')?.replaceChildren(...head.childNodes);
        all('[data-with-state]').forEach((element) => {
          const now = parsed.getElementById(element.id);
          if (now) element.replaceChildren(...now.childNodes);
          else element.remove();
        });
        window.htmx?.process(document.querySelector('.page'));
      } catch { /* the stale mark tells */ }
    }, 300);
  }

  // what changed is said to those who do not see it, not more often than its text changes
  function say(element) {
    const text = element.querySelector('[data-say]')?.textContent;
    const region = document.getElementById(element.dataset.says);
    if (text && region && region.textContent !== text) region.textContent = text;
  }

  const waiting = new Map();
  const shownAt = new WeakMap();
  function refresh(element, soon = true) {
    const url = element.dataset.refresh;
    const every = (element.dataset.every || 0) * 1000;
    if (!url || waiting.has(element)) return;
    if (!soon && Date.now() - (shownAt.get(element) ?? performance.timeOrigin) < every) return;
    waiting.set(element, setTimeout(async () => {
      waiting.delete(element);
      shownAt.set(element, Date.now());
      const focused = element.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null;
      const open = element.querySelector('[popover]:popover-open')?.id;
      try {
        const answer = await fetch(url, { headers: { 'HX-Request': 'true' }, credentials: 'same-origin' });
        if (!answer.ok) return;
        const parsed = new DOMParser().parseFromString(await answer.text(), 'text/html');
        element.replaceChildren(...parsed.body.childNodes);
        window.htmx?.process(element);
        say(element);
        if (focused) element.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
        const count = element.querySelector('[data-count]');
        if (count) showCount('notifications', Number(count.dataset.count));
        if (open) document.getElementById(open)?.showPopover();
      } catch { /* the stale mark tells */ }
    }, 300));
  }

  function apply(message) {
    document.dispatchEvent(new CustomEvent('imp:live', { detail: message }));
    const key = {
      job: () => `job:${message.job}`,
      service: () => `service:${message.node}:${message.service}`,
      node: () => `node:${message.node}`,
      notifications: () => 'notifications',
    }[message.type]?.();
    if (!key) return;
    if (message.type === 'job') countJobs(message);
    const keys = [key, `${message.type}:*`];
    all('[data-live]').filter((element) => element.dataset.live.split(' ').some((one) => keys.includes(one))).forEach((element) => {
      if (element.dataset.refresh) {
        if (element.dataset.live === key && message.type === 'job' && element.dataset.state !== message.state) {
          element.dataset.state = message.state;
          const ended = ['completed', 'incomplete', 'failed', 'cancelled'].includes(message.state);
          if (ended && 'reload' in element.dataset) location.reload();
          else refreshHead();
        }
        refresh(element, message.type !== 'node' && message.type !== 'job');
        return;
      }
      if (message.type === 'job') {
        mark(element, message.state);
        element.dataset.done = message.done;
        element.dataset.total = message.total;
        part(element, 'done', message.done.toLocaleString(document.documentElement.lang));
        part(element, 'total', message.total.toLocaleString(document.documentElement.lang));
        part(element, 'percent', message.total ? Math.floor((100 * message.done) / message.total) : 0);
        all('progress', element).forEach((bar) => {
          bar.max = message.total || 1;
          bar.value = message.done;
        });
      } else if (message.type === 'service') {
        mark(element, message.state);
        part(element, 'state', message.state);
      } else if (message.type === 'node') {
        part(element, 'sessions', message.sessions.toLocaleString(document.documentElement.lang));
      }
    });
    if (message.type === 'service') all('[data-live="notifications"]').forEach(refresh);
    if (message.type === 'service' || message.type === 'notifications') {
      if (document.querySelector('[data-with-state="notifications"]')) refreshHead();
    }
  }

  let ticking;
  function stale(isStale) {
    all('.live').forEach((element) => {
      element.classList.toggle('is-stale', isStale);
      element.dataset.word ??= element.textContent;
      const seconds = Math.round((Date.now() - lostAt) / 1000);
      element.textContent = isStale ? document.body.dataset.stale.replace('%s', seconds) : element.dataset.word;
    });
    all('.alerts').forEach((element) => element.classList.toggle('is-stale', isStale));
    clearInterval(ticking);
    if (isStale) ticking = setInterval(() => stale(true), 5000);
  }

  function connect() {
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    socket = new WebSocket(`${scheme}//${location.host}/ws/live/`);
    socket.addEventListener('open', () => {
      delay = 1000;
      stale(false);
      // what happened since the page was made, or while the connection was away, is asked for, not guessed
      all('[data-live][data-refresh]').forEach(refresh);
      lostAt = 0;
    });
    socket.addEventListener('message', (event) => {
      try {
        apply(JSON.parse(event.data));
      } catch { /* not for this version of the page */ }
    });
    socket.addEventListener('close', () => {
      if (!lostAt) lostAt = Date.now();
      if (Date.now() - lostAt > 3000) stale(true);
      setTimeout(connect, delay);
      delay = Math.min(delay * 2, 30000);
    });
  }
  // a node that has gone says nothing: what shows its age is asked for by the clock, too
  setInterval(() => {
    if (!document.hidden) all('[data-every]').forEach((element) => refresh(element, false));
  }, 5000);
  addEventListener('DOMContentLoaded', connect);
})();
