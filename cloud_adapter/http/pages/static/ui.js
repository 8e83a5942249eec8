// Keeps the page of an instance up to date, and sends its forms without leaving it. The page works without this file.
//
// Parts that only show something are replaced as a whole. A form is never replaced while somebody uses it: one that is
// no longer accepted is marked if something was typed in it, and taken away if not.
"use strict";

(() => {
  const page = document.getElementById("instance");
  if (!page) return;

  const FAST_MS = 1000;
  const SLOW_MS = 5000;
  const ENDED_MS = 15000;
  const AFRESH_MS = 30000; // so often "5 minutes ago" is told anew
  const JSON_TYPE = "application/json";

  let version = page.dataset.version;
  let delay = FAST_MS;
  let timer = 0;
  let afresh = Date.now();
  let asked = 0; // counts requests, so that an old answer does not undo a newer one
  let applied = 0;
  const shown = {};

  // --- following ---------------------------------------------------------------------------

  async function follow() {
    const number = ++asked;
    const query = Date.now() - afresh > AFRESH_MS ? "" : `?version=${encodeURIComponent(version)}`;
    try {
      const response = await fetch(page.dataset.path + query, { headers: { Accept: JSON_TYPE }, cache: "no-store" });
      if (response.status === 200) {
        apply(await response.json(), number);
        say("");
      } else if (response.status === 204) {
        delay = Math.min(delay * 1.3, SLOW_MS);
        say("");
      } else {
        const problem = await response.json();
        delay = SLOW_MS;
        say(`This page may be out of date. ${problem.detail}`);
      }
    } catch {
      delay = SLOW_MS;
      say("The service cannot be reached, so this page may be out of date. What you have typed stays.");
    }
    schedule();
  }

  function schedule() {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(follow, delay);
  }

  function say(text) {
    const note = document.getElementById("connection");
    if (note.textContent === text) return;
    note.textContent = text;
    note.hidden = !text;
  }

  // Shows a state; says whether it did, as one that was asked for later may be shown already.
  function apply(state, number) {
    if (number < applied) return false;
    applied = number;
    if (state.version !== version) delay = FAST_MS;
    if (state.ended) delay = ENDED_MS;
    version = state.version;
    afresh = Date.now();
    document.title = `${state.title} · gorchestrate`;
    for (const [name, html] of Object.entries(state.parts)) replace(name, html);
    arrange(document.getElementById("events"), state.events);
    arrange(document.getElementById("operations"), state.operations);
    return true;
  }

  function replace(name, html) {
    if (shown[name] === html) return;
    const part = document.getElementById(`part-${name}`);
    const selection = document.getSelection();
    if (!selection.isCollapsed && part.contains(selection.anchorNode)) return; // somebody is about to copy it
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    const open = [...part.querySelectorAll("details[open] > summary")].map((one) => one.id);
    part.innerHTML = html;
    for (const id of open) document.getElementById(id)?.parentElement.setAttribute("open", "");
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    shown[name] = html;
  }

  // --- forms -------------------------------------------------------------------------------

  function arrange(container, cards) {
    const wanted = new Set(cards.map((one) => one.id));
    for (const card of [...container.children]) {
      if (wanted.has(card.id)) continue;
      if (isUsed(card)) mark(card, true);
      else card.remove();
    }
    let last = null;
    for (const { id, wait_id, html } of cards) {
      let card = document.getElementById(id);
      if (card) {
        const wait = card.querySelector("input[name=wait_id]");
        if (wait) wait.value = wait_id;
        if ("gone" in card.dataset) mark(card, false);
      } else {
        card = element(html);
        if (last) last.after(card);
        else container.prepend(card);
      }
      last = card;
    }
  }

  function element(html) {
    const template = document.createElement("template");
    template.innerHTML = html.trim();
    const result = template.content.firstElementChild;
    for (const one of result.querySelectorAll("[autofocus]")) one.removeAttribute("autofocus"); // for whole pages only
    return result;
  }

  function isUsed(card) {
    if ("kept" in card.dataset || card.contains(document.activeElement)) return true;
    return [...card.querySelectorAll("input:not([type=hidden]), select, textarea")].some((one) => {
      if (one.type === "checkbox") return one.checked !== one.defaultChecked;
      if (one.tagName !== "SELECT") return one.value !== one.defaultValue;
      const first = [...one.options].findIndex((option) => option.defaultSelected);
      return one.selectedIndex !== Math.max(first, 0);
    });
  }

  function mark(card, gone) {
    if (gone) card.dataset.gone = "";
    else delete card.dataset.gone;
    card.querySelector(".gone").hidden = !gone;
    for (const one of card.querySelectorAll("form input:not([type=hidden], [type=checkbox]), textarea")) one.readOnly = gone;
    for (const one of card.querySelectorAll("form button, select, [type=checkbox]")) one.disabled = gone;
    card.querySelector(".discard")?.remove();
    if (!gone) return;
    const discard = document.createElement("button");
    discard.type = "button";
    discard.className = "small discard";
    discard.textContent = "Discard";
    discard.addEventListener("click", () => {
      card.remove();
      document.getElementById("main").focus();
    });
    card.append(discard);
  }

  async function send(card, form, submitter) {
    if (card.ariaBusy === "true") return; // sent twice by an impatient click
    card.ariaBusy = "true";
    const number = ++asked;
    const body = new URLSearchParams(new FormData(form, submitter));
    try {
      const response = await fetch(page.dataset.path, { method: "POST", body, headers: { Accept: JSON_TYPE } });
      const answer = await response.json();
      if ("html" in answer) {
        const again = element(answer.html);
        card.replaceWith(again);
        if ("gone" in again.dataset) mark(again, true);
        document.getElementById(answer.focus)?.focus();
      } else if ("outcome" in answer) {
        card.remove();
        if (!apply(answer, number)) version = ""; // the card may have to come back: all is asked for again
        tell(answer.outcome);
      } else {
        complain(card, answer.detail);
      }
    } catch {
      complain(card, "The service did not answer. Send it again: it is done once only.");
    }
    card.ariaBusy = "false";
    delay = Math.min(delay, FAST_MS);
    if (version) schedule();
    else follow();
  }

  function tell(html) {
    const outcome = document.getElementById("outcome");
    outcome.innerHTML = `<div class="notice good" tabindex="-1">${html}</div>`;
    outcome.firstElementChild.focus();
  }

  function complain(card, text) {
    let note = card.querySelector(".complaint");
    if (!note) {
      note = document.createElement("p");
      note.className = "notice bad complaint";
      note.setAttribute("role", "alert");
      card.prepend(note);
    }
    note.textContent = `Not sent. ${text}`;
  }

  // --- start -------------------------------------------------------------------------------

  document.addEventListener("submit", (event) => {
    const card = event.target.closest(".card");
    if (!card) return;
    event.preventDefault();
    send(card, event.target, event.submitter);
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else follow();
  });
  for (const card of page.querySelectorAll("[data-gone]")) mark(card, true);
  if (location.search) history.replaceState(null, "", location.pathname); // what was done is told once
  schedule();
})();
