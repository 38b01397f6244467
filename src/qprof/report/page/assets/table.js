"use strict";
// Tables that sort: a button in each heading, aria-sort on the column, and rows that keep their keys.
(function () {
  const { h } = Q;

  function classes(column) {
    return [column.numeric ? "num" : "", column.minor ? "minor" : ""].filter(Boolean).join(" ") || null;
  }

  // columns: [{key, title, unit, numeric, help, sort: row -> number|string|null, cell: row -> node}]
  function table(columns, rows, options) {
    const wanted = options || {};
    let order = wanted.order || null;
    let shown = rows.slice();
    const heads = columns.map((column) => {
      const title = [column.title, column.unit ? h("span", { class: "unit" }, " " + column.unit) : null];
      const content = column.sort
        ? h("button", { type: "button", class: "sort", title: column.help || null, on: { click: () => sortBy(column) } }, title)
        : h("span", { title: column.help || null }, title);
      return h("th", { scope: "col", class: classes(column), "data-key": column.key }, content);
    });
    const body = h("tbody", {});
    const element = h("table", { class: wanted.class || null },
      h("caption", { class: wanted.caption ? "caption" : "hidden" }, wanted.caption || wanted.label || "table"),
      h("thead", {}, h("tr", {}, heads)), body);

    function sortBy(column) {
      const same = order && order.key === column.key;
      order = { key: column.key, down: same ? !order.down : Boolean(column.numeric) };
      draw();
    }

    function compare(column, down) {
      return (a, b) => {
        const x = column.sort(a), y = column.sort(b);
        const none = (value) => value === null || value === undefined || value === "";
        if (none(x) || none(y)) return none(x) - none(y);
        const way = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
        return down ? -way : way;
      };
    }

    function draw() {
      const column = order && columns.find((one) => one.key === order.key);
      const ordered = column ? shown.slice().sort(compare(column, order.down)) : shown;
      heads.forEach((head) => {
        if (order && head.dataset.key === order.key) head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
      body.replaceChildren(...ordered.map((row, index) => {
        const cells = columns.map((one, at) => {
          const tag = at === (wanted.heading || 0) && wanted.heading !== -1 ? "th" : "td";
          return h(tag, { scope: tag === "th" ? "row" : null, class: classes(one) }, one.cell(row, index));
        });
        return h("tr", { class: wanted.rowClass ? wanted.rowClass(row) : null }, cells);
      }));
      if (!ordered.length) {
        body.append(h("tr", {}, h("td", { colspan: columns.length, class: "empty" }, wanted.empty || "No rows.")));
      }
      if (wanted.drawn) wanted.drawn(ordered);
    }

    function show(list) { shown = list.slice(); draw(); }

    draw();
    return { element, show, draw };
  }

  // A table as a command prints it. Cells of one column share a unit, so that their leading number sorts them.
  function grid(found, options) {
    if (!found) return null;
    const wanted = options || {};
    const leading = (text) => {
      if (text === undefined) return null;
      const match = /^[x<>]*\s*([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)/.exec(text);
      return match ? Number(match[1]) : text;
    };
    const columns = found.columns.map((column) => ({
      key: column.key, title: column.title, unit: column.unit, numeric: column.numeric !== false, minor: column.minor,
      sort: wanted.still ? null : (row) => (column.numeric === false ? row[column.key] : leading(row[column.key])),
      cell: (row) => cell(row[column.key], column),
    }));
    const { element } = table(columns, found.rows, { label: found.title, rowClass: wanted.rowClass });
    const minor = columns.filter((column) => column.minor).length;
    const all = minor ? h("button", { type: "button", class: "link", "aria-expanded": "false", on: { click: () => {
      const open = element.classList.toggle("all");
      all.textContent = open ? "Fewer columns" : `${minor} more column${minor > 1 ? "s" : ""}`;
      all.setAttribute("aria-expanded", String(open));
    } } }, `${minor} more column${minor > 1 ? "s" : ""}`) : null;
    return h("div", { class: "grid" }, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": found.title }, element),
      all ? h("p", { class: "more" }, all) : null,
      wanted.bare ? null : h("details", { class: "about" }, h("summary", {}, "How to read this table"), Q.notes(found.notes)),
      Q.command(found.command));
  }

  const VERDICTS = { better: "▲", worse: "▼", equivalent: "=", inconclusive: "?", withheld: "–" };

  function verdict(word) {
    return h("span", { class: "verdict " + word }, h("span", { "aria-hidden": "true" }, VERDICTS[word] + " "), word);
  }

  function cell(text, column) {
    if (text === undefined) return Q.missing();
    if (VERDICTS[text]) return verdict(text);
    const match = column.numeric !== false ? /^(.*?)( \[.*\])$/.exec(text) : null;
    return match ? [match[1], h("span", { class: "bounds" }, match[2])] : text;
  }

  Object.assign(Q, { table, grid, verdict });
})();
