"use strict";
// Elements are made here and nowhere else: text becomes text nodes, so that no name of a model is ever read as markup.
window.Q = (function () {
  const SVG = "http://www.w3.org/2000/svg";

  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "on") for (const [event, call] of Object.entries(value)) element.addEventListener(event, call);
      else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
      else element.setAttribute(name, value === true ? "" : String(value));
    }
    for (const child of children.flat(Infinity)) {
      if (child === null || child === undefined || child === false) continue;
      element.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
    return element;
  }

  function h(tag, attributes, ...children) {
    return fill(document.createElement(tag), attributes, children);
  }

  function svg(tag, attributes, ...children) {
    return fill(document.createElementNS(SVG, tag), attributes, children);
  }

  // A command that prints the same figures.
  function command(text) {
    if (!text) return null;
    const done = h("span", { class: "copied", role: "status" });
    const copy = () => {
      if (!navigator.clipboard) return;
      navigator.clipboard.writeText(text).then(() => { done.textContent = "copied"; }, () => { done.textContent = ""; });
      window.setTimeout(() => { done.textContent = ""; }, 1500);
    };
    return h("p", { class: "command" }, h("code", {}, text),
      h("button", { type: "button", class: "copy", title: "Copy this command", "aria-label": "Copy: " + text,
                    on: { click: copy } }, "copy"), done);
  }

  // A choice among a few, as buttons of which one is pressed.
  function choice(label, options, chosen, pick) {
    const buttons = options.map((option) => h("button", {
      type: "button", class: "pill", "aria-pressed": String(option.key === chosen), "data-key": option.key,
      title: option.title || null, on: { click: () => { press(option.key); pick(option.key); } },
    }, option.label, option.count === undefined ? null : h("span", { class: "count" }, option.count)));
    function press(key) {
      buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.key === key)));
    }
    return h("div", { class: "choice", role: "group", "aria-label": label }, h("span", { class: "label" }, label), buttons);
  }

  function select(label, options, chosen, pick) {
    const list = h("select", { "aria-label": label, on: { change: () => pick(list.value) } },
      options.map((option) => h("option", { value: option.key, selected: option.key === chosen }, option.label)));
    return h("label", { class: "field" }, h("span", { class: "label" }, label), list);
  }

  function number(value, digits) {
    if (value === null || value === undefined) return "–";
    return value.toFixed(digits);
  }

  function signed(value, digits) {
    if (value === null || value === undefined) return "–";
    const text = value.toFixed(digits);
    return (value > 0 ? "+" : value < 0 ? "" : "") + text.replace("-", "−");
  }

  function missing() {
    return h("span", { class: "missing", "aria-label": "not known" }, "–");
  }

  function notes(lines) {
    return lines && lines.length ? h("ul", { class: "notes" }, lines.map((line) => h("li", {}, line))) : null;
  }

  function empty(text) {
    return h("p", { class: "empty" }, text);
  }

  return { h, svg, command, choice, select, number, signed, missing, notes, empty };
})();
