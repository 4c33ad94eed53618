/* Draws the page's Mermaid diagrams, in light and dark colours, with pan, zoom and full screen.
 *
 * A diagram that is wider than the page starts at its left end, as high as its frame; below it a
 * small picture of the whole says where that is, and a press on it goes elsewhere. It is moved by
 * dragging, the arrow keys or a horizontal wheel; zoomed by the buttons, + and -, Ctrl and the
 * wheel, or two fingers; f fills the window with all of it, Escape leaves again, 0 returns to the
 * start. What is folded away is drawn when it is opened.
 */
(function () {
  "use strict";

  const MIN_SCALE = 0.05;
  const MAX_SCALE = 8;
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

  /* The chart in the colours of the page: `window.LucidColours` says what is what on a dark one. */
  function coloured(code) {
    if (!isDark()) return code;
    return code.replace(/#[0-9a-f]{6}\b/g, (colour) => window.LucidColours?.[colour] || colour);
  }

  function save(name, kind, text) {
    const link = document.createElement("a");
    link.download = name;
    link.href = URL.createObjectURL(new Blob([text], { type: kind }));
    link.click();
    window.setTimeout(() => URL.revokeObjectURL(link.href), 1000);
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
      this.name = (label || "diagram").replace(/^Diagram of /, "").replace(/[^\w.-]+/g, "_");
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
        button("Save as SVG", "SVG", () => save(this.name + ".svg", "image/svg+xml", this.text())),
        button("Save as Mermaid", "Mermaid", () => save(this.name + ".mmd", "text/plain", this.code)),
        button("Full screen", "Full screen", () => this.toggleFull())
      );
      this.frame = document.createElement("div");
      this.frame.className = "diagram-frame";
      this.map = document.createElement("div"); // all of it, small
      this.map.className = "diagram-map";
      this.map.setAttribute("aria-hidden", "true");
      this.image = document.createElement("img");
      this.image.alt = "";
      this.eye = document.createElement("span"); // what the viewport shows of it
      this.map.append(this.image, this.eye);
      this.frame.append(this.tools, this.viewport, this.map);
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
        const drawn = await window.mermaid.render(id, coloured(code));
        this.canvas.innerHTML = drawn.svg;
        this.svg = this.canvas.querySelector("svg");
        const box = this.svg.viewBox.baseVal;
        this.size = { width: box.width, height: box.height };
        this.svg.setAttribute("width", box.width);
        this.svg.setAttribute("height", box.height);
        this.svg.style.maxWidth = "none";
        this.image.src = "data:image/svg+xml," + encodeURIComponent(this.text());
        delete this.host.dataset.error;
        this.host.dataset.drawn = "true";
        if (this.moved) this.show();
        else this.fit(this.isFull());
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

    /* The drawn chart as a file of its own. */
    text() {
      const copy = this.svg.cloneNode(true);
      copy.style.fontFamily = "system-ui, sans-serif";
      copy.style.background = getComputedStyle(document.body).backgroundColor;
      return new XMLSerializer().serializeToString(copy);
    }

    /* Show everything if it is asked for or fits, else the left end, as high as the frame. */
    fit(everything) {
      if (!this.size || !this.viewport.clientWidth) return;
      const width = this.viewport.clientWidth;
      const room = this.isFull() ? this.viewport.clientHeight : HEIGHT;
      const high = Math.min(room / this.size.height, 1);
      const scale = everything ? Math.min(width / this.size.width, high) : high;
      this.view.scale = scale;
      this.resize();
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
      if (!this.size) return;
      const whole = { x: this.size.width * scale, y: this.size.height * scale };
      const { clientWidth, clientHeight } = this.viewport;
      this.map.hidden = whole.x <= clientWidth + 1 && whole.y <= clientHeight + 1;
      const share = (value, all) => `${Math.min(Math.max((100 * value) / all, 0), 100)}%`;
      Object.assign(this.eye.style, {
        left: share(-x, whole.x),
        right: share(whole.x - clientWidth + x, whole.x),
        top: share(-y, whole.y),
        bottom: share(whole.y - clientHeight + y, whole.y),
      });
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
      this.fit(true);
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
      const look = (event) => {
        const box = this.image.getBoundingClientRect();
        const { scale } = this.view;
        const x = ((event.clientX - box.left) / box.width) * this.size.width * scale;
        const y = ((event.clientY - box.top) / box.height) * this.size.height * scale;
        this.move(viewport.clientWidth / 2 - x - this.view.x, viewport.clientHeight / 2 - y - this.view.y);
      };
      this.map.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        this.map.setPointerCapture(event.pointerId);
        look(event);
      });
      this.map.addEventListener("pointermove", (event) => event.buttons && look(event));
      // A first width of 0 means the diagram was hidden; another width is another page.
      let width = 0;
      new ResizeObserver(() => {
        if (viewport.clientWidth !== width && !this.moved) this.fit(this.isFull());
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
      source.replaceWith(host);
      const code = source.textContent.trim();
      const title = code.match(/<b>([^<]+)<\/b>/); // that of lucid's charts
      const label = source.getAttribute("aria-label") || (title && "Diagram of " + title[1]);
      const folded = host.closest("details:not([open])");
      if (!folded) draw(host, code, label);
      else folded.addEventListener("toggle", () => draw(host, code, label), { once: true });
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
