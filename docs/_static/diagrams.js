/* Draws the page's Mermaid diagrams, in light and dark colours, with pan, zoom and full screen.
 *
 * A diagram that is wider than the page starts at its left end in a readable size. It is moved by
 * dragging, the arrow keys or a horizontal wheel; zoomed by the buttons, + and -, Ctrl and the
 * wheel, or two fingers; f fills the window, Escape leaves again, 0 returns to the start.
 */
(function () {
  "use strict";

  const MIN_SCALE = 0.05;
  const MAX_SCALE = 8;
  const READABLE = 0.6; // below this the labels cannot be read, so the diagram is not shrunk to it
  const STEP = 1.25;
  const HEIGHT = 480;

  let counter = 0;
  let queue = Promise.resolve(); // Mermaid draws one diagram at a time

  function isDark() {
    const theme = document.body.dataset.theme;
    if (theme === "dark" || theme === "light") return theme === "dark";
    return window.matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function initialise() {
    window.mermaid.initialize({
      startOnLoad: false,
      theme: isDark() ? "dark" : "default",
      securityLevel: "strict",
      maxTextSize: 1000000,
      maxEdges: 10000,
      flowchart: { useMaxWidth: false, htmlLabels: true, wrappingWidth: 600 },
      fontFamily: "inherit",
    });
  }

  function button(label, text, action) {
    const element = document.createElement("button");
    element.type = "button";
    element.textContent = text;
    element.setAttribute("aria-label", label);
    element.title = label;
    element.addEventListener("click", action);
    return element;
  }

  /* One diagram: its source, the box it is seen through, and where in it the eye is. */
  class Diagram {
    constructor(host, code, label) {
      this.host = host;
      this.code = code;
      this.view = { x: 0, y: 0, scale: 1 };
      this.moved = false;
      this.pointers = new Map();
      this.waiting = null;
      host.classList.add("diagram");
      host.replaceChildren();
      this.viewport = document.createElement("div");
      this.viewport.className = "diagram-viewport";
      this.viewport.tabIndex = 0;
      this.viewport.setAttribute("role", "group");
      this.viewport.setAttribute(
        "aria-label",
        (label || "Diagram") + ". Arrow keys move it, plus and minus zoom, f fills the window."
      );
      this.canvas = document.createElement("div");
      this.canvas.className = "diagram-canvas";
      this.viewport.append(this.canvas);
      this.tools = document.createElement("div");
      this.tools.className = "diagram-tools";
      this.tools.append(
        button("Zoom in", "+", () => this.zoom(STEP)),
        button("Zoom out", "−", () => this.zoom(1 / STEP)),
        button("Show all of it", "Fit", () => this.fit(true)),
        button("Full screen", "Full screen", () => this.toggleFull())
      );
      this.frame = document.createElement("div");
      this.frame.className = "diagram-frame";
      this.frame.append(this.tools, this.viewport);
      host.append(this.frame);
      this.listen();
    }

    /* Draw when the turn comes; until then, what is to be drawn may change without a second turn. */
    draw() {
      if (!this.waiting) {
        this.waiting = queue = queue.then(() => {
          this.waiting = null;
          return this.render();
        });
      }
      return this.waiting;
    }

    async render() {
      const code = this.code;
      const id = "diagram-" + ++counter;
      try {
        const drawn = await window.mermaid.render(id, code);
        this.canvas.innerHTML = drawn.svg;
        this.svg = this.canvas.querySelector("svg");
        const box = this.svg.viewBox.baseVal;
        this.size = { width: box.width, height: box.height };
        this.svg.setAttribute("width", box.width);
        this.svg.setAttribute("height", box.height);
        this.svg.style.maxWidth = "none";
        delete this.host.dataset.error;
        this.host.dataset.drawn = "true";
        if (this.moved) this.show();
        else this.fit(false);
      } catch (error) {
        document.getElementById("d" + id)?.remove();
        const source = document.createElement("pre");
        source.textContent = code;
        const message = document.createElement("p");
        message.textContent = "This diagram cannot be drawn: " + error.message;
        this.canvas.replaceChildren(message, source);
        this.host.dataset.error = error.message;
        console.error(error);
      }
    }

    isFull() {
      return this.dialog !== undefined;
    }

    /* Show everything if it stays readable (or is asked for), else the left end, readable. */
    fit(everything) {
      if (!this.size) return;
      const width = this.viewport.clientWidth;
      const room = this.isFull() ? this.viewport.clientHeight : HEIGHT;
      let scale = Math.min(width / this.size.width, room / this.size.height, 1);
      if (!everything && scale < READABLE) {
        scale = Math.min(1, Math.max(READABLE, room / this.size.height));
      }
      this.view.scale = scale;
      this.resize(everything);
      const left = (width - this.size.width * scale) / 2;
      const top = (this.viewport.clientHeight - this.size.height * scale) / 2;
      this.view.x = Math.max(left, 0);
      this.view.y = Math.max(top, 0);
      this.moved = false;
      this.show();
    }

    resize() {
      if (this.isFull()) this.viewport.style.height = "";
      else {
        const height = Math.min(HEIGHT, Math.max(120, this.size.height * this.view.scale));
        this.viewport.style.height = Math.ceil(height) + "px";
      }
    }

    show() {
      const { x, y, scale } = this.view;
      this.canvas.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    }

    move(dx, dy) {
      // A corner of the diagram always stays in sight.
      const margin = 40;
      const { clientWidth, clientHeight } = this.viewport;
      const width = (this.size?.width || 0) * this.view.scale;
      const height = (this.size?.height || 0) * this.view.scale;
      const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
      this.view.x = clamp(this.view.x + dx, margin - width, clientWidth - margin);
      this.view.y = clamp(this.view.y + dy, margin - height, clientHeight - margin);
      this.moved = true;
      this.show();
    }

    /* Zoom by a factor, keeping one point of the viewport in its place (its middle by default). */
    zoom(factor, at) {
      const centre = at || { x: this.viewport.clientWidth / 2, y: this.viewport.clientHeight / 2 };
      const scale = Math.min(Math.max(this.view.scale * factor, MIN_SCALE), MAX_SCALE);
      const ratio = scale / this.view.scale;
      this.view.scale = scale;
      this.view.x = centre.x - (centre.x - this.view.x) * ratio;
      this.view.y = centre.y - (centre.y - this.view.y) * ratio;
      this.move(0, 0);
    }

    at(event) {
      const box = this.viewport.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    }

    toggleFull() {
      if (this.isFull()) {
        this.dialog.close();
        return;
      }
      const dialog = document.createElement("dialog");
      dialog.className = "diagram-dialog";
      dialog.setAttribute("aria-label", "Diagram");
      this.dialog = dialog;
      const full = this.tools.lastElementChild;
      full.setAttribute("aria-label", "Leave full screen");
      full.title = "Leave full screen";
      full.textContent = "Close";
      dialog.addEventListener("close", () => {
        this.dialog = undefined;
        full.setAttribute("aria-label", "Full screen");
        full.title = "Full screen";
        full.textContent = "Full screen";
        this.host.append(this.frame);
        dialog.remove();
        this.fit(false);
        full.focus();
      });
      dialog.addEventListener("keydown", (event) => {
        if (event.key !== "Escape") return;
        event.preventDefault();
        dialog.close();
      });
      dialog.append(this.frame);
      document.body.append(dialog);
      dialog.showModal();
      this.viewport.focus();
      this.fit(false);
    }

    listen() {
      const { viewport, pointers } = this;
      viewport.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        const actions = {
          ArrowLeft: () => this.move(60, 0),
          ArrowRight: () => this.move(-60, 0),
          ArrowUp: () => this.move(0, 60),
          ArrowDown: () => this.move(0, -60),
          "+": () => this.zoom(STEP),
          "=": () => this.zoom(STEP),
          "-": () => this.zoom(1 / STEP),
          0: () => this.fit(false),
          f: () => this.toggleFull(),
        };
        if (!actions[event.key]) return;
        event.preventDefault();
        event.stopPropagation(); // the theme turns pages with the arrow keys
        actions[event.key]();
      });
      viewport.addEventListener(
        "wheel",
        (event) => {
          const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
          if (event.ctrlKey || this.isFull()) {
            if (sideways) this.move(-event.deltaX, 0);
            else this.zoom(Math.exp(-event.deltaY * 0.002), this.at(event));
          } else if (sideways || event.shiftKey) {
            this.move(-(sideways ? event.deltaX : event.deltaY), 0);
          } else return; // the page scrolls
          event.preventDefault();
        },
        { passive: false }
      );
      viewport.addEventListener("pointerdown", (event) => {
        if (event.button > 0) return;
        viewport.setPointerCapture(event.pointerId);
        pointers.set(event.pointerId, this.at(event));
        viewport.classList.add("is-held");
      });
      viewport.addEventListener("pointermove", (event) => {
        const before = pointers.get(event.pointerId);
        if (!before) return;
        const now = this.at(event);
        if (pointers.size === 1) this.move(now.x - before.x, now.y - before.y);
        else {
          const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
          const distance = (p) => Math.hypot(p.x - other.x, p.y - other.y);
          const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
          this.zoom(distance(now) / Math.max(distance(before), 1), middle);
        }
        pointers.set(event.pointerId, now);
      });
      for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
        viewport.addEventListener(name, (event) => {
          pointers.delete(event.pointerId);
          if (!pointers.size) viewport.classList.remove("is-held");
        });
      }
      // A first width of 0 means the diagram was hidden; another width is another page.
      let width = 0;
      new ResizeObserver(() => {
        if (viewport.clientWidth !== width && !this.moved) this.fit(false);
        width = viewport.clientWidth;
      }).observe(viewport);
    }
  }

  const all = new Map(); // host element -> Diagram

  /* Draw `code` in `host`, in place of what it showed before; returns a promise. */
  function draw(host, code, label) {
    let diagram = all.get(host);
    if (!diagram) all.set(host, (diagram = new Diagram(host, code, label)));
    diagram.code = code;
    return diagram.draw();
  }

  function start() {
    initialise();
    for (const source of document.querySelectorAll("pre.mermaid, div.mermaid")) {
      const host = document.createElement("div");
      if (source.id) host.id = source.id;
      const label = source.getAttribute("aria-label") || source.getAttribute("alt");
      source.replaceWith(host);
      draw(host, source.textContent.trim(), label);
    }
    let dark = isDark();
    const follow = () => {
      if (isDark() === dark) return;
      dark = isDark();
      queue = queue.then(initialise);
      for (const diagram of all.values()) diagram.draw();
    };
    new MutationObserver(follow).observe(document.body, { attributeFilter: ["data-theme"] });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", follow);
  }

  window.LucidDiagrams = { draw, all };
  start();
})();
