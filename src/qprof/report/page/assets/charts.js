"use strict";
// Charts: specifications of Vega-Lite, drawn without eval (expressions are interpreted) and in the page's own colours.
(function () {
  const { h } = Q;
  const mounted = new Map(); // element -> {spec, view}
  const pages = new Map(); // of each page of a run, the ops that are picked in it
  const listeners = [];

  function css(name) {
    return window.getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function config() {
    const text = css("--text"), soft = css("--soft"), line = css("--line"), font = css("--font");
    const labels = { labelColor: soft, titleColor: soft, labelFontSize: 11, titleFontSize: 11, labelFont: font,
                     titleFont: font, titleFontWeight: "normal" };
    return {
      background: "transparent", font,
      axis: { ...labels, domainColor: line, tickColor: line, gridColor: css("--grid"), titlePadding: 8 },
      legend: { ...labels, labelColor: text, symbolStrokeWidth: 1.5 },
      header: { ...labels, labelColor: text, labelFontWeight: "bold" },
      text: { color: text, font, fontSize: 11 },
      title: { color: text, font, fontSize: 12 },
      rule: { color: soft }, tick: { color: text }, view: { stroke: null },
    };
  }

  // What is under the pointer, as text.
  const tip = h("div", { class: "tip", role: "tooltip", hidden: true });
  function tooltip(handler, event, item, value) {
    if (value === null || value === undefined || value === "") { tip.hidden = true; return; }
    const entries = typeof value === "object" ? Object.entries(value) : [["", value]];
    tip.replaceChildren(...entries.filter(([, text]) => text !== null && text !== undefined && text !== "undefined")
      .map(([name, text]) => h("div", {}, name ? h("span", { class: "name" }, name) : null, h("span", {}, String(text)))));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, window.innerWidth - box.width - 8);
    const top = event.clientY + 18 + box.height > window.innerHeight ? event.clientY - box.height - 10 : event.clientY + 18;
    tip.style.left = Math.max(8, left) + "px";
    tip.style.top = Math.max(8, top) + "px";
  }

  async function mount(element, spec) {
    const result = await window.vegaEmbed(element, spec, {
      mode: "vega-lite", ast: true, actions: false, renderer: "svg", defaultStyle: false, config: config(),
      tooltip: tooltip, loader: { load: () => Promise.reject(new Error("this page loads nothing")) }, hover: false,
    });
    const known = mounted.get(element);
    if (known && known.view) known.view.finalize();
    mounted.set(element, { spec, view: result.view });
    element.dataset.drawn = "true";
    const picture = element.querySelector("svg");
    if (picture) picture.setAttribute("aria-hidden", "true"); // the figure's own label and table say it in words
    mark(result.view, element);
    result.view.addEventListener("click", (event, item) => {
      if (item && item.datum && item.datum.op) listeners.forEach((call) => call(item.datum.op, element));
    });
    return result.view;
  }

  function visible(element) {
    return element.checkVisibility ? element.checkVisibility() : element.offsetParent !== null;
  }

  const waiting = [];
  function chart(spec, caption, more) {
    if (!spec) return null;
    const place = h("div", { class: "chart", "data-drawn": "false" });
    const figure = h("figure", { class: "figure", role: "group", "aria-label": spec.description || caption || "chart" },
      place, caption || more ? h("figcaption", {}, caption, more || null) : null);
    waiting.push([place, spec]);
    return figure;
  }

  // In sight first, the others when there is time.
  function drawAll() {
    const queue = waiting.splice(0);
    const seen = new Set();
    const draw = ([place, spec]) => {
      if (seen.has(place) || !place.isConnected) return Promise.resolve();
      seen.add(place);
      return mount(place, spec).catch((error) => { place.replaceChildren(Q.empty("This chart cannot be drawn: " + error.message)); });
    };
    const near = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        near.unobserve(entry.target);
        const found = queue.find(([place]) => place === entry.target);
        if (found) draw(found);
      }
    }, { rootMargin: "400px" });
    queue.forEach(([place]) => near.observe(place));
    const idle = window.requestIdleCallback || ((call) => window.setTimeout(call, 50));
    const rest = () => {
      const next = queue.find(([place]) => !seen.has(place) && visible(place));
      if (next) draw(next).then(() => idle(rest));
    };
    idle(rest);
  }

  const stale = new Set();
  function redrawAll() {
    for (const [element, { spec }] of mounted) {
      if (!element.isConnected) mounted.delete(element);
      else if (visible(element)) mount(element, spec);
      else stale.add(element);
    }
  }

  // What was hidden meanwhile has the size and the colours of before.
  function redrawShown() {
    for (const element of [...stale]) {
      if (!visible(element)) continue;
      stale.delete(element);
      mount(element, mounted.get(element).spec);
    }
    window.dispatchEvent(new Event("resize"));
  }

  // What is picked in one run's page shows in that page.
  function pageOf(element) {
    return element.closest("[data-page]");
  }

  function mark(view, element) {
    try { view.signal("picked", pages.get(pageOf(element)) || []).runAsync(); } catch (error) { /* a chart without ops has no such signal */ }
  }

  function pick(ops, within) {
    const page = pageOf(within);
    pages.set(page, ops);
    for (const [element, { view }] of mounted) if (pageOf(element) === page) mark(view, element);
  }

  document.body.append(tip);
  window.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
  Object.assign(Q, { chart, drawAll, redrawAll, redrawShown, pick, pageOf, onPick: (call) => listeners.push(call), css });
})();
