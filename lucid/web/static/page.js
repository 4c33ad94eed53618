"use strict";
// Classifies a dropped picture, a chosen file or frames of the camera. Pictures are prepared as lucid
// prepares them: the shorter side resized as Pillow does it (bicubic, antialiased), the middle cut out.

const byId = (id) => document.getElementById(id);
const say = (text) => { byId("state").textContent = text; };

/** For each place of the result: the first source pixel, and the weights from there on. */
function weights(from, to) {
  const scale = from / to, wide = Math.max(scale, 1), support = 2 * wide;
  const cubic = (x) => {
    x = Math.abs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
  };
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(from, Math.trunc(centre + support + 0.5));
    const taken = [];
    for (let x = first; x < last; x++) taken.push(cubic((x - centre + 0.5) / wide));
    const sum = taken.reduce((a, b) => a + b, 0);
    return [first, taken.map((weight) => weight / sum)];
  });
}

/** Resizes rows of bytes along one axis; every pass rounds to bytes, as Pillow's does. */
function resize(pixels, width, height, channels, size, along) {
  const [from, outer] = along === "x" ? [width, height] : [height, width];
  if (from === size) return pixels;
  const [w, h] = along === "x" ? [size, height] : [width, size];
  const result = new Uint8ClampedArray(w * h * channels);
  weights(from, size).forEach(([first, taken], place) => {
    for (let other = 0; other < outer; other++) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let k = 0; k < taken.length; k++) {
          const [x, y] = along === "x" ? [first + k, other] : [other, first + k];
          sum += taken[k] * pixels[(y * width + x) * channels + c];
        }
        const [x, y] = along === "x" ? [place, other] : [other, place];
        result[(y * w + x) * channels + c] = Math.floor(sum + 0.5);
      }
    }
  });
  return result;
}

/** Half to even, as Python rounds. */
const round = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

function prepare(image, model) {
  const { data, width, height } = image, { channels } = model;
  let pixels = new Uint8ClampedArray(width * height * channels);
  for (let i = 0; i < width * height; i++) {
    const at = 4 * i;
    if (channels === 1) {
      pixels[i] = (19595 * data[at] + 38470 * data[at + 1] + 7471 * data[at + 2] + 32768) >> 16;
    } else {
      for (let c = 0; c < 3; c++) pixels[3 * i + c] = data[at + c];
    }
  }
  const [tall, broad] = model.size;
  const side = Math.floor(Math.min(tall, broad) / model.crop_pct);
  const short = Math.min(width, height);
  const w = width === short ? side : Math.trunc(side * width / short);
  const h = height === short ? side : Math.trunc(side * height / short);
  pixels = resize(pixels, width, height, channels, w, "x");
  pixels = resize(pixels, w, height, channels, h, "y");
  const [left, top] = [round((w - broad) / 2), round((h - tall) / 2)];
  const result = new Float32Array(channels * tall * broad);
  for (let y = 0; y < tall; y++) {
    for (let x = 0; x < broad; x++) {
      const at = ((y + top) * w + x + left) * channels;
      for (let c = 0; c < channels; c++) {
        result[(c * tall + y) * broad + x] = (pixels[at + c] / 255 - model.mean[c]) / model.std[c];
      }
    }
  }
  return result;
}

let session, model;

/** Returns the logits of what is on a canvas, and shows the likeliest classes. */
async function classify(canvas) {
  const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const input = new ort.Tensor("float32", prepare(image, model), [1, model.channels, ...model.size]);
  const results = await session.run({ [session.inputNames[0]]: input });
  const logits = Array.from(results[session.outputNames[0]].data);
  const most = Math.max(...logits);
  const powers = logits.map((value) => Math.exp(value - most));
  const total = powers.reduce((a, b) => a + b, 0);
  const order = logits.map((_, index) => index).sort((a, b) => logits[b] - logits[a]).slice(0, 5);
  byId("answers").replaceChildren(...order.map((index) => {
    const share = powers[index] / total;
    const [row, name, part, bar, fill] = ["li", "span", "span", "div", "span"].map((tag) => document.createElement(tag));
    name.textContent = model.classes ? model.classes[index] : `class ${index}`;
    part.textContent = `${(100 * share).toFixed(1)} %`;
    bar.className = "bar";
    fill.style.width = `${100 * share}%`;
    bar.append(fill);
    row.append(name, part, bar);
    return row;
  }));
  return logits;
}

async function show(source, width, height) {
  const canvas = byId("view");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // what is transparent becomes white
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0, width, height);
  return classify(canvas);
}

async function open(file) {
  stop();
  if (!file) return;
  let picture;
  try {
    picture = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    say(`${file.name} is no picture that this browser can read.`);
    return;
  }
  say("Looking …");
  await show(picture, picture.width, picture.height);
  say(file.name);
}

let stream, asking = false;

function stop() {
  if (stream) stream.getTracks().forEach((track) => track.stop());
  stream = undefined;
  byId("camera").textContent = "use the camera";
}

async function watch() {
  if (stream) {
    stop();
    return;
  }
  if (!navigator.mediaDevices) {
    say("Browsers give the camera to pages from localhost or by HTTPS only.");
    return;
  }
  if (asking) return;
  asking = true;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640 } });
  } catch (error) {
    say(`There is no camera to use: ${error.message}`);
    return;
  } finally {
    asking = false;
  }
  stream.getTracks().forEach((track) => track.addEventListener("ended", stop));
  byId("camera").textContent = "stop the camera";
  say("Looking through the camera.");
  const video = document.createElement("video");
  video.muted = video.playsInline = true;
  video.srcObject = stream;
  await video.play();
  while (stream) {
    await show(video, video.videoWidth, video.videoHeight);
    await new Promise(requestAnimationFrame);
  }
}

const guarded = (work) => (...given) => work(...given).catch((error) => { stop(); say(`It failed: ${error.message}`); });

async function start() {
  if (location.protocol === "file:") {
    say("Browsers run no network from a file. Serve this folder: python -m http.server, then open http://localhost:8000/");
    return;
  }
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("./", location.href).href;
  model = await (await fetch("model.json")).json();
  session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
  byId("file").addEventListener("change", guarded((event) => open(event.target.files[0])));
  byId("camera").addEventListener("click", guarded(watch));
  const drop = byId("drop");
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
    });
  }
  drop.addEventListener("drop", guarded((event) => open(event.dataTransfer.files[0])));
  document.title = `What is in the picture? ${model.name}`;
  say("Ready.");
}

guarded(start)();
