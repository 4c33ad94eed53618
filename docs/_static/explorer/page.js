/* The explorer page: two models, the first one to edit, and what they come to. */
(function () {
  "use strict";

  const { ACTIVATIONS, ANTI_ALIASING, ATTENTION_FIELDS, ROW_FIELDS, STAGES, readConfig, summary } =
    window.LucidModel;
  const { bars, element } = window.LucidChart;
  const VARIANTS = window.LUCID_EXPLORER_DATA.variants;
  const PARTS = [...STAGES, "head"];
  const FLAGS = ["act", "mid_dw_downsample", "use_layer_scale", "use_multi_query", "use_residual"];
  const NEW_ATTENTION = {
    num_heads: 4,
    key_dim: 64,
    value_dim: 64,
    query_h_stride: 1,
    query_w_stride: 1,
    kv_stride: 1,
    use_layer_scale: true,
    use_multi_query: true,
    use_residual: true,
  };
  const LABELS = {
    start_dw_kernel: "start dw",
    mid_dw_kernel: "mid dw",
    mid_dw_downsample: "stride on mid",
    kernel: "kernel",
  };

  const byId = (id) => document.getElementById("explorer-" + id);
  const copy = (value) => JSON.parse(JSON.stringify(value));
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
  const count = (value) => value.toLocaleString("en-US");
  const short = (value) => {
    for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
      if (value >= size) return (value / size).toFixed(value >= 100 * size ? 0 : 2) + " " + unit;
    }
    return String(value);
  };
  const megabytes = (elements) => ((4 * elements) / 2 ** 20).toFixed(2) + " MiB";
  const shapeText = (shape) => "(" + shape.join(", ") + ")";

  // -- state ----------------------------------------------------------------------------------

  const FIRST = "mobilenet_v4_conv_small";
  const state = {
    a: { base: FIRST, cfg: copy(VARIANTS[FIRST]) },
    b: { base: "", cfg: null },
    classes: 1000,
    height: 224,
    width: 224,
  };
  const shown = { a: null, b: null }; // the last figures that could be computed

  const isEdited = (slot) => slot.cfg !== null && !same(slot.cfg, VARIANTS[slot.base]);
  const title = (slot) => slot.base + (isEdited(slot) ? ", edited" : "");

  async function through(stream, bytes) {
    const answer = new Response(new Blob([bytes]).stream().pipeThrough(stream));
    return new Uint8Array(await answer.arrayBuffer());
  }

  async function packed(value) {
    const bytes = new TextEncoder().encode(JSON.stringify(value));
    const small = await through(new CompressionStream("deflate-raw"), bytes);
    return btoa(String.fromCharCode(...small)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
  }

  async function unpacked(text) {
    const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
    const bytes = Uint8Array.from(plain, (c) => c.charCodeAt(0));
    const whole = await through(new DecompressionStream("deflate-raw"), bytes);
    return JSON.parse(new TextDecoder().decode(whole));
  }

  async function writeLink() {
    const link = new URLSearchParams();
    for (const name of ["a", "b"]) {
      const slot = state[name];
      if (!slot.base) continue;
      link.set(name, slot.base);
      if (isEdited(slot)) link.set(name + "cfg", await packed(slot.cfg));
    }
    link.set("classes", state.classes);
    link.set("size", `${state.height}x${state.width}`);
    const hash = "#" + link.toString();
    if (hash !== window.location.hash) window.history.replaceState(null, "", hash);
  }

  /* Take the state from the link, and tell what in it could not be read. */
  async function readLink() {
    const link = new URLSearchParams(window.location.hash.slice(1));
    const problems = [];
    for (const name of ["a", "b"]) {
      const base = link.get(name);
      if (!Object.prototype.hasOwnProperty.call(VARIANTS, base || "")) {
        if (base) problems.push(`there is no model "${base}"`);
        if (name === "b") state.b = { base: "", cfg: null };
        continue;
      }
      let cfg = copy(VARIANTS[base]);
      try {
        if (link.has(name + "cfg")) cfg = await unpacked(link.get(name + "cfg"));
      } catch {
        problems.push(`its changes to ${base} cannot be read`);
      }
      state[name] = { base, cfg };
    }
    const number = (name, text, least) => {
      const right = /^\d+$/.test(text) && +text >= least;
      if (right) state[name] = +text;
      else problems.push(`"${text}" is no ${name}`);
    };
    if (link.has("classes")) number("classes", link.get("classes"), 0);
    if (link.has("size")) {
      const [height, width] = link.get("size").split("x");
      number("height", height, 1);
      number("width", width ?? "", 1);
    }
    return problems;
  }

  function notice(problems) {
    const box = byId("notice");
    box.hidden = !problems.length;
    box.textContent = problems.length
      ? `This link is damaged: ${problems.join("; ")}. Shown in its place: ` +
        `${title(state.a)}, ${state.classes} classes, ${state.height}×${state.width}.`
      : "";
  }

  // -- the form -------------------------------------------------------------------------------

  /* Return a row as an object, as rows may be lists too. */
  function asObject(row, fields) {
    if (!Array.isArray(row)) return row;
    const names = [...fields, "attention"];
    return Object.fromEntries(row.map((value, index) => [names[index], value]));
  }

  function withRowsAsObjects(cfg) {
    for (const group of Object.values(cfg)) {
      const fields = Object.keys(ROW_FIELDS[group.block_name]);
      group.block_specs = group.block_specs.map((row) => asObject(row, fields));
      for (const row of group.block_specs) {
        if (Array.isArray(row.attention)) {
          row.attention = asObject(row.attention, Object.keys(ATTENTION_FIELDS));
        }
      }
    }
    return cfg;
  }

  function valueOf(input) {
    if (input.type === "checkbox") return input.checked;
    return input.value.trim() === "" || Number.isNaN(+input.value) ? input.value : +input.value;
  }

  function field(path, value, flag, label, change) {
    const input = element("input", {
      type: flag ? "checkbox" : "text",
      inputmode: flag ? null : "decimal",
      "data-path": path,
      "aria-label": `${path} (${label})`,
      value: flag ? null : value,
      checked: flag && Boolean(value),
      on: { [flag ? "change" : "input"]: (event) => change(valueOf(event.target)) },
    });
    return input;
  }

  function selectOf(options, value, label, change, path) {
    const list = options.includes(value) ? options : [value, ...options];
    return element(
      "select",
      { "aria-label": label, "data-path": path, on: { change: (event) => change(event.target.value) } },
      ...list.map((option) => element("option", { value: option, selected: option === value }, option))
    );
  }

  function setOut(name, index, value) {
    // The next block takes what this one gives, in this stage or the next.
    const order = PARTS.filter((part) => state.a.cfg[part]);
    const rows = state.a.cfg[name].block_specs;
    let path = null;
    let next = rows[index + 1];
    if (next) path = `${name}.block_specs[${index + 1}].in`;
    else {
      const after = order[order.indexOf(name) + 1];
      next = after && state.a.cfg[after].block_specs[0];
      path = `${after}.block_specs[0].in`;
    }
    rows[index].out = value;
    if (!next) return;
    next.in = value;
    const input = byId("form").querySelector(`[data-path="${path}"]`);
    if (input) input.value = value;
  }

  function converted(row, blockName) {
    const whole = { in: row.in, out: row.out, stride: row.stride };
    if (blockName === "convbn") return { in: row.in, out: row.out, kernel: 3, stride: row.stride };
    if (blockName === "fused_ib") return { ...whole, expand: row.expand ?? 4, act: false };
    return {
      in: row.in,
      out: row.out,
      start_dw_kernel: 0,
      mid_dw_kernel: 3,
      mid_dw_downsample: true,
      stride: row.stride,
      expand: row.expand ?? 4,
    };
  }

  function rowOf(name, index, row, group) {
    const path = `${name}.block_specs[${index}]`;
    const fields = Object.keys(ROW_FIELDS[group.block_name]);
    const cells = fields.map((key) =>
      element(
        "td",
        {},
        field(`${path}.${key}`, row[key], FLAGS.includes(key), key, (value) => {
          if (key === "out") setOut(name, index, value);
          else row[key] = value;
          changed();
        })
      )
    );
    const rows = group.block_specs;
    const restructure = (action) => () => {
      action();
      group.num_blocks = rows.length;
      showForm();
      changed();
    };
    if (group.block_name === "uib") {
      const toggle = element("input", {
        type: "checkbox",
        checked: Boolean(row.attention),
        "aria-label": path + " has attention",
        "data-path": path + ".attention",
        on: {
          change: restructure(() => {
            if (row.attention) delete row.attention;
            else row.attention = copy(NEW_ATTENTION);
          }),
        },
      });
      cells.push(element("td", {}, toggle));
    }
    cells.push(
      element(
        "td",
        { class: "row-tools" },
        element(
          "button",
          {
            type: "button",
            title: "Add a block like this one behind it",
            "aria-label": `Add a block behind ${path}`,
            on: {
              click: restructure(() => {
                const next = copy(row);
                next.in = row.out;
                next.stride = 1;
                rows.splice(index + 1, 0, next);
              }),
            },
          },
          "+"
        ),
        element(
          "button",
          {
            type: "button",
            title: "Remove this block",
            "aria-label": `Remove ${path}`,
            disabled: rows.length === 1,
            on: {
              click: restructure(() => {
                rows.splice(index, 1);
                const next = rows[index];
                if (next) next.in = row.in;
                else if (index) setOut(name, index - 1, row.out);
              }),
            },
          },
          "×"
        )
      )
    );
    const lines = [element("tr", {}, element("th", { scope: "row" }, String(index)), ...cells)];
    if (group.block_name === "uib" && row.attention) {
      const settings = Object.keys(ATTENTION_FIELDS).map((key) =>
        element(
          "label",
          {},
          key,
          field(`${path}.attention.${key}`, row.attention[key], FLAGS.includes(key), key, (value) => {
            row.attention[key] = value;
            changed();
          })
        )
      );
      const all = element("td", { colspan: fields.length + 3, class: "attention" }, ...settings);
      lines.push(element("tr", {}, all));
    }
    return lines;
  }

  function stageOf(name, group, open) {
    const fields = Object.keys(ROW_FIELDS[group.block_name]);
    const heads = ["", ...fields.map((key) => LABELS[key] || key)];
    if (group.block_name === "uib") heads.push("attention");
    const kind = selectOf(
      name === "head" ? ["convbn"] : Object.keys(ROW_FIELDS),
      group.block_name,
      `${name}: kind of block`,
      (value) => {
        group.block_name = value;
        group.block_specs = group.block_specs.map((row) => converted(row, value));
        if (value !== "uib") delete group.layer_scale;
        showForm();
        changed();
      },
      name + ".block_name"
    );
    const act = selectOf(
      Object.keys(ACTIVATIONS),
      group.act || "relu6",
      `${name}: activation`,
      (value) => {
        if (value === "relu6") delete group.act;
        else group.act = value;
        changed();
      },
      name + ".act"
    );
    const aa = selectOf(
      ["none", ...ANTI_ALIASING],
      group.aa || "none",
      `${name}: anti-aliasing`,
      (value) => {
        if (value === "none") delete group.aa;
        else group.aa = value;
        changed();
      },
      name + ".aa"
    );
    const last = group.block_specs[group.block_specs.length - 1];
    const rows = group.block_specs.flatMap((row, index) => rowOf(name, index, row, group));
    return element(
      "details",
      { "data-stage": name, open },
      element(
        "summary",
        {},
        element("strong", {}, name),
        ` ${group.block_name} × ${group.block_specs.length}, ${last.out} channels`
      ),
      element(
        "div",
        { class: "stage-settings" },
        element("label", {}, "blocks ", kind),
        element("label", {}, "activation ", act),
        element("label", {}, "anti-aliasing ", aa)
      ),
      element(
        "div",
        { class: "wide-table" },
        element(
          "table",
          {},
          element(
            "thead",
            {},
            element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)), element("th"))
          ),
          element("tbody", {}, ...rows)
        )
      )
    );
  }

  /* Build the form anew: after a structural change, or when the JSON was edited and is valid. */
  function showForm() {
    const form = byId("form");
    const open = new Set([...form.querySelectorAll("details[open]")].map((d) => d.dataset.stage));
    let focus = document.activeElement?.dataset?.path;
    try {
      readConfig(state.a.cfg);
    } catch {
      // Only the JSON can be edited until it is a configuration again.
      if (!form.querySelector("details")) {
        form.replaceChildren(element("p", {}, "The form is back when the JSON below is valid."));
      }
      return;
    }
    withRowsAsObjects(state.a.cfg);
    const stages = PARTS.filter((name) => state.a.cfg[name]);
    form.replaceChildren(
      ...stages.map((name) => stageOf(name, state.a.cfg[name], open.has(name)))
    );
    if (focus) form.querySelector(`[data-path="${focus}"]`)?.focus();
  }

  function showJson() {
    const text = byId("json");
    if (document.activeElement !== text) text.value = JSON.stringify(state.a.cfg, null, 2);
  }

  // -- what it comes to -----------------------------------------------------------------------

  function figures(slot) {
    const { classes: numClasses, height, width } = state;
    return { ...summary(slot.cfg, { numClasses, height, width }), spec: readConfig(slot.cfg) };
  }

  function explain(error) {
    const box = byId("error");
    for (const input of byId("form").querySelectorAll("[aria-invalid]")) {
      input.removeAttribute("aria-invalid");
      input.removeAttribute("aria-describedby");
    }
    for (const name of ["totals", "results"]) {
      byId(name).classList.toggle("is-stale", Boolean(error));
    }
    box.hidden = !error;
    if (!error) {
      box.replaceChildren();
      return;
    }
    box.replaceChildren(element("p", {}, error.message));
    const path = error.path || "";
    const input = byId("form").querySelector(`[data-path="${path}"]`);
    if (input) {
      input.setAttribute("aria-invalid", "true");
      input.setAttribute("aria-describedby", "explorer-error");
      input.closest("details").open = true;
      const stage = element(
        "button",
        { type: "button", on: { click: () => input.focus() } },
        "Go to " + path
      );
      box.append(stage);
    }
  }

  /* A line a model, so that the table is low enough to stay in sight. */
  function totals(pair) {
    const columns = [
      ["parameters", "params", count],
      ["multiply-adds", "macs", count],
      ["activations", "activations", megabytes],
    ];
    const rows = pair.map(([name, slot, result]) =>
      element(
        "tr",
        {},
        element(
          "th",
          { scope: "row" },
          element("span", { class: `swatch bar-${name}` }),
          element("span", { class: "totals-name" }, title(slot))
        ),
        ...columns.map(([, key, write]) =>
          element("td", { "data-total": `${name}-${key}`, "data-value": result[key] }, write(result[key]))
        )
      )
    );
    if (pair.length === 2) {
      const [first, second] = pair.map(([, , result]) => result);
      const ratios = columns.map(([, key]) =>
        element("td", {}, (second[key] / first[key]).toFixed(2))
      );
      rows.push(element("tr", {}, element("th", { scope: "row" }, "second ÷ first"), ...ratios));
    }
    const heads = ["", ...columns.map(([label]) => label)];
    return element(
      "table",
      { class: "totals" },
      element("thead", {}, element("tr", {}, ...heads.map((h) => element("th", { scope: "col" }, h)))),
      element("tbody", {}, ...rows)
    );
  }

  function byPart(result, key) {
    const sums = {};
    for (const row of result.layers) sums[row.part] = (sums[row.part] || 0) + row[key];
    return sums;
  }

  function charts(pair) {
    const series = (key) =>
      pair.map(([, slot, result]) => ({ name: title(slot), values: byPart(result, key) }));
    return element(
      "div",
      { class: "charts" },
      bars("Parameters", PARTS, series("params"), short),
      bars("Multiply-adds", PARTS, series("macs"), short),
      bars("Activation memory, float32", PARTS, series("activations"), megabytes)
    );
  }

  /* The rows of a table: layers as lucid.summary lists them, or the sums of each block. */
  function tableRows(result, whole) {
    if (!whole) return result.layers;
    const blocks = new Map();
    for (const row of result.layers) {
      const name = blockName(row.name);
      const block = blocks.get(name);
      if (!block) blocks.set(name, { ...row, name, kind: kindOf(row, name) });
      else {
        block.output = row.output;
        for (const key of ["params", "macs", "activations"]) block[key] += row[key];
      }
    }
    return [...blocks.values()];
  }

  function blockName(name) {
    return (/^(?:layers\.\d+|conv0|head)\.\w+_\d+/.exec(name) || [name])[0];
  }

  function kindOf(row, name) {
    const block = /\.(convbn|fused_ib|uib|attention)_\d+$/.exec(name);
    const kinds = {
      convbn: "Sequential",
      fused_ib: "_InvertedResidual",
      uib: "_UniversalInvertedBottleneck",
      attention: "_MobileAttention",
    };
    return block ? kinds[block[1]] : row.kind;
  }

  function layerTable(slot, result) {
    const whole = byId("rows").value === "blocks";
    const rows = tableRows(result, whole).map((row) =>
      element(
        "tr",
        {},
        element("td", {}, element("code", {}, row.name)),
        element("td", {}, row.kind),
        element("td", {}, shapeText(row.output)),
        element("td", { class: "number" }, count(row.params)),
        element("td", { class: "number" }, count(row.macs))
      )
    );
    const head = ["layer", "kind", "output shape", "parameters", "multiply-adds"];
    return element(
      "div",
      { class: "wide-table layers", tabindex: 0, role: "region", "aria-label": "Layers of " + title(slot) },
      element(
        "table",
        {},
        element("thead", {}, element("tr", {}, ...head.map((h) => element("th", { scope: "col" }, h)))),
        element("tbody", {}, ...rows)
      )
    );
  }

  // -- the diagram ----------------------------------------------------------------------------

  function uibForm(block) {
    const { start_dw_kernel: start, mid_dw_kernel: mid } = block;
    return start ? (mid ? "ExtraDW" : "ConvNext") : mid ? "IB" : "FFN";
  }

  function describe(group, block) {
    const stride = block.stride > 1 ? `, stride ${block.stride}` : "";
    if (group.blockName === "convbn") {
      return ["conv", `convbn ${block.kernel}×${block.kernel}${stride}`];
    }
    if (group.blockName === "fused_ib") return ["fused", `fused_ib, expand ${block.expand}${stride}`];
    const kernels = `${block.start_dw_kernel}/${block.mid_dw_kernel}`;
    return ["uib", `${uibForm(block)} ${kernels}, expand ${block.expand}${stride}`];
  }

  /* A flowchart with a box for each block, equal neighbours folded into one. */
  function mermaid(slot, result) {
    const blocks = new Map(tableRows(result, true).map((row) => [row.name, row]));
    const lines = ["flowchart LR"];
    const text = (shape) => `(${shape.join(",")})`;
    const first = result.layers[0];
    const last = result.layers[result.layers.length - 1];
    lines.push(`input(["Input<br/>${text(first.input)}"]):::edge`);
    const chain = ["input"];
    const { stages, head } = result.spec;
    const stageBoxes = (group, prefix) => {
      lines.push(`subgraph ${group.name}["${group.name}"]`, "direction TB");
      const boxes = [];
      const put = (kind, label, row) => {
        const input = row.input;
        const residual = same(input, row.output) && kind !== "conv" ? " + input" : "";
        const key = kind + label + text(input) + text(row.output);
        const before = boxes[boxes.length - 1];
        if (before && before.key === key) before.times += 1;
        else boxes.push({ key, kind, label: label + residual, input, output: row.output, times: 1 });
      };
      group.blocks.forEach((block, index) => {
        const row = blocks.get(`${prefix}.${group.blockName}_${index}`);
        put(...describe(group, block), row);
        if (block.attention) {
          const { num_heads: heads, key_dim: dim } = block.attention;
          const attention = blocks.get(`${prefix}.attention_${index}`);
          put("attention", `attention, ${heads} heads of ${dim}`, { ...attention, output: attention.input });
        }
      });
      boxes.forEach((box, index) => {
        const id = `${group.name}_${index}`;
        const times = box.times > 1 ? ` x ${box.times}` : "";
        const shapes = `${text(box.input)} → ${text(box.output)}`;
        lines.push(`${id}["${box.label}${times}<br/>${shapes}"]:::${box.kind}`);
        chain.push(id);
      });
      lines.push("end");
    };
    stages.forEach((group, index) => stageBoxes(group, index ? `layers.${index - 1}` : "conv0"));
    lines.push(`pool["AdaptiveAvgPool2d"]:::pool`);
    chain.push("pool");
    if (head) stageBoxes(head, "head");
    if (state.classes) {
      lines.push(`classifier["Linear"]:::linear`);
      chain.push("classifier");
    }
    lines.push(`output(["Output<br/>${text(last.output)}"]):::edge`);
    chain.push("output");
    for (let i = 1; i < chain.length; i += 1) lines.push(`${chain[i - 1]} --> ${chain[i]}`);
    const colours = {
      edge: "#fff3cd,stroke:#a67c00",
      conv: "#ffe8e8,stroke:#c53030",
      fused: "#feebc8,stroke:#c05621",
      uib: "#e6fffa,stroke:#2c7a7b",
      attention: "#faf5ff,stroke:#6b46c1",
      pool: "#fefcbf,stroke:#b7791f",
      linear: "#ebf8ff,stroke:#2b6cb0",
    };
    for (const [name, colour] of Object.entries(colours)) {
      lines.push(`classDef ${name} fill:${colour},color:#1a202c`);
    }
    const groups = [...stages, ...(head ? [head] : [])].map((group) => group.name);
    lines.push("classDef group fill:#8080801a,stroke:#808080", `class ${groups.join(",")} group`);
    return lines.join("\n");
  }

  function showDiagrams(pair) {
    const holder = byId("diagrams");
    for (const name of ["a", "b"]) {
      const one = pair.find(([slot]) => slot === name);
      let figure = holder.querySelector(`[data-slot="${name}"]`);
      if (!one) {
        figure?.remove();
        continue;
      }
      if (!figure) {
        figure = element("figure", { "data-slot": name }, element("figcaption"), element("div"));
        holder.append(figure);
      }
      const [, slot, result] = one;
      figure.firstElementChild.textContent = title(slot);
      const code = mermaid(slot, result);
      if (figure.dataset.code !== code) {
        figure.dataset.code = code;
        window.LucidDiagrams.draw(figure.lastElementChild, code, "Diagram of " + title(slot));
      }
    }
  }

  // -- showing --------------------------------------------------------------------------------

  let drawing = 0; // a diagram takes longer than a keystroke
  function show() {
    let problem = null;
    try {
      shown.a = figures(state.a);
    } catch (error) {
      problem = error;
    }
    if (problem && !problem.path && !(problem instanceof window.LucidModel.ConfigError)) throw problem;
    try {
      shown.b = state.b.cfg ? figures(state.b) : null;
    } catch {
      notice([`what it calls ${state.b.base} is no configuration`]);
      state.b = { base: "", cfg: null };
      shown.b = null;
    }
    explain(problem);
    byId("title").textContent = title(state.a);
    byId("reset").disabled = !isEdited(state.a);
    for (const name of ["classes", "height", "width"]) {
      if (document.activeElement !== byId(name)) byId(name).value = state[name];
    }
    byId("variant").value = state.a.base;
    showOther();
    if (problem || !shown.a) return;
    const pair = [["a", state.a, shown.a]];
    if (shown.b) pair.push(["b", state.b, shown.b]);
    byId("results").classList.toggle("has-two", pair.length === 2);
    byId("totals").replaceChildren(totals(pair));
    byId("charts").replaceChildren(legend(pair), charts(pair));
    byId("layers").replaceChildren(
      ...pair.map(([, slot, result]) =>
        element("figure", {}, element("figcaption", {}, title(slot)), layerTable(slot, result))
      )
    );
    window.clearTimeout(drawing);
    drawing = window.setTimeout(() => showDiagrams(pair), drawing ? 300 : 0);
  }

  function legend(pair) {
    return element(
      "p",
      { class: "legend" },
      ...pair.map(([name, slot]) =>
        element("span", {}, element("span", { class: `swatch bar-${name}` }), title(slot))
      )
    );
  }

  function showOther() {
    const select = byId("other");
    const kept = isEdited(state.b);
    const options = [
      element("option", { value: "" }, "nothing"),
      ...Object.keys(VARIANTS).map((name) => element("option", { value: name }, name)),
      element("option", { value: "this" }, "the first model as it is now"),
    ];
    if (kept) options.push(element("option", { value: "kept" }, title(state.b)));
    select.replaceChildren(...options);
    select.value = kept ? "kept" : state.b.base;
  }

  let timer = 0;
  function changed() {
    notice([]);
    showJson();
    show();
    window.clearTimeout(timer);
    timer = window.setTimeout(writeLink, 150);
  }

  function everything() {
    showForm();
    showJson();
    show();
  }

  function wholeNumber(name, least) {
    byId(name).addEventListener("input", (event) => {
      const value = event.target.value.trim();
      const right = /^\d{1,6}$/.test(value) && +value >= least;
      event.target.toggleAttribute("aria-invalid", !right);
      event.target.setCustomValidity(right ? "" : `expected a whole number of at least ${least}`);
      event.target.reportValidity();
      if (!right) return;
      state[name] = +value;
      changed();
    });
  }

  function listen() {
    const select = byId("variant");
    select.replaceChildren(
      ...Object.keys(VARIANTS).map((name) => element("option", { value: name }, name))
    );
    select.addEventListener("change", () => {
      state.a = { base: select.value, cfg: copy(VARIANTS[select.value]) };
      showForm();
      changed();
    });
    byId("other").addEventListener("change", (event) => {
      const value = event.target.value;
      if (value === "kept") return;
      if (value === "this") {
        const cfg = shown.a && !byId("results").classList.contains("is-stale") ? state.a.cfg : null;
        state.b = { base: state.a.base, cfg: copy(cfg || VARIANTS[state.a.base]) };
      } else state.b = { base: value, cfg: value ? copy(VARIANTS[value]) : null };
      changed();
    });
    byId("reset").addEventListener("click", () => {
      state.a.cfg = copy(VARIANTS[state.a.base]);
      everything();
      changed();
    });
    byId("json").addEventListener("input", (event) => {
      let cfg;
      try {
        cfg = JSON.parse(event.target.value);
      } catch (error) {
        explain({ message: "This is no JSON: " + error.message });
        return;
      }
      state.a.cfg = cfg;
      showForm();
      changed();
    });
    byId("rows").addEventListener("change", show);
    byId("copy").addEventListener("click", async () => {
      await writeLink();
      const done = byId("copied");
      try {
        await navigator.clipboard.writeText(window.location.href);
        done.textContent = "copied";
      } catch {
        done.textContent = "the link is in the address bar";
      }
      window.setTimeout(() => (done.textContent = ""), 2500);
    });
    wholeNumber("classes", 0);
    wholeNumber("height", 1);
    wholeNumber("width", 1);
    window.addEventListener("hashchange", async () => {
      notice(await readLink());
      everything();
    });
  }

  async function start() {
    listen();
    notice(await readLink());
    everything();
    await writeLink();
    byId("app").dataset.ready = "true";
  }

  start();
})();
