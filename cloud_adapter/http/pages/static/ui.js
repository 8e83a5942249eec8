// Updates the page of an instance, and sends its forms in the background. The page works without this file.
//
// Parts without forms are replaced as a whole. A form is never replaced while it is being used. A form that is no longer
// accepted is marked if it contains input, and removed otherwise.
"use strict";

(() => {
  const page = document.getElementById("instance");
  if (!page) return;

  const FAST_MS = 1000;
  const SLOW_MS = 5000;
  const ENDED_MS = 15000;
  const AFRESH_MS = 30000; // how often relative times such as "5 minutes ago" are updated
  const JSON_TYPE = "application/json";

  let version = page.dataset.version;
  let delay = FAST_MS;
  let timer = 0;
  let afresh = Date.now();
  let asked = 0; // counts requests, so that an old response does not overwrite a newer one
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
      say("The service cannot be reached, so this page may be out of date. Your input is kept.");
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

  // Shows a state. Returns false if the response to a later request is already shown.
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
    if (!selection.isCollapsed && part.contains(selection.anchorNode)) return; // the user may be about to copy it
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    const open = [...part.querySelectorAll("details[open] > summary")].map((summary) => summary.id);
    part.innerHTML = html;
    for (const id of open) document.getElementById(id)?.parentElement.setAttribute("open", "");
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    shown[name] = html;
  }

  // --- forms -------------------------------------------------------------------------------

  function arrange(container, cards) {
    const wanted = new Set(cards.map((card) => card.id));
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
    // Autofocus is only for whole pages.
    for (const control of result.querySelectorAll("[autofocus]")) control.removeAttribute("autofocus");
    return result;
  }

  function isUsed(card) {
    if ("kept" in card.dataset || card.contains(document.activeElement)) return true;
    return [...card.querySelectorAll("input:not([type=hidden]), select, textarea")].some((control) => {
      if (control.type === "checkbox") return control.checked !== control.defaultChecked;
      if (control.tagName !== "SELECT") return control.value !== control.defaultValue;
      const first = [...control.options].findIndex((option) => option.defaultSelected);
      return control.selectedIndex !== Math.max(first, 0);
    });
  }

  function mark(card, gone) {
    if (gone) card.dataset.gone = "";
    else delete card.dataset.gone;
    card.querySelector(".gone").hidden = !gone;
    const texts = card.querySelectorAll("form input:not([type=hidden], [type=checkbox]), textarea");
    for (const control of texts) control.readOnly = gone;
    for (const control of card.querySelectorAll("form button, select, [type=checkbox]")) control.disabled = gone;
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
    if (card.ariaBusy === "true") return; // a second click
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
        if (!apply(answer, number)) version = ""; // the card may still be needed: request the whole state
        tell(answer.outcome);
      } else {
        complain(card, answer.detail);
      }
    } catch {
      complain(card, "The service did not answer. Send it again: it takes effect only once.");
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
  if (location.search) history.replaceState(null, "", location.pathname); // a reload must not show the outcome again
  schedule();
})();
