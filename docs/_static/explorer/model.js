/* lucid's MobileNet_V4 in figures: the checks of a configuration, and the layers it describes.
 *
 * This is lucid/models/_config.py, lucid/models/_blocks.py and lucid.summary again, for a page that
 * runs without Python. Tests compare both on published and on random configurations: rows,
 * totals and the words of errors must agree.
 */
(function (root, factory) {
  if (typeof module === "object" && module.exports) module.exports = factory();
  else root.LucidModel = factory();
})(this, function () {
  "use strict";

  const STAGES = ["conv0", "layer1", "layer2", "layer3", "layer4", "layer5"];
  const ACTIVATIONS = {
    relu6: "ReLU6",
    relu: "ReLU",
    gelu: "GELU",
    silu: "SiLU",
    hardswish: "Hardswish",
  };
  const GROUP_KEYS = ["block_name", "num_blocks", "block_specs", "act", "layer_scale", "aa"];
  const ANTI_ALIASING = ["avg", "blur"];

  class ConfigError extends Error {
    constructor(path, text) {
      super("MobileNet_V4 configuration: " + text);
      this.name = "ConfigError";
      this.path = path;
    }
  }

  // -- values, as Python sees and writes them -------------------------------------------------

  const isObject = (v) => typeof v === "object" && v !== null && !Array.isArray(v);
  const isInt = (v) => Number.isInteger(v);
  const isNumber = (v) => Number.isFinite(v);
  const isPositive = (v) => isInt(v) && v >= 1;
  const has = (object, key) => Object.prototype.hasOwnProperty.call(object, key);

  function quoted(text) {
    const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
    const escapes = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", [mark]: "\\" + mark };
    return mark + [...text].map((c) => escapes[c] || c).join("") + mark;
  }

  /* Python's repr() of what JSON can hold, with the keys in order as lucid's messages have them. */
  function repr(value) {
    if (value === null || value === undefined) return "None";
    if (value === true) return "True";
    if (value === false) return "False";
    if (typeof value === "string") return quoted(value);
    if (typeof value === "number") {
      if (Number.isInteger(value) && Math.abs(value) < 1e21) return BigInt(value).toString();
      return String(value).replace(/e([+-])(\d)$/, "e$10$2");
    }
    if (Array.isArray(value)) return "[" + value.map(repr).join(", ") + "]";
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    const items = entries.map(([k, v]) => quoted(k) + ": " + repr(v));
    return "{" + items.join(", ") + "}";
  }

  function fail(path, expected, value) {
    return new ConfigError(path, `${path}: expected ${expected}, got ${repr(value)}`);
  }

  function missing(path, key) {
    const where = path ? path + ": " : "";
    return new ConfigError(path, `${where}the key ${quoted(key)} is missing`);
  }

  const POSITIVE = ["a positive integer", isPositive];
  const KERNEL = ["a positive odd integer", (v) => isPositive(v) && v % 2 === 1];
  const OPTIONAL_KERNEL = [
    "a positive odd integer, or 0 for none",
    (v) => isInt(v) && (v === 0 || (v > 0 && v % 2 === 1)),
  ];
  const EXPAND = ["a number over 0", (v) => isNumber(v) && v > 0];
  const FLAG = ["true or false", (v) => typeof v === "boolean" || v === 0 || v === 1];

  // What computes at all; beyond it, numbers overflow and maps fill the memory.
  const LIMITS = {
    kernel: [1, 255],
    start_dw_kernel: [0, 255],
    mid_dw_kernel: [0, 255],
    expand: [0.001, 1000],
  };
  const ANY_LIMIT = [0, 65536];

  const ATTENTION_FIELDS = {
    num_heads: POSITIVE,
    key_dim: POSITIVE,
    value_dim: POSITIVE,
    query_h_stride: POSITIVE,
    query_w_stride: POSITIVE,
    kv_stride: POSITIVE,
    use_layer_scale: FLAG,
    use_multi_query: FLAG,
    use_residual: FLAG,
  };
  const ROW_FIELDS = {
    convbn: { in: POSITIVE, out: POSITIVE, kernel: KERNEL, stride: POSITIVE },
    fused_ib: { in: POSITIVE, out: POSITIVE, stride: POSITIVE, expand: EXPAND, act: FLAG },
    uib: {
      in: POSITIVE,
      out: POSITIVE,
      start_dw_kernel: OPTIONAL_KERNEL,
      mid_dw_kernel: OPTIONAL_KERNEL,
      mid_dw_downsample: FLAG,
      stride: POSITIVE,
      expand: EXPAND,
    },
  };

  // -- reading --------------------------------------------------------------------------------

  /* Return a row as an object, whether it is written as one or as a list. */
  function named(row, names, optional, path) {
    const everything = [...names, ...optional];
    if (isObject(row)) {
      for (const key of Object.keys(row)) {
        if (!everything.includes(key)) {
          throw fail(path, `only the keys ${everything.join(", ")}`, key);
        }
      }
      for (const name of names) if (!has(row, name)) throw missing(path, name);
      return { ...row };
    }
    if (Array.isArray(row)) {
      if (row.length < names.length || row.length > everything.length) {
        const wanted = names.length + (optional.length ? ` or ${everything.length}` : "");
        throw new ConfigError(
          path,
          `${path}: expected ${wanted} entries [${everything.join(", ")}], ` +
            `got ${quoted(`${row.length} entries ${repr(row)}`)}`
        );
      }
      return Object.fromEntries(row.map((value, index) => [everything[index], value]));
    }
    throw fail(path, "a list or a dictionary", row);
  }

  function checked(row, fields, path) {
    for (const [name, [expected, isRight]] of Object.entries(fields)) {
      if (!isRight(row[name])) throw fail(`${path}.${name}`, expected, row[name]);
      const [low, high] = LIMITS[name] || ANY_LIMIT;
      if (row[name] < low || row[name] > high) {
        throw fail(`${path}.${name}`, `a number from ${low} to ${high}`, row[name]);
      }
    }
    return row;
  }

  function readRow(blockName, value, path) {
    const fields = ROW_FIELDS[blockName];
    const optional = blockName === "uib" ? ["attention"] : [];
    const row = checked(named(value, Object.keys(fields), optional, path), fields, path);
    if (blockName !== "uib") return row;
    if (row.stride > 1 && !row.start_dw_kernel && !row.mid_dw_kernel) {
      throw fail(`${path}.stride`, "1, since no depthwise convolution can carry it", row.stride);
    }
    if (row.attention !== null && row.attention !== undefined) {
      const at = path + ".attention";
      const names = Object.keys(ATTENTION_FIELDS);
      row.attention = checked(named(row.attention, names, [], at), ATTENTION_FIELDS, at);
    } else row.attention = null;
    return row;
  }

  function readGroup(name, group, previous) {
    if (!isObject(group)) {
      throw fail(name, "a dictionary with block_name, num_blocks and block_specs", group);
    }
    for (const key of Object.keys(group)) {
      if (!GROUP_KEYS.includes(key)) throw fail(name, `only the keys ${GROUP_KEYS.join(", ")}`, key);
    }
    for (const key of GROUP_KEYS.slice(0, 3)) if (!has(group, key)) throw missing(name, key);
    const { block_name: blockName, block_specs: rows } = group;
    if (typeof blockName !== "string" || !has(ROW_FIELDS, blockName)) {
      const known = Object.keys(ROW_FIELDS).map(quoted).join(", ");
      throw fail(`${name}.block_name`, `one of ${known}`, blockName);
    }
    if (!Array.isArray(rows) || !rows.length) {
      throw fail(`${name}.block_specs`, "a list with one row a block", rows);
    }
    if (!isInt(group.num_blocks) || group.num_blocks !== rows.length) {
      const expected = `${rows.length}, the number of rows in block_specs`;
      throw fail(`${name}.num_blocks`, expected, group.num_blocks);
    }
    const act = has(group, "act") ? group.act : "relu6";
    if (typeof act !== "string" || !has(ACTIVATIONS, act)) {
      throw fail(`${name}.act`, `one of ${Object.keys(ACTIVATIONS).map(quoted).join(", ")}`, act);
    }
    const scale = has(group, "layer_scale") ? group.layer_scale : null;
    if (scale !== null && !isNumber(scale)) {
      throw fail(`${name}.layer_scale`, "a number to start from, or None for none", scale);
    }
    if (scale !== null && blockName !== "uib") {
      throw fail(`${name}.layer_scale`, "None, since only uib blocks have one", scale);
    }
    const aa = has(group, "aa") ? group.aa : null;
    if (aa !== null && !ANTI_ALIASING.includes(aa)) {
      throw fail(`${name}.aa`, `one of ${ANTI_ALIASING.map(quoted).join(", ")}, or None`, aa);
    }
    const blocks = [];
    rows.forEach((value, index) => {
      const path = `${name}.block_specs[${index}]`;
      const block = readRow(blockName, value, path);
      let before = null;
      let where = "";
      if (blocks.length) [before, where] = [blocks[blocks.length - 1], "the row before"];
      else if (previous) [before, where] = [previous.blocks[previous.blocks.length - 1], previous.name];
      if (before && block.in !== before.out) {
        throw fail(`${path}.in`, `${before.out}, the output channels of ${where}`, block.in);
      }
      blocks.push(block);
    });
    return { name, blockName, act, layerScale: scale, aa, blocks };
  }

  /* Return a configuration as { stages, head }, checked; throws ConfigError. */
  function readConfig(cfg) {
    if (!isObject(cfg)) {
      const type = Array.isArray(cfg) ? "list" : { string: "str", boolean: "bool" }[typeof cfg];
      const name = type || (cfg === null ? "NoneType" : Number.isInteger(cfg) ? "int" : "float");
      const keys = STAGES.join(", ");
      throw new ConfigError("", `expected a dictionary with the keys ${keys}, got ${name}`);
    }
    for (const key of Object.keys(cfg)) {
      if (![...STAGES, "head"].includes(key)) {
        throw fail("top level", `only the keys ${STAGES.join(", ")} and head`, key);
      }
    }
    const stages = [];
    for (const name of STAGES) {
      if (!has(cfg, name)) throw missing("", name);
      stages.push(readGroup(name, cfg[name], stages[stages.length - 1] || null));
    }
    const given = has(cfg, "head") && cfg.head !== null;
    const head = given ? readGroup("head", cfg.head, stages[stages.length - 1]) : null;
    if (head && head.blockName !== "convbn") throw fail("head.block_name", "'convbn'", head.blockName);
    return { stages, head };
  }

  // -- layers ---------------------------------------------------------------------------------

  const product = (shape) => shape.reduce((a, b) => a * b, 1);

  function makeDivisible(value) {
    const rounded = Math.max(8, Math.floor(Math.trunc(value + 4) / 8) * 8);
    return rounded < 0.9 * value ? rounded + 8 : rounded;
  }

  /* Where the stride of a uib block sits: on the middle convolution if there is one and it may. */
  function uibStrides(block) {
    const onMiddle = block.mid_dw_kernel && (block.mid_dw_downsample || !block.start_dw_kernel);
    return onMiddle ? [1, block.stride] : [block.stride, 1];
  }

  /* The rows of lucid.summary, in the order the layers run. */
  class Rows {
    constructor(shape) {
      this.shape = shape;
      this.layers = [];
      this.part = ""; // the stage that the rows belong to
    }

    add(name, kind, output, params, macs) {
      const input = this.shape;
      this.layers.push({ name, kind, input, output, params, macs, part: this.part });
      this.shape = output;
    }

    /* The map that a window leaves, without its channels. */
    size(kernel, stride, padding) {
      return this.shape
        .slice(2)
        .map((length) => Math.floor((length + 2 * padding - kernel) / stride) + 1);
    }

    conv(name, out, kernel, stride, groups = 1) {
      const [n, c] = this.shape;
      const output = [n, out, ...this.size(kernel, stride, Math.floor(kernel / 2))];
      const each = (c / groups) * kernel * kernel;
      this.add(name, "Conv2d", output, out * each, product(output) * each);
    }

    norm(name) {
      this.add(name, "BatchNorm2d", this.shape, 2 * this.shape[1], 0);
    }

    /* The pooling that has the stride in the place of a convolution. */
    pool(name, aa, stride) {
      const [n, c] = this.shape;
      if (aa === "avg") {
        const size = this.size(stride, stride, 0);
        if (Math.min(...size) < 1) {
          const given = this.shape.slice(2).join("×");
          const path = `${this.part}.aa`;
          const text = `windows of ${stride}×${stride} do not fit into a map of ${given}`;
          throw new ConfigError(path, `${path}: ${text}; take larger images`);
        }
        this.add(name, "AvgPool2d", [n, c, ...size], 0, 0);
      } else {
        const output = [n, c, ...this.size(3, stride, Math.floor((stride + 1) / 2))];
        this.add(name, "_BlurPool", output, 0, 9 * product(output));
      }
    }

    convbn(name, out, kernel, stride, { groups = 1, act = null, layerScale = null, aa = null } = {}) {
      this.conv(name + ".conv", out, kernel, aa ? 1 : stride, groups);
      this.norm(name + ".norm");
      if (act) this.add(name + ".act", ACTIVATIONS[act], this.shape, 0, 0);
      if (layerScale !== null) this.add(name + ".layer_scale", "LayerScale", this.shape, out, 0);
      if (aa && stride > 1) this.pool(name + ".aa", aa, stride);
    }

    fused(name, block, { act, aa }) {
      const hidden = makeDivisible(block.in * block.expand);
      this.convbn(name + ".block.0", hidden, 3, block.stride, { act, aa });
      this.convbn(name + ".block.1", block.out, 1, 1, { act: block.act ? act : null });
    }

    uib(name, block, { act, layerScale, aa }) {
      const hidden = makeDivisible(block.in * block.expand);
      const { start_dw_kernel: start, mid_dw_kernel: mid } = block;
      const [startStride, midStride] = uibStrides(block);
      const none = (part) => this.add(name + part, "Identity", this.shape, 0, 0);
      const own = { groups: block.in, aa };
      if (start) this.convbn(name + ".start_dw", block.in, start, startStride, own);
      else none(".start_dw");
      this.convbn(name + ".expand", hidden, 1, 1, { act });
      if (mid) this.convbn(name + ".mid_dw", hidden, mid, midStride, { groups: hidden, act, aa });
      else none(".mid_dw");
      this.convbn(name + ".project", block.out, 1, 1, { layerScale });
    }

    attention(name, spec) {
      const input = this.shape;
      const [n, channels, height, width] = input;
      const { num_heads: heads, key_dim: keyDim, value_dim: valueDim, kv_stride: kvStride } = spec;
      const shrunk = [
        Math.ceil(height / spec.query_h_stride),
        Math.ceil(width / spec.query_w_stride),
      ];
      const queries = shrunk[0] * shrunk[1];
      const keys = Math.ceil(height / kvStride) * Math.ceil(width / kvStride);
      this.add(name, "_MobileAttention", input, 0, n * heads * queries * keys * (keyDim + valueDim));
      this.norm(name + ".norm");
      if (spec.query_h_stride > 1 || spec.query_w_stride > 1) {
        this.add(name + ".query.down_pool", "AvgPool2d", [n, channels, ...shrunk], 0, 0);
        this.norm(name + ".query.norm");
      }
      this.conv(name + ".query.proj", heads * keyDim, 1, 1);
      const shared = spec.use_multi_query ? 1 : heads;
      for (const [part, dim] of [["key", keyDim], ["value", valueDim]]) {
        this.shape = input;
        if (kvStride > 1) {
          this.conv(`${name}.${part}.down_conv`, channels, 3, kvStride, channels);
          this.norm(`${name}.${part}.norm`);
        }
        this.conv(`${name}.${part}.proj`, shared * dim, 1, 1);
      }
      this.shape = [n, heads * valueDim, ...shrunk];
      this.conv(name + ".output", channels, 1, 1);
      // Strided queries are brought back to the input's size before the scale.
      this.shape = input;
      if (spec.use_layer_scale) {
        this.add(name + ".layer_scale", "LayerScale", input, channels, 0);
      }
      this.shape = input;
    }

    group(prefix, group) {
      this.part = group.name;
      group.blocks.forEach((block, index) => {
        const name = `${prefix}.${group.blockName}_${index}`;
        if (group.blockName === "convbn") {
          const { act, aa } = group;
          this.convbn(name, block.out, block.kernel, block.stride, { act, aa });
        } else if (group.blockName === "fused_ib") this.fused(name, block, group);
        else {
          this.uib(name, block, group);
          if (block.attention) this.attention(`${prefix}.attention_${index}`, block.attention);
        }
      });
    }
  }

  /* What lucid.summary says of MobileNet_V4(cfg, numClasses) on images of height x width.
   *
   * `activations` counts the elements of all outputs; Identity and Flatten make no new ones.
   */
  function summary(cfg, { numClasses = 1000, batch = 1, height = 224, width = 224 } = {}) {
    const { stages, head } = readConfig(cfg);
    const rows = new Rows([batch, stages[0].blocks[0].in, height, width]);
    stages.forEach((stage, index) => {
      rows.group(index ? `layers.${index - 1}` : "conv0", stage);
    });
    rows.part = "head";
    rows.add("pool", "AdaptiveAvgPool2d", [batch, rows.shape[1], 1, 1], 0, 0);
    if (head) rows.group("head", head);
    const features = rows.shape[1];
    rows.add("flatten", "Flatten", [batch, features], 0, 0);
    if (numClasses) {
      const params = features * numClasses + numClasses;
      rows.add("classifier", "Linear", [batch, numClasses], params, batch * features * numClasses);
    } else rows.add("classifier", "Identity", rows.shape, 0, 0);
    for (const row of rows.layers) {
      row.activations = row.kind === "Identity" || row.kind === "Flatten" ? 0 : product(row.output);
    }
    const total = (key) => rows.layers.reduce((sum, row) => sum + row[key], 0);
    return {
      layers: rows.layers,
      params: total("params"),
      macs: total("macs"),
      activations: total("activations"),
    };
  }

  return {
    ACTIVATIONS,
    ANTI_ALIASING,
    ATTENTION_FIELDS,
    ConfigError,
    ROW_FIELDS,
    STAGES,
    readConfig,
    repr,
    summary,
  };
});
