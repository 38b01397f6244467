"use strict";
// Flames: the root on top, each frame below the one that holds it. Click or Enter zooms in, Escape out, arrows walk.
(function () {
  const { h, svg } = Q;
  const ROW = 19, WIDTH = 1040, LEAST = 0.4;

  function hash(text) {
    let value = 2166136261;
    for (let n = 0; n < text.length; n += 1) value = Math.imul(value ^ text.charCodeAt(n), 16777619);
    return value >>> 0;
  }

  function amount(value, unit) {
    if (unit !== "µs") return value.toFixed(0) + " " + unit;
    if (value >= 1e6) return (value / 1e6).toPrecision(3) + " s";
    if (value >= 1e3) return (value / 1e3).toPrecision(3) + " ms";
    return value.toPrecision(3) + " µs";
  }

  // Frames with their places: x and width as parts of the whole.
  function placed(tree) {
    const frames = [], used = [];
    for (let n = 0; n < tree.parent.length; n += 1) {
      const parent = tree.parent[n], value = tree.value[n];
      const above = parent < 0 ? null : frames[parent];
      const whole = parent < 0 ? value : frames[0].value;
      const x = above ? above.x + used[parent] / whole : 0;
      if (above) used[parent] += value;
      used.push(0);
      frames.push({ n, parent, value, x, width: whole ? value / whole : 0, depth: above ? above.depth + 1 : 0,
                    name: tree.names[tree.name[n]], before: tree.before && tree.before.length ? tree.before[n] : null, children: [] });
      if (above) above.children.push(n);
    }
    return frames;
  }

  function fill(frame) {
    if (frame.before === null) {
      if (frame.name === "outside the ops") return "var(--flame-outside)";
      const seed = hash(frame.name);
      return `hsl(${28 + seed % 22} ${58 + (seed >> 8) % 18}% var(--flame-light))`;
    }
    if (frame.before === 0) return "hsl(22 75% var(--flame-light))";
    const change = Math.max(-1, Math.min(1, Math.log2(frame.value / frame.before)));
    if (Math.abs(change) < 0.03) return "var(--flame-same)";
    const [hue, strength] = change > 0 ? [22, change] : [213, -change];
    return `hsl(${hue} ${Math.round(25 + 60 * strength)}% calc(var(--flame-light) + ${Math.round(14 - 16 * strength)}%))`;
  }

  function change(frame) {
    if (frame.before === null) return "";
    if (frame.before === 0) return "new";
    const percent = 100 * (frame.value / frame.before - 1);
    return (percent > 0 ? "+" : "") + percent.toFixed(1) + " %";
  }

  function draw(tree) {
    const frames = placed(tree), depth = Math.max(...frames.map((frame) => frame.depth)) + 1;
    const info = h("p", { class: "frame", role: "status" });
    const picture = svg("svg", { class: "flame", viewBox: `0 0 ${WIDTH} ${depth * ROW}`, tabindex: "0", role: "application",
      "aria-label": `Flame of ${tree.title}. Arrow keys walk, Enter zooms in, Escape zooms out.` });
    let top = 0, at = 0, wanted = "";

    function says(frame) {
      const whole = frames[0].value, told = change(frame);
      return `${frame.name}: ${amount(frame.value, tree.unit)}, ${(100 * frame.value / whole).toFixed(1)} %`
        + (told ? (told === "new" ? ", not in A" : `; ${told} against ${amount(frame.before, tree.unit)} in A`) : "");
    }

    function paint() {
      const root = frames[top];
      const shown = frames.filter((frame) => {
        const inside = frame.x >= root.x - 1e-9 && frame.x + frame.width <= root.x + root.width + 1e-9 && frame.depth >= root.depth;
        const holds = frame.depth < root.depth && frame.x <= root.x + 1e-9 && frame.x + frame.width >= root.x + root.width - 1e-9;
        return inside || holds;
      });
      picture.replaceChildren(...shown.map((frame) => {
        const holds = frame.depth < root.depth;
        const x = holds ? 0 : (frame.x - root.x) / root.width * WIDTH, width = holds ? WIDTH : frame.width / root.width * WIDTH;
        if (width < LEAST) return null;
        const room = Math.floor((width - 8) / 6.4), told = change(frame);
        const label = told && room > frame.name.length + told.length + 2 ? frame.name + "  " + told : frame.name;
        const hit = wanted && frame.name.toLowerCase().includes(wanted);
        return svg("g", { class: "frame" + (holds ? " holds" : "") + (hit ? " hit" : "") + (frame.n === at ? " at" : ""),
                          on: { click: () => zoom(frame.n), mouseenter: () => { info.textContent = says(frame); } } },
          svg("rect", { x, y: frame.depth * ROW, width: Math.max(width - 0.6, 0.4), height: ROW - 1, rx: 1.5, style: { fill: fill(frame) } }),
          room < 3 ? null : svg("text", { x: x + 4, y: frame.depth * ROW + 13 }, label.length <= room ? label : label.slice(0, room - 1) + "…"));
      }).filter(Boolean));
      info.textContent = says(frames[at]);
    }

    function zoom(n) { top = n; at = n; paint(); }

    picture.addEventListener("keydown", (event) => {
      const frame = frames[at], parent = frames[frame.parent], beside = parent ? parent.children : [at], place = beside.indexOf(at);
      const next = { ArrowUp: parent ? parent.n : at, ArrowDown: frame.children.length ? frame.children.reduce((a, b) => (frames[b].value > frames[a].value ? b : a)) : at,
        ArrowLeft: beside[Math.max(0, place - 1)], ArrowRight: beside[Math.min(beside.length - 1, place + 1)] }[event.key];
      if (next !== undefined) { at = next; if (frames[at].depth < frames[top].depth) top = at; paint(); event.preventDefault(); }
      else if (event.key === "Enter" || event.key === " ") { zoom(at); event.preventDefault(); }
      else if (event.key === "Escape") { zoom(0); event.preventDefault(); }
    });

    paint();
    const heaviest = frames.map((frame) => ({ frame, own: frame.value - frame.children.reduce((all, n) => all + frames[n].value, 0) }))
      .sort((a, b) => b.own - a.own).slice(0, 12);
    const list = h("details", { class: "about" }, h("summary", {}, "The heaviest frames as a table"),
      Q.table([
        { key: "name", title: "frame", sort: (row) => row.frame.name, cell: (row) => row.frame.name },
        { key: "own", title: "of its own", numeric: true, sort: (row) => row.own, cell: (row) => amount(Math.max(row.own, 0), tree.unit) },
        { key: "all", title: "with what it holds", numeric: true, sort: (row) => row.frame.value, cell: (row) => amount(row.frame.value, tree.unit) },
        tree.against ? { key: "change", title: "against A", numeric: true, sort: (row) => row.frame.value - (row.frame.before || 0), cell: (row) => change(row.frame) } : null,
      ].filter(Boolean), heaviest, { label: "The heaviest frames of " + tree.title }).element);
    return { element: h("div", { class: "flames" }, picture, info,
      tree.against ? h("p", { class: "legend" }, h("span", { class: "swatch faster" }), "less than in A ", h("span", { class: "swatch same" }), "as in A ",
        h("span", { class: "swatch slower" }), "more than in A, or new; the change stands in each frame that has room") : null,
      tree.gone && tree.gone.length ? h("details", { class: "about" }, h("summary", {}, "Only in A"), h("ul", { class: "notes" }, tree.gone.map((fact) => h("li", {}, fact.name + ": " + fact.value)))) : null,
      list, Q.notes([tree.source, ...(tree.notes || [])]), Q.command(tree.command)),
      search: (text) => { wanted = text.toLowerCase(); paint(); }, reset: () => zoom(0) };
  }

  function flames(run) {
    const trees = run.flames || [];
    if (!trees.length) return Q.empty("Neither the ops were timed nor stacks sampled in this run.");
    const kinds = [...new Set(trees.map((tree) => tree.kind))].map((key) => ({ key, label: key === "model" ? "The model's parts" : "The host's stacks" }));
    const place = h("div", {}), pickers = h("div", { class: "toolbar" });
    const search = h("input", { type: "search", placeholder: "Search frames", "aria-label": "Search frames", on: { input: () => current && current.search(search.value) } });
    let kind = kinds[0].key, current = null, chosen = 0;

    function show(key) {
      chosen = Number(key);
      current = draw(trees[chosen]);
      if (search.value) current.search(search.value);
      place.replaceChildren(current.element);
    }

    function offer() {
      const mine = trees.map((tree, n) => ({ tree, key: String(n) })).filter((one) => one.tree.kind === kind);
      const many = new Set(mine.map((one) => one.tree.phase)).size > 1;
      const label = ({ tree }) => (tree.against ? `${tree.against} → ${tree.variant} (difference)` : tree.variant) + (many ? ", " + tree.phase : "");
      pickers.replaceChildren(...[
        kinds.length > 1 ? Q.choice("Show", kinds, kind, (key) => { kind = key; offer(); }) : null,
        Q.select("Variant", mine.map((one) => ({ key: one.key, label: label(one) })), mine[0].key, show),
        h("label", { class: "field grow" }, h("span", { class: "label" }, "Search"), search),
        h("button", { type: "button", class: "pill", on: { click: () => current.reset() } }, "Zoom out"),
      ].filter(Boolean));
      show(mine[0].key);
    }

    offer();
    return h("div", {}, pickers, place);
  }

  Object.assign(Q, { flames });
})();
