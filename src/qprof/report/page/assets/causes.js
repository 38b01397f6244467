"use strict";
// Causes as cards: what became of the test is in the title, what it costs at its right; the settled ones are folded.
(function () {
  const { h, svg } = Q;

  const STATUS = {
    confirmed: { mark: "●", word: "Confirmed", title: (claim) => claim },
    partial: { mark: "◐", word: "Partly", title: (claim) => "In part: " + claim },
    consistent: { mark: "○", word: "Consistent", title: (claim) => "The recording agrees: " + claim },
    counted: { mark: "#", word: "Counted", title: (claim) => claim },
    hypothesis: { mark: "?", word: "Untested", title: (claim) => "Not tested: " + claim },
    inconclusive: { mark: "~", word: "Inconclusive", title: (claim) => "The test did not decide: " + claim },
    refuted: { mark: "✕", word: "Refuted", title: (claim) => "It is not so: " + claim },
  };
  const FIGURES = [
    { key: "latency", label: "Latency" }, { key: "accuracy", label: "Accuracy" }, { key: "size", label: "Size" },
    { key: "memory", label: "Memory" }, { key: "energy", label: "Energy" },
  ];

  function si(value, units) {
    const size = Math.abs(value);
    const [factor, unit] = units.find(([least]) => size >= least) || units[units.length - 1];
    const scaled = size / factor;
    const digits = scaled >= 100 ? 0 : scaled >= 10 ? 1 : 2;
    return (value > 0 ? "+" : value < 0 ? "−" : "") + scaled.toFixed(digits) + " " + unit;
  }

  function cost(figure, value) {
    if (figure === "latency") return si(value, [[1e6, "s"], [1e3, "ms"], [1, "µs"]].map(([f, u]) => [f, u]));
    if (figure === "energy") return si(value, [[1, "J"], [1e-3, "mJ"], [1e-6, "µJ"]]);
    if (figure === "accuracy") return Q.signed(value * 100, 2) + " pt";
    return si(value, [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]]);
  }

  // What was predicted as a band and what was measured as a point with its interval, on one axis with its zero.
  function test(cause) {
    const { predicted, measured } = cause;
    if (!predicted || !measured) return null;
    const values = [0, predicted.low, predicted.high, measured.value, measured.low, measured.high]
      .filter((value) => value !== null && value !== undefined);
    const low = Math.min(...values), high = Math.max(...values), room = (high - low || 1) * 0.06;
    const W = 460, H = 44, x = (value) => 8 + (value - low + room) / (high - low + 2 * room) * (W - 16);
    const rule = (a, b, y, name) => svg("line", { x1: x(a), x2: x(b), y1: y, y2: y, class: name });
    return h("figure", { class: "test", role: "img",
                         "aria-label": "predicted " + predicted.text + "; measured " + measured.text },
      svg("svg", { viewBox: `0 0 ${W} ${H}`, width: W, height: H, "aria-hidden": "true" },
        svg("line", { x1: x(0), x2: x(0), y1: 2, y2: H - 2, class: "zero" }),
        svg("rect", { x: x(predicted.low), width: Math.max(2, x(predicted.high) - x(predicted.low)), y: 6, height: 12, rx: 2,
                      class: "predicted" }),
        measured.low !== undefined && measured.low !== null ? rule(measured.low, measured.high, 31, "interval") : null,
        svg("circle", { cx: x(measured.value), cy: 31, r: 4.5, class: "measured" })),
      h("figcaption", {}, h("span", { class: "key band" }), "predicted " + predicted.text, h("br"),
        h("span", { class: "key dot" }), "measured " + measured.text));
  }

  function card(entry, figure) {
    const { cause, pair } = entry, status = STATUS[cause.status];
    const value = cause.costs ? cause.costs[figure] : undefined;
    const evidence = cause.evidence && cause.evidence.length ? h("table", { class: "evidence" },
      h("caption", { class: "hidden" }, "Evidence"),
      h("thead", { class: "hidden" }, h("tr", {}, ["what", "value", "source"].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, cause.evidence.map((item) => h("tr", {}, h("td", {}, item.what),
        h("td", { class: "num" }, item.value), h("td", { class: "source" }, item.source))))) : null;
    return h("details", { class: "card " + cause.status, "data-status": cause.status },
      h("summary", {},
        h("span", { class: "status" }, h("span", { "aria-hidden": "true" }, status.mark + " "), status.word),
        h("span", { class: "claim" }, status.title(cause.claim), h("span", { class: "pair" }, pair)),
        h("span", { class: "cost" }, value === undefined ? "" : cost(figure, value))),
      h("div", { class: "body" },
        h("p", { class: "topic" }, cause.title, cause.mechanism ? " · part of the row “" + cause.mechanism + "”" : ""),
        evidence ? [h("h3", { class: "small" }, "Rests on"), evidence] : null,
        cause.intervention ? [h("h3", { class: "small" }, "Test"), h("p", {}, cause.intervention + (cause.predicted && !cause.measured
          ? "; predicted " + cause.predicted.text : ""))] : null,
        test(cause),
        cause.because ? h("p", { class: "because" }, cause.measured ? cause.because : cause.status === "counted"
          ? cause.because : "Not tested: " + cause.because) : null,
        cause.p_value !== undefined && cause.p_value !== null ? h("p", { class: "soft" }, (cause.p_value < 1e-4 ? "p < 0.0001" : "p = " + cause.p_value.toPrecision(2))
          + ", corrected for the number of tests") : null,
        cause.ops && cause.ops.length ? h("p", { class: "soft ops" }, "In ", cause.ops.map((op, n) => [n ? ", " : "", h("code", {}, op)]),
          cause.more_ops ? ` and ${cause.more_ops} more` : "") : null,
        Q.command(cause.command)));
  }

  const SETTLED = new Set(["refuted"]);

  function causes(run) {
    if (!run.pairs.length) return Q.empty("There is no second variant to compare.");
    const entries = run.pairs.flatMap((pair) => (pair.causes || []).map((cause) => ({
      cause, pair: pair.variant + (run.phases.length > 1 ? ", " + pair.phase : "") + " against " + pair.baseline,
      variant: pair.variant })));
    const known = FIGURES.map((figure) => ({ ...figure,
      count: entries.filter((entry) => entry.cause.costs && entry.cause.costs[figure.key] !== undefined).length }))
      .filter((figure) => figure.count);
    const variants = [...new Set(run.pairs.map((pair) => pair.variant))];
    const list = h("div", { class: "cards" });
    let figure = known.length ? known[0].key : "latency", variant = "";

    function draw() {
      const mine = entries.filter((entry) => !variant || entry.variant === variant);
      const size = (entry) => Math.abs(entry.cause.costs[figure]);
      const costed = mine.filter((entry) => entry.cause.costs && entry.cause.costs[figure] !== undefined)
        .sort((a, b) => size(b) - size(a));
      const open = costed.filter((entry) => !SETTLED.has(entry.cause.status));
      const without = mine.filter((entry) => !entry.cause.costs || !Object.keys(entry.cause.costs).length);
      const settled = [...costed, ...without].filter((entry) => SETTLED.has(entry.cause.status));
      const more = without.filter((entry) => !SETTLED.has(entry.cause.status));
      const idle = [...new Set(run.pairs.filter((pair) => !variant || pair.variant === variant)
        .map((pair) => (pair.not_applicable || [])).reduce((a, b) => (a === null ? b : a.filter((x) => b.includes(x))), null) || [])];
      list.replaceChildren(...[
        ...open.map((entry) => card(entry, figure)),
        open.length ? null : Q.empty("No cause is known for a difference in " + figure + "."),
        more.length ? h("details", { class: "folded" }, h("summary", {}, more.length + " more that account for no part of a difference by themselves"),
          more.map((entry) => card(entry, figure))) : null,
        settled.length ? h("details", { class: "folded" }, h("summary", {}, settled.length + " refuted"),
          settled.map((entry) => card(entry, figure))) : null,
        idle.length ? h("details", { class: "folded" }, h("summary", {}, idle.length + " not applicable: nothing that was recorded speaks for them"),
          h("ul", { class: "columns" }, idle.map((title) => h("li", {}, title)))) : null,
      ].filter(Boolean));
    }

    draw();
    return h("div", {},
      h("div", { class: "toolbar" },
        known.length ? Q.choice("Sort by what it costs in", known, figure, (key) => { figure = key; draw(); }) : null,
        variants.length > 1 ? Q.select("Variant", [{ key: "", label: "all variants" }, ...variants.map((name) => ({ key: name, label: name }))],
          "", (key) => { variant = key; draw(); }) : null),
      list,
      run.remarks && run.remarks.length ? h("details", { class: "folded" },
        h("summary", {}, run.remarks.length + " on what older metrics, or a timing without warm-up, would show"),
        run.remarks.map((cause) => card({ cause, pair: "" }, figure))) : null);
  }

  Object.assign(Q, { causes });
})();
