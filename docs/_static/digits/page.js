/* The page of digits to draw: strokes on a board, as pixels for the network, and what it says. */
(function () {
  "use strict";

  const DATA = window.LUCID_DIGITS; // written while the pages are built: docs/_ext/digits.py
  const SIZE = 28; // pixels of the network's images
  const LARGEST = 20; // pixels of a digit in them
  const PEN = 2.2; // as wide as MNIST's, in these pixels
  const STEP = 0.02; // of the board, that an arrow key moves the pen

  const byId = (id) => document.getElementById("digits-" + id);
  const say = (text) => (byId("state").textContent = text);
  const seen = byId("seen").getContext("2d", { willReadFrequently: true });

  /* Strokes are lists of points (x, y) between 0 and 1. */
  const strokes = [];
  const pen = { at: null, down: false }; // moved by keys
  let session;

  // -- what the network is given ----------------------------------------------------------------

  function draw(context, lines, width, place) {
    context.lineWidth = width;
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = "#fff";
    for (const line of lines) {
      context.beginPath();
      for (const point of line) context.lineTo(...place(point));
      context.lineTo(...place(line[line.length - 1])); // a dot is a line too
      context.stroke();
    }
  }

  /* Returns pixels between 0 and 1 as MNIST's were made: the digit as large as 20 pixels, its
     centre of mass in the middle. The pen is as wide whatever the size of the drawing. */
  function pixels(lines) {
    const points = lines.flat();
    const sides = [0, 1].map((axis) => points.map((point) => point[axis]));
    const low = sides.map((side) => Math.min(...side));
    const high = sides.map((side) => Math.max(...side));
    const scale = (LARGEST - PEN) / Math.max(high[0] - low[0], high[1] - low[1], 0.05);
    let centre = [0, 1].map((axis) => (low[axis] + high[axis]) / 2);
    const drawn = () => {
      seen.clearRect(0, 0, SIZE, SIZE);
      draw(seen, lines, PEN, (point) => point.map((x, axis) => (x - centre[axis]) * scale + SIZE / 2));
      const bytes = seen.getImageData(0, 0, SIZE, SIZE).data;
      return Float32Array.from({ length: SIZE * SIZE }, (_, place) => bytes[4 * place + 3] / 255);
    };
    const first = drawn();
    const mass = first.reduce((a, b) => a + b, 0);
    const heavy = [0, 0];
    first.forEach((ink, place) => {
      heavy[0] += (ink / mass) * ((place % SIZE) + 0.5);
      heavy[1] += (ink / mass) * (Math.floor(place / SIZE) + 0.5);
    });
    centre = centre.map((x, axis) => x + (heavy[axis] - SIZE / 2) / scale);
    return drawn();
  }

  /* Returns the network's logits for pixels between 0 and 1. */
  async function logits(values) {
    const normalised = values.map((value) => (value - DATA.mean[0]) / DATA.std[0]);
    const input = new ort.Tensor("float32", normalised, [1, 1, SIZE, SIZE]);
    const results = await session.run({ [session.inputNames[0]]: input });
    return Array.from(results[session.outputNames[0]].data);
  }

  // -- what is shown ----------------------------------------------------------------------------

  function showBoard() {
    const board = byId("board");
    const context = board.getContext("2d");
    const place = (point) => [point[0] * board.width, point[1] * board.height];
    context.clearRect(0, 0, board.width, board.height);
    draw(context, strokes, 0.08 * board.width, place);
    if (!pen.at) return;
    context.beginPath();
    context.arc(...place(pen.at), 0.05 * board.width, 0, 7);
    context.lineWidth = 4;
    context.strokeStyle = pen.down ? "#f0935a" : "#94a3b8";
    context.stroke();
  }

  function showBars(found) {
    const powers = found.map((value) => Math.exp(value - Math.max(...found)));
    const total = powers.reduce((a, b) => a + b, 0);
    const shares = powers.map((power) => power / total);
    const best = shares.indexOf(Math.max(...shares));
    byId("bars").replaceChildren(
      ...shares.map((share, index) => {
        const row = document.createElement("li");
        const [name, track, part] = ["span", "span", "span"].map((tag) => document.createElement(tag));
        const bar = document.createElement("span");
        row.classList.toggle("is-best", strokes.length > 0 && index === best);
        name.textContent = DATA.classes[index];
        part.textContent = strokes.length ? `${(100 * share).toFixed(1)} %` : "–";
        part.className = "bar-value";
        track.className = "bar-track";
        bar.className = "bar bar-a";
        bar.style.width = strokes.length ? `${100 * share}%` : "0";
        track.append(bar);
        row.append(name, track, part);
        return row;
      })
    );
    if (!strokes.length) return "Draw a digit on the board.";
    return `It looks like a ${DATA.classes[best]} (${(100 * shares[best]).toFixed(1)} %).`;
  }

  const EMPTY = new Array(10).fill(0);
  let running = false;
  let again = false;
  let spoken = false;

  /* Shows the board now, and the answer as soon as the network has one; once more if something
     was drawn meanwhile. The answer is said when a stroke ends, not at each of its points. */
  async function changed(ended) {
    showBoard();
    again = true;
    spoken ||= ended;
    if (!session || running) return;
    running = true;
    let answer;
    while (again) {
      again = false;
      if (!strokes.length) seen.clearRect(0, 0, SIZE, SIZE);
      answer = showBars(strokes.length ? await logits(pixels(strokes)) : EMPTY);
    }
    running = false;
    if (spoken) say(answer);
    spoken = false;
  }

  // -- drawing ----------------------------------------------------------------------------------

  function undo() {
    pen.down = false;
    strokes.pop();
    changed(true);
  }

  function clear() {
    Object.assign(pen, { at: null, down: false });
    strokes.length = 0;
    changed(true);
  }

  function press(event) {
    const moves = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    const move = moves[event.key];
    pen.at ??= [0.5, 0.5];
    if (move) {
      pen.at = pen.at.map((x, axis) => Math.min(0.95, Math.max(0.05, x + move[axis])));
      if (pen.down) strokes[strokes.length - 1].push(pen.at);
      changed(false);
    } else if (event.key === " ") {
      pen.down = !pen.down;
      if (pen.down) strokes.push([pen.at]);
      changed(true);
    } else if (event.key === "Backspace") undo();
    else if (event.key === "Escape") clear();
    else return;
    event.preventDefault();
    event.stopPropagation(); // the theme turns pages with the arrow keys
  }

  function listen() {
    const board = byId("board");
    const point = (event) => {
      const box = board.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    let held = null; // the pointer that draws: a second finger does not
    board.addEventListener("pointerdown", (event) => {
      if (held !== null || event.button !== 0) return;
      held = event.pointerId;
      board.setPointerCapture(held);
      Object.assign(pen, { at: null, down: false });
      strokes.push([point(event)]);
      changed(false);
    });
    board.addEventListener("pointermove", (event) => {
      if (event.pointerId !== held) return;
      const all = event.getCoalescedEvents?.() ?? [];
      strokes[strokes.length - 1].push(...(all.length ? all : [event]).map(point));
      changed(false);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      board.addEventListener(name, (event) => {
        if (event.pointerId !== held) return;
        held = null;
        changed(true);
      });
    }
    board.addEventListener("keydown", press);
    byId("clear").addEventListener("click", clear);
    byId("undo").addEventListener("click", undo);
  }

  // -- the network ------------------------------------------------------------------------------

  const decode = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

  /* All files come as scripts, since a page opened from a disk may not read others. */
  async function load() {
    const wasm = new Blob([decode(DATA.wasm)]).stream().pipeThrough(new DecompressionStream("gzip"));
    const glue = new Blob([decode(DATA.glue)], { type: "text/javascript" });
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = await new Response(wasm).arrayBuffer();
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(glue) };
    session = await ort.InferenceSession.create(decode(DATA.model), { executionProviders: ["wasm"] });
  }

  async function start() {
    listen();
    showBars(EMPTY);
    showBoard();
    await load();
    await changed(true);
    byId("app").dataset.ready = "true";
  }

  window.LucidDigits = { strokes, pixels, logits };
  start().catch((error) => say(`The network could not be loaded: ${error.message}`));
})();
