/* Rows of models: all of them at once, by keyboard, and in the address of the page.
 *
 * Rows open without this script, by a click, Enter or Space. With it the arrow keys walk: up and
 * down from row to row, right opens, left closes or goes to the row around. The address says which
 * rows are open, so that it can be shared, and the browser's way back closes them again.
 */
(function () {
  "use strict";

  const models = [...document.querySelectorAll(".lucid-model")];
  const key = (index) => (index ? `open${index + 1}` : "open");
  const parts = (model) => [...model.querySelectorAll("details[data-part]")];
  const followed = new Set(); // parts that the address has changed, whose event is still to come
  const rows = (model) => parts(model).filter((part) => part.closest(".lucid-stages"));

  /* Which rows are open, as the address says it; empty for none. */
  function state() {
    const said = models.map((model, index) => {
      const open = parts(model).filter((part) => part.open);
      const all = rows(model).length > 0 && rows(model).every((row) => row.open);
      const names = open.filter((part) => !(all && part.closest(".lucid-stages")));
      const list = [...(all ? ["all"] : []), ...names.map((part) => part.dataset.part)];
      return list.length ? `${key(index)}=${list.map(encodeURIComponent).join(",")}` : "";
    });
    return said.filter(Boolean).join("&");
  }

  /* Open what the address says; a link to a heading says nothing about rows. */
  function follow() {
    const said = new Map(
      location.hash.slice(1).split("&").map((pair) => [pair.split("=")[0], pair.split("=")[1]])
    );
    if (location.hash.length > 1 && !models.some((_, index) => said.has(key(index)))) return;
    models.forEach((model, index) => {
      const names = (said.get(key(index)) || "").split(",").map(decoded);
      for (const part of parts(model)) {
        const all = names.includes("all") && part.closest(".lucid-stages");
        const open = Boolean(all) || names.includes(part.dataset.part);
        if (part.open !== open) followed.add(part);
        part.open = open;
      }
    });
  }

  function decoded(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return ""; // a damaged link
    }
  }

  /* A change by the reader is a step of the browser's history; one by the address is none. */
  function changed(event) {
    if (followed.delete(event.target)) return; // the address may be a step further by now
    const now = state();
    const before = location.hash.slice(1);
    if (now !== before && (now || before.startsWith("open"))) location.hash = now || "open=";
  }

  function walk(event) {
    const summary = event.target.closest("summary");
    if (!summary || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const row = summary.parentElement;
    const seen = [...this.querySelectorAll("summary")].filter((one) => one.checkVisibility());
    const step = (by) => seen[seen.indexOf(summary) + by]?.focus();
    const actions = {
      ArrowDown: () => step(1),
      ArrowUp: () => step(-1),
      ArrowRight: () => (row.open ? step(1) : (row.open = true)),
      ArrowLeft: () => {
        if (row.open) row.open = false;
        else row.parentElement.closest("details")?.querySelector("summary").focus();
      },
      Home: () => seen[0].focus(),
      End: () => seen[seen.length - 1].focus(),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    event.stopPropagation(); // the theme turns pages with the arrow keys
    actions[event.key]();
  }

  function button(text, model, open) {
    const element = document.createElement("button");
    element.type = "button";
    element.textContent = text;
    element.addEventListener("click", () => rows(model).forEach((row) => (row.open = open)));
    return element;
  }

  for (const model of models) {
    const tools = model.querySelector(".lucid-tools");
    if (tools && rows(model).length) {
      tools.prepend(button("Expand all", model, true), button("Collapse all", model, false));
    }
    model.addEventListener("keydown", walk);
    model.addEventListener("toggle", changed, true); // it does not bubble
  }
  if (models.length) {
    window.addEventListener("hashchange", follow);
    follow();
    if (location.hash.startsWith("#open")) {
      document.querySelector(".lucid-model details[open] > summary")?.scrollIntoView({ block: "center" });
    }
  }
})();
