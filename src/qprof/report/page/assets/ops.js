"use strict";
// The table of ops that closes: sort, search, filter, and pick ops to read the sum of B − A. Picks show in the charts.
(function () {
  const { h } = Q;
  const REST = new Set(["outside ops", "instrumentation", "sum"]);

  function bar(value, most) {
    const share = most ? Math.min(1, Math.abs(value) / most) * 50 : 0;
    const fill = h("span", { class: "fill " + (value > 0 ? "slower" : "faster"),
      style: { width: share + "%", left: (value > 0 ? 50 : 50 - share) + "%" } });
    return h("span", { class: "bar", "aria-hidden": "true" }, fill);
  }

  function why(row) {
    const changed = row.flags && row.flags.length ? row.flags.join(", ") : row.kind === "inserted" || row.kind === "removed" ? row.kind : "";
    return [row.mechanism, changed].filter(Boolean).join(" · ");
  }

  function view(pair, within) {
    const rows = pair.ops, picked = new Set();
    const sides = pair.sides && pair.sides.length ? pair.sides : ["A", "B"];
    const most = Math.max(...rows.map((row) => Math.abs(row.delta_us.value)), 0);
    const digits = most >= 1000 ? 0 : most >= 10 ? 1 : 2;
    const sum = h("output", { class: "sum", "aria-live": "polite" });
    const has = (key) => rows.some((row) => row[key] !== undefined && row[key] !== null && row[key] !== "");
    const boxes = new Map();

    function tell() {
      const chosen = rows.filter((row) => picked.has(row));
      const total = chosen.reduce((all, row) => all + row.delta_us.value, 0);
      const all = pair.difference_us ? pair.difference_us.value : 0;
      sum.replaceChildren(...(chosen.length ? [
        h("strong", {}, Q.signed(total, digits) + " µs"),
        ` in ${chosen.length} row${chosen.length > 1 ? "s" : ""}` + (all ? `, ${(100 * total / all).toFixed(1)} % of the difference ` : " "),
        h("button", { type: "button", class: "link", on: { click: () => { picked.clear(); boxes.forEach((box) => { box.checked = false; }); tell(); } } }, "clear"),
      ] : [`Pick rows${pair.sides && pair.sides.length ? "" : ", or click points in the charts,"} to add up their ${sides[1]} − ${sides[0]}.`]));
      Q.pick(chosen.map((row) => row.op).filter(Boolean), within);
    }

    function toggle(row, on) {
      if (on) picked.add(row); else picked.delete(row);
      tell();
    }

    const number = (key) => ({ sort: (row) => row[key], cell: (row) => (row[key] === undefined ? Q.missing() : Q.number(row[key], digits)) });
    const columns = [
      { key: "pick", title: h("span", { class: "hidden" }, "pick"), cell: (row) => {
        const box = h("input", { type: "checkbox", "aria-label": "pick " + row.label, on: { change: () => toggle(row, box.checked) } });
        box.checked = picked.has(row);
        boxes.set(row, box);
        return box;
      } },
      { key: "label", title: "op", sort: (row) => row.label, cell: (row) => h("span", { class: "op", title: row.op || row.label }, row.label) },
      { key: "type", title: "type", sort: (row) => row.type || "", cell: (row) => h("span", { class: "soft" }, row.type || (REST.has(row.kind) ? "" : row.kind)) },
      { key: "a_us", title: sides[0], unit: "µs", numeric: true, help: pair.baseline, ...number("a_us") },
      { key: "b_us", title: sides[1], unit: "µs", numeric: true, help: pair.variant, ...number("b_us") },
      { key: "delta", title: `${sides[1]} − ${sides[0]}`, unit: "µs", numeric: true, help: "with its 95 % interval", sort: (row) => row.delta_us.value,
        cell: (row) => [h("span", { class: "delta" }, Q.signed(row.delta_us.value, digits)),
          row.delta_us.low === undefined ? null : h("span", { class: "bounds" }, ` [${Q.signed(row.delta_us.low, digits)}, ${Q.signed(row.delta_us.high, digits)}]`)] },
      { key: "bar", title: h("span", { class: "hidden" }, "bar"), cell: (row) => bar(row.delta_us.value, most) },
      has("mechanism") || has("flags") ? { key: "why", title: "row, and what changed", help: "the row of the waterfall that holds most of it", sort: (row) => why(row), cell: (row) => h("span", { class: "soft" }, why(row)) } : null,
      has("own_sqnr_db") ? { key: "error", title: "error", unit: "dB", numeric: true, help: "SQNR of the op on the baseline's own numbers; less is worse", sort: (row) => row.own_sqnr_db, cell: (row) => (row.own_sqnr_db === undefined ? Q.missing() : row.own_sqnr_db.toFixed(1)) } : null,
      has("bound") ? { key: "bound", title: "bound by", sort: (row) => row.bound, cell: (row) => h("span", { class: "soft" }, row.bound || "") } : null,
    ].filter(Boolean);

    const count = h("span", { class: "soft", role: "status" });
    let text = "", type = "", kind = "";
    const made = Q.table(columns, rows, {
      label: `Ops of ${pair.baseline} (${sides[0]}) and ${pair.variant} (${sides[1]})`, heading: 1, class: "ops", empty: "No op matches.",
      rowClass: (row) => (REST.has(row.kind) ? "rest" : null),
      drawn: (shown) => { count.textContent = `${shown.length} of ${rows.length} rows`; },
    });

    function filter() {
      const needle = text.toLowerCase();
      made.show(rows.filter((row) => (!type || row.type === type) && (!kind || row.kind === kind || (row.mechanism || "") === kind)
        && (!needle || [row.label, row.op, row.type, row.a_kernel, row.b_kernel, row.mechanism, ...(row.flags || [])]
          .some((part) => part && part.toLowerCase().includes(needle)))));
    }

    const types = [...new Set(rows.map((row) => row.type).filter(Boolean))].sort();
    const kinds = [...new Set([...rows.map((row) => row.mechanism).filter(Boolean), ...rows.map((row) => row.kind).filter((k) => k === "inserted" || k === "removed")])];
    const search = h("input", { type: "search", placeholder: "Search ops, types, kernels", "aria-label": "Search ops", on: { input: () => { text = search.value; filter(); } } });
    tell();
    const element = h("div", {},
      h("div", { class: "toolbar" }, h("label", { class: "field grow" }, h("span", { class: "label" }, "Search"), search),
        types.length > 1 ? Q.select("Type", [{ key: "", label: "all types" }, ...types.map((t) => ({ key: t, label: t }))], "", (key) => { type = key; filter(); }) : null,
        kinds.length > 1 ? Q.select("Row", [{ key: "", label: "all rows" }, ...kinds.map((t) => ({ key: t, label: t }))], "", (key) => { kind = key; filter(); }) : null,
        count),
      h("div", { class: "picked" }, sum),
      h("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Table of ops" }, made.element),
      Q.command(pair.ops_command));
    return { element, click: (op) => {
      const row = rows.find((one) => one.op === op);
      if (row) { const on = !picked.has(row); toggle(row, on); const box = boxes.get(row); if (box) box.checked = on; }
    }, leave: () => Q.pick([], within) };
  }

  function ops(run) {
    const pairs = run.pairs.filter((pair) => pair.ops && pair.ops.length);
    if (!pairs.length) return Q.empty("The ops were not timed in this run (protocol.profiled), or there is no second variant.");
    const place = h("div", {});
    let current = null;
    const show = (key) => { if (current) current.leave(); current = view(pairs[Number(key)], place); place.replaceChildren(current.element); };
    Q.onPick((op, from) => { if (current && Q.pageOf(from) === Q.pageOf(place)) current.click(op); });
    // The pair that differs most is what a reader wants first.
    const size = (pair) => (pair.difference_us ? Math.abs(pair.difference_us.value) : 0);
    const first = pairs.reduce((best, pair, n) => (size(pair) > size(pairs[best]) ? n : best), 0);
    const name = (pair) => pair.sides && pair.sides.length ? pair.title : `${pair.baseline} (A) → ${pair.variant} (B)` + (run.phases.length > 1 ? ", " + pair.phase : "");
    show(String(first));
    return h("div", {},
      h("div", { class: "toolbar" }, Q.select("Variants", pairs.map((pair, n) => ({ key: String(n), label: name(pair) })), String(first), show)),
      place);
  }

  Object.assign(Q, { ops });
})();
