"use strict";
// The page, section by section, from the data inside it.
(function () {
  const { h } = Q;
  const report = JSON.parse(document.getElementById("report-data").textContent);
  const specs = JSON.parse(document.getElementById("chart-data").textContent);

  // What is empty is left out of the data.
  function filled(run) {
    const lists = ["phases", "alarms", "variants", "pairs", "lost", "remarks", "distributions", "rooflines", "layers", "power", "flames",
                   "curves", "examples", "audits", "machine", "versions", "protocol", "notes"];
    lists.forEach((name) => { run[name] = run[name] || []; });
    run.tables = run.tables || {};
    run.pairs.forEach((pair) => ["rows", "unexplained", "causes", "not_applicable", "ops"].forEach((name) => { pair[name] = pair[name] || []; }));
    return run;
  }

  // A section that cannot be drawn says so, and takes nothing from the others.
  function drawn(id, title, make) {
    try {
      return make();
    } catch (error) {
      console.error(error);
      return section(id, title, null, Q.empty("This section cannot be drawn: " + error.message));
    }
  }

  function section(id, title, lead, ...content) {
    return h("section", { id, "aria-labelledby": id + "-title" },
      h("h2", { id: id + "-title" }, h("a", { href: "#" + id, class: "anchor", tabindex: "-1", "aria-hidden": "true" }, "#"), title),
      lead ? h("p", { class: "lead" }, lead) : null, content);
  }

  function facts(list) {
    return h("dl", { class: "facts" }, (list || []).map((fact) => h("div", {}, h("dt", {}, fact.name), h("dd", {}, fact.value))));
  }

  // The name stands above in large letters.
  function shortened(text, deploy) {
    const rest = text.startsWith(`Deploy ${deploy}: `) ? text.slice(`Deploy ${deploy}: `.length) : text;
    return rest[0].toUpperCase() + rest.slice(1);
  }

  function answer(run) {
    const { deploy, sentences, doubts, trades, command } = run.answer;
    return h("section", { id: "answer", class: "answer", "aria-label": "Answer" },
      h("p", { class: "kicker" }, deploy ? "Deploy" : "No recommendation"),
      deploy ? h("p", { class: "deploy" }, deploy) : null,
      h("div", { class: "sentences" }, sentences.map((text, n) => h("p", {}, n === 0 && deploy ? shortened(text, deploy) : text))),
      doubts && doubts.length ? h("ul", { class: "notes" }, doubts.map((text) => h("li", {}, text))) : null,
      Q.grid(run.tables.summary, { rowClass: (row) => (row.variant === deploy ? "chosen" : null) }),
      trades && trades.length > 1 ? h("details", { class: "about" }, h("summary", {}, "What each variant gains and costs"), facts(trades)) : null,
      run.tables.verdicts && run.tables.verdicts.rows.length ? h("details", { class: "about" }, h("summary", {}, "Every figure against " + run.baseline + ", with its verdict"),
        Q.grid(run.tables.verdicts, { still: true })) : null,
      run.tables.scores ? h("details", { class: "about" }, h("summary", {}, "Every score"), Q.grid(run.tables.scores, { still: true })) : null);
  }

  const LEVELS = { stop: ["✕", "Stop"], doubt: ["!", "Doubt"], note: ["i", "Note"] };

  function alarmList(list) {
    return h("ul", { class: "alarms" }, list.map((alarm) => {
      const [mark, word] = LEVELS[alarm.level];
      return h("li", { class: "alarm " + alarm.level }, h("span", { class: "mark" }, h("span", { "aria-hidden": "true" }, mark), " " + word),
        h("div", {}, h("p", {}, alarm.title), (alarm.lines || []).map((line) => h("p", { class: "soft" }, line))));
    }));
  }

  function doubts(run) {
    const list = run.alarms || [];
    const failed = (run.audits || []).filter((audit) => !audit.passed).length;
    return section("doubts", "Doubts", null, list.length ? alarmList(list) : h("p", { class: "fine" }, h("span", { "aria-hidden": "true" }, "✓ "),
      failed ? "" : `Nothing speaks against these figures: ${(run.audits || []).length} audits of the measurement passed.`));
  }

  const MOST_OPEN = 4;

  function difference(run, charts) {
    if (!run.pairs.length) return section("difference", "Where the time went", null, Q.empty("There is no second variant to compare."));
    // The largest differences stand open; where two are as fast, there is nothing to take apart.
    const size = (pair) => (pair.difference_us ? Math.abs(pair.difference_us.value) : 0);
    const open = new Set(run.pairs.filter((pair) => pair.verdict !== "equivalent" || pair.stop)
      .sort((a, b) => size(b) - size(a)).slice(0, MOST_OPEN));
    const parts = run.pairs.map((pair, n) => {
      const rows = pair.rows && pair.rows.length ? Q.table([
        { key: "mechanism", title: "row", cell: (row) => row.mechanism },
        { key: "delta", title: "part [95 %]", numeric: true, cell: (row) => { const [value, ...rest] = row.delta_us.text.split(" ["); return [value, rest.length ? h("span", { class: "bounds" }, " [" + rest.join(" [")) : null]; } },
        { key: "sentence", title: "what happened", cell: (row) => row.sentence },
      ], pair.rows, { label: "Rows of " + pair.title, class: "rows" }).element : null;
      const head = h("h3", {}, pair.title, pair.verdict ? [" ", Q.verdict(pair.verdict)] : null);
      return h("details", { class: "pair-part", open: open.has(pair) }, h("summary", {}, head),
        pair.stop ? h("p", { class: "alarm stop" }, h("span", { class: "mark" }, "✕ Not one model"), h("span", {}, pair.stop)) : null,
        charts["waterfall-" + n] ? Q.chart(charts["waterfall-" + n]) : Q.empty("The ops of one of the two were not timed: the difference cannot be taken apart."),
        rows ? h("div", { class: "scroll" }, rows) : null,
        (pair.unexplained || []).map((line) => h("p", { class: "soft unexplained" }, line[0].toUpperCase() + line.slice(1) + ".")),
        Q.command(pair.command));
    });
    return section("difference", "Where the time went",
      "From the baseline's p50 to the variant's, by mechanism; the rows add up to the difference that the rounds show. Orange to the right is slower, blue to the left faster. The last bar is the first and all rows; the variant's p50 by itself may lie a little beside it.", parts);
  }

  function trade(run, charts) {
    const names = ["latency", "memory", "energy", "size"].filter((name) => charts["trade-" + name]);
    const losses = (run.lost || []).map((one) => h("article", {}, h("h3", {}, one.title), h("ul", { class: "notes" }, one.lines.map((line) => h("li", {}, line)))));
    const curves = (run.curves || []).map((curve) => Q.chart(charts["curve-" + curve.name], curve.title));
    return section("trade", run.variants.some((one) => one.score !== undefined) ? "Accuracy against cost" : "Latency against cost",
      "The dashed line joins the variants that no other surpasses in both figures. Bars are 95 % intervals; that of a score is of its difference from the baseline.",
      names.length ? h("div", { class: "pairs" }, names.map((name) => Q.chart(charts["trade-" + name]))) : Q.empty("Fewer than two variants have both figures."),
      curves.length ? h("div", { class: "pairs thirds" }, curves) : null, losses.length ? h("div", { class: "losses" }, losses) : null, Q.command(run.answer.command));
  }

  function latency(run, charts) {
    const parts = run.phases.filter((phase) => charts["times-" + phase]).map((phase) => h("article", {},
      run.phases.length > 1 ? h("h3", {}, phase) : null,
      Q.chart(charts["times-" + phase], "Boxes: quartiles; whiskers: 5th and 95th percentile; dots: inferences, by round from top to bottom."),
      Q.chart(charts["drift-" + phase], "Drift: the median of every round against the variant's p50. What is steady stays at 0 %.")));
    return section("latency", "Latency distributions", null, parts.length ? parts : Q.empty("No clean inference was measured."), Q.command(run.tables.summary && run.tables.summary.command));
  }

  // One of several charts at a time, chosen by name.
  function oneOf(label, entries, first, make) {
    const place = h("div", {});
    const show = (key) => { place.replaceChildren(make(entries[Number(key)])); Q.drawAll(); };
    show(String(first));
    return [entries.length > 1 ? h("div", { class: "toolbar" }, Q.select(label, entries.map((entry, n) => ({ key: String(n), label: entry.label })), String(first), show)) : null, place];
  }

  function roofline(run, charts) {
    const entries = (run.rooflines || []).map((found, n) => ({ found, n, label: found.variant + (run.phases.length > 1 ? ", " + found.phase : "") }));
    return section("roofline", "Roofline", "Each op under what this machine does at most, by ceilings measured on it. The larger the point, the longer the op takes.",
      entries.length ? oneOf("Variant", entries, 0, ({ found, n }) => h("div", {}, Q.chart(charts["roofline-" + n],
        "Time bound by " + Object.entries(found.shares).filter(([, share]) => share >= 0.005).map(([kind, share]) => `${kind} ${(100 * share).toFixed(0)} %`).join(", ") + "."),
        Q.command(found.command))) : Q.empty("No ceilings were measured for these variants (protocol.ceilings), or their ops were not timed."));
  }

  function layers(run, charts) {
    const entries = (run.layers || []).map((found, n) => ({ found, n, label: found.variant }));
    const worst = (found) => Math.min(...found.points.map((point) => (point.own_sqnr_db === undefined ? Infinity : point.own_sqnr_db)));
    const first = entries.reduce((best, entry, n) => (worst(entry.found) < worst(entries[best].found) ? n : best), 0);
    return section("layers", "Error of each layer against its cost", "Low and left: a layer that loses much and costs little, worth leaving in float. The larger the point, the more its weights weigh.",
      entries.length ? oneOf("Variant", entries, first, ({ found, n }) => h("div", {},
        charts["errors-" + n] ? Q.chart(charts["errors-" + n]) : Q.empty("No layer of this variant has an error: its outputs are those of the baseline, or its ops were not timed."),
        h("details", { class: "about" }, h("summary", {}, "All layers as a table"), Q.grid(found.table)))) : Q.empty("The layers were not compared in this run (protocol.layer_errors)."));
  }

  function power(run, charts) {
    const names = Object.keys(charts).filter((name) => name.startsWith("power-"));
    const table = run.tables.energy;
    return section("power", "Energy and power", null,
      names.map((name) => Q.chart(charts[name], name.split("-").slice(2).join("-") + ": one line per block; shaded: its window, whose energy is counted.")),
      table && table.rows.length ? Q.grid(table, { still: true }) : names.length ? null : [Q.empty("No sensor of energy or power was read in this run."), Q.notes(table && table.notes)]);
  }

  function audits(run) {
    const list = run.audits || [];
    return section("audits", "Can the measurement be trusted?", null, list.length ? h("ul", { class: "audits" }, list.map((audit) =>
      h("li", {}, h("span", { class: audit.passed ? "pass" : "fail" }, h("span", { "aria-hidden": "true" }, audit.passed ? "✓ " : "! "), audit.passed ? "ok" : "doubt"),
        h("span", {}, h("strong", {}, audit.name), " " + audit.says)))) : Q.empty("There is nothing to audit."), Q.command(run.answer.command));
  }

  function about(run) {
    return section("about", "Machine, versions, protocol", run.description || null,
      h("div", { class: "about-columns" },
        h("div", {}, h("h3", {}, "Machine"), facts(run.machine)), h("div", {}, h("h3", {}, "Protocol"), facts(run.protocol)),
        h("div", {}, h("h3", {}, "Versions"), facts(run.versions))), Q.notes(run.notes));
  }

  function drawRun(run, charts) {
    const parts = [
      ["answer", "Answer", () => answer(run)],
      ["doubts", "Doubts", () => doubts(run)],
      ["difference", "Where the time went", () => difference(run, charts)],
      ["causes", "Causes", () => section("causes", "Causes", "Each claim with the experiment that could have proved it wrong. Open one to see what it rests on.", Q.causes(run))],
      ["trade", "Accuracy against cost", () => trade(run, charts)],
      ["latency", "Latency distributions", () => latency(run, charts)],
      ["ops", "Op by op", () => section("ops", "Op by op", "The rows add up to the difference end to end. A is the baseline, B the variant.", Q.ops(run))],
      ["roofline", "Roofline", () => roofline(run, charts)],
      ["layers", "Error of each layer against its cost", () => layers(run, charts)],
      ["power", "Energy and power", () => power(run, charts)],
      ["flames", "Where the time nests", () => section("flames", "Where the time nests", "As wide as the time it takes. Click a frame to zoom in.", Q.flames(run))],
      ["examples", "Predictions side by side", () => section("examples", "Predictions side by side", "Those on which the variants differ come first. All of them are in the run's folder, predictions/VARIANT.json.", Q.examples(run))],
      ["audits", "Can the measurement be trusted?", () => audits(run)],
      ["about", "Machine, versions, protocol", () => about(run)],
    ];
    return parts.map(([id, title, make]) => drawn(id, title, make));
  }

  function toggle() {
    const root = document.documentElement;
    const button = h("button", { type: "button", class: "theme", on: { click: () => {
      root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
      try { window.localStorage.setItem("qprof-theme", root.dataset.theme); } catch (error) { /* a page that may keep nothing */ }
      name();
      Q.redrawAll();
    } } });
    function name() {
      const other = root.dataset.theme === "dark" ? "light" : "dark";
      button.replaceChildren(other === "dark" ? "☾ Dark" : "☀ Light");
      button.setAttribute("aria-label", "Switch to the " + other + " theme");
    }
    name();
    return button;
  }

  // Sections of one page and the list that leads to them. `prefix`: of ids, where there are several pages.
  function pageOf(sections, prefix, shown, count) {
    sections.forEach((one) => {
      const title = one.querySelector("h2");
      if (prefix) {
        one.id = prefix + one.id;
        if (title) {
          title.id = one.id + "-title";
          one.setAttribute("aria-labelledby", title.id);
          title.querySelector(".anchor").setAttribute("href", "#" + one.id);
        }
      }
    });
    const links = sections.map((one) => {
      const title = one.querySelector("h2");
      const marked = count && one.id === prefix + "doubts" ? h("span", { class: "count" }, count) : null;
      return h("li", {}, h("a", { href: "#" + one.id }, title ? title.lastChild.textContent : "Answer", marked));
    });
    const nav = h("nav", { "aria-label": "Sections" }, h("ul", {}, links));
    // The section in sight is marked in the list.
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const link = nav.querySelector(`a[href="#${entry.target.id}"]`);
        if (link && entry.isIntersecting) {
          nav.querySelectorAll("a[aria-current]").forEach((one) => one.removeAttribute("aria-current"));
          link.setAttribute("aria-current", "true");
        }
      }
    }, { rootMargin: "-10% 0px -80% 0px" });
    sections.forEach((one) => seen.observe(one));
    return h("div", { class: "frame-of-page", "data-page": prefix || "run" }, nav, h("main", shown, sections));
  }

  function told(run) {
    const machine = run.machine.find((fact) => fact.name === "CPU model");
    const threads = run.protocol.find((fact) => fact.name === "threads");
    return [machine && machine.value, threads && threads.value + " thread" + (threads.value === "1" ? "" : "s"), run.created.slice(0, 16).replace("T", " ")].filter(Boolean).join(" · ");
  }

  function runPage(n, prefix, shown) {
    const run = report.runs[n];
    return pageOf(drawRun(run, specs[n]), prefix, shown, run.alarms.length);
  }

  report.runs.forEach(filled);
  const several = Boolean(report.across);
  const body = several ? Q.across(report, specs[report.runs.length] || {}, { section, alarms: alarmList, told, pageOf, runPage })
    : runPage(0, "", { id: "main", tabindex: "-1" });
  document.getElementById("app").append(
    h("header", { class: "top" }, h("div", { class: "brand" }, "qprof"),
      h("div", { class: "what" }, h("h1", {}, several ? `${report.runs.length} runs side by side` : report.title),
        h("p", {}, (several ? report.title : told(report.runs[0])) + " · qprof " + report.qprof)),
      toggle()), ...[body].flat(Infinity));
  Q.drawAll();

  // On paper the cards are open, since nobody can click them.
  let before = null;
  window.addEventListener("beforeprint", () => {
    before = [...document.querySelectorAll(".cards > details.card:not([open])")];
    before.forEach((one) => { one.open = true; });
  });
  window.addEventListener("afterprint", () => { (before || []).forEach((one) => { one.open = false; }); });
  document.documentElement.dataset.ready = "true";
  performance.mark("ready");
})();
