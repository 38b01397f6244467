"use strict";
// Several runs side by side, and behind tabs each run's own page, which is drawn when it is first opened.
(function () {
  const { h } = Q;

  function differs(report) {
    const rows = report.across.differs.rows || [];
    const letters = report.across.letters;
    const runs = h("dl", { class: "facts sides-of-page" }, report.runs.map((run, n) =>
      h("div", {}, h("dt", {}, h("span", { class: "letter" }, letters[n]), " " + run.name), h("dd", {}, run.told))));
    const lead = rows.length
      ? "Each of these may be why figures differ; one run on one machine, with one thing changed, tells which."
      : null;
    let last = null;
    const topics = rows.map((row) => { const first = row.topic !== last; last = row.topic; return { ...row, first }; });
    const table = rows.length ? Q.table([
      { key: "topic", title: "of", cell: (row) => (row.first ? row.topic : h("span", { class: "again" }, row.topic)) },
      { key: "what", title: "what", cell: (row) => row.what },
      ...letters.map((letter) => ({ key: letter, title: h("span", { class: "letter" }, letter), cell: (row) => (row[letter] === undefined ? Q.missing() : row[letter]) })),
    ], topics, { label: report.across.differs.title, heading: 1, class: "differs" }).element : null;
    return [lead, runs, table ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": report.across.differs.title }, table)
      : h("p", { class: "fine" }, h("span", { "aria-hidden": "true" }, "✓ "), "Machine, versions, protocol, data and model files are recorded as the same.")];
  }

  function variants(report, charts) {
    const found = report.across.variants;
    const firsts = new Set();
    let last = null;
    found.rows.forEach((row) => { const key = row.run === report.across.letters[0] || row.variant !== last; if (key) firsts.add(row); last = row.variant; });
    return [Object.keys(charts).map((name) => Q.chart(charts[name], report.runs[0].phases.length > 1 ? name.slice("p50-".length) : null)),
      Q.grid(found, { still: true, rowClass: (row) => (firsts.has(row) ? "first" : null) })];
  }

  function ops(report) {
    const phases = report.runs[0].phases;
    const pairs = (report.across.pairs || []).map((pair) => ({ ops: [], ...pair }));
    return [Q.ops({ pairs, phases }), Q.notes(pairs.flatMap((pair) => (pair.unexplained || []).map((line) => `${pair.title}: ${line}`)))];
  }

  // What several runs are doubted for is told once.
  function doubts(report, alarms) {
    const found = new Map();
    report.runs.forEach((run, n) => run.alarms.forEach((alarm) => {
      const key = JSON.stringify([alarm.level, alarm.title, alarm.lines || []]);
      const known = found.get(key) || { ...alarm, of: [] };
      known.of.push(report.across.letters[n]);
      found.set(key, known);
    }));
    const list = [...found.values()].map((alarm) => ({ ...alarm, title: [alarm.of.map((letter) => [h("span", { class: "letter" }, letter), " "]), alarm.title] }));
    return list.length ? alarms(list) : h("p", { class: "fine" }, h("span", { "aria-hidden": "true" }, "✓ "), "Nothing speaks against the figures of these runs.");
  }

  // Tabs as the ARIA practices have them: arrows, Home and End move; one panel shows.
  function across(report, charts, tools) {
    report.runs.forEach((run) => { run.told = tools.told(run); });
    const letters = report.across.letters;
    const [lead, ...around] = differs(report);
    const beside = [
      tools.section("differs", "What is not the same", lead, around),
      tools.section("doubts", "Doubts", null, doubts(report, tools.alarms)),
      tools.section("variants", "Variants side by side", null, variants(report, charts)),
      tools.section("ops", "Op by op", "Ops are aligned by what they compute and add up to the difference end to end. Of many ops some differ by chance.", ops(report)),
    ];
    const panels = [tools.pageOf(beside, "across-", {}, beside[1].querySelectorAll(".alarm").length),
      ...report.runs.map(() => h("div", {}))];
    const labels = ["Side by side", ...report.runs.map((run, n) => [h("span", { class: "letter" }, letters[n]), " " + run.name])];
    const made = new Set([0]);
    const tabs = labels.map((label, n) => h("button", { type: "button", role: "tab", id: "tab-" + n, "aria-controls": "panel-" + n,
      on: { click: () => show(n), keydown: (event) => move(event, n) } }, label));
    const holders = panels.map((panel, n) => h("div", { role: "tabpanel", id: "panel-" + n, "aria-labelledby": "tab-" + n }, panel));

    function show(n) {
      if (!made.has(n)) {
        made.add(n);
        holders[n].replaceChildren(tools.runPage(n - 1, `run-${letters[n - 1].toLowerCase()}-`, {}));
      }
      holders.forEach((holder, at) => {
        holder.hidden = at !== n;
        const main = holder.querySelector("main"); // where the link at the very top leads
        if (!main) return;
        if (at === n) { main.id = "main"; main.tabIndex = -1; } else main.removeAttribute("id");
      });
      tabs.forEach((tab, at) => { tab.setAttribute("aria-selected", String(at === n)); tab.tabIndex = at === n ? 0 : -1; });
      if (!holders[n].isConnected) return; // the page is being made
      Q.drawAll();
      Q.redrawShown();
    }

    function move(event, n) {
      const to = { ArrowRight: n + 1, ArrowLeft: n - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const at = (to + tabs.length) % tabs.length;
      show(at);
      tabs[at].focus();
    }

    // An address of a section opens the tab that has it.
    function follow() {
      const match = /^#run-([a-z])-/.exec(window.location.hash);
      const n = match ? letters.findIndex((letter) => letter.toLowerCase() === match[1]) + 1 : 0;
      if (match && !n) return;
      if (holders[n].hidden && (match || /^#across-/.test(window.location.hash))) show(n);
      const target = document.getElementById(window.location.hash.slice(1));
      if (match && target) target.scrollIntoView();
    }

    show(0);
    window.addEventListener("hashchange", follow);
    window.setTimeout(follow, 0);
    return [h("div", { class: "tabs", role: "tablist", "aria-label": "Runs" }, tabs), holders];
  }

  Object.assign(Q, { across });
})();
