/* Bars of one figure, stage by stage, for one model or two beside each other. */
(function (root) {
  "use strict";

  function element(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "on") {
        for (const [event, action] of Object.entries(value)) node.addEventListener(event, action);
      } else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) {
        node.setAttribute(name, value);
      }
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  /* `series`: [{ name, values: { part: number } }]; `write` turns a number into its label. */
  function bars(title, parts, series, write) {
    const largest = Math.max(1, ...series.flatMap((s) => parts.map((part) => s.values[part] || 0)));
    const rows = parts.map((part) =>
      element(
        "div",
        { class: "bars-row" },
        element("span", { class: "bars-part" }, part),
        element(
          "div",
          { class: "bars-pair" },
          ...series.map((one, index) => {
            const value = one.values[part] || 0;
            const bar = element("span", { class: `bar bar-${"ab"[index]}` });
            bar.style.width = (100 * value) / largest + "%";
            return element(
              "div",
              { class: "bar-line" },
              element("span", { class: "bar-track" }, bar),
              element("span", { class: "bar-value" }, write(value))
            );
          })
        )
      )
    );
    return element("figure", { class: "bars" }, element("figcaption", {}, title), ...rows);
  }

  root.LucidChart = { bars, element };
})(this);
