"use strict";
// Samples beside what two variants made of them; pictures with the boxes that are true and those that were found.
(function () {
  const { h, svg } = Q;

  function picture(found, said, label) {
    const { width_px: w, height_px: h0 } = found, scale = 1000 / Math.max(w, h0), W = w * scale, H = h0 * scale;
    const boxes = said.boxes || [], missed = said.missed || [];
    const rect = (box, name, text) => svg("rect", { x: box.x * W, y: box.y * H, width: box.width * W, height: box.height * H, class: name },
      text ? svg("title", {}, text) : null);
    const image = svg("image", { x: 0, y: 0, width: W, height: H, preserveAspectRatio: "none", class: Math.max(w, h0) <= 64 ? "pixels" : null });
    image.setAttribute("href", found.image);
    // Names stand in the picture where there is room for them, and at the pointer everywhere.
    const named = [...boxes.map((box) => ({ box, wrong: box.matched === false })), ...missed.map((box) => ({ box, wrong: true }))];
    const few = named.length <= 6;
    return svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "picture" + (Math.max(w, h0) <= 64 ? " tiny" : ""), role: "img", "aria-label": label }, image,
      boxes.map((box) => [rect(box, "edge"), rect(box, box.matched === false ? "false" : "true",
        `${box.label}${box.score === undefined ? "" : " " + box.score.toFixed(2)}${box.matched === false ? ", no such object" : ""}`)]),
      missed.map((box) => [rect(box, "edge"), rect(box, "missed", box.label + ", missed")]),
      few ? named.map(({ box, wrong }) => svg("text", { x: Math.min(W - 160, Math.max(6, box.x * W + 4)), y: Math.max(40, box.y * H - 12), class: "name" },
        (wrong ? "✗ " : "") + box.label)) : null);
  }

  function outcome(said) {
    const known = said.right === true || said.right === false;
    return h("p", { class: "outcome" }, known ? h("span", { class: said.right ? "right" : "wrong", "aria-hidden": "true" }, said.right ? "✓ " : "✗ ") : null, said.outcome);
  }

  function side(example, said) {
    const answers = said.answers || [];
    return h("div", { class: "side" }, h("h4", {}, said.variant),
      example.picture && (said.boxes || example.picture.truth) ? picture(example.picture, said, `${example.title} with the boxes of ${said.variant}: ${answers.join(", ") || "none"}`) : null,
      outcome(said),
      example.picture && (said.boxes || said.missed) ? null : answers.length ? h("ol", { class: "answers" }, answers.map((answer) => h("li", {}, answer || "(empty)"))) : null);
  }

  function sentence(text) {
    return text[0].toUpperCase() + text.slice(1) + ".";
  }

  function examples(run) {
    const all = run.examples || [];
    if (!all.length) return Q.empty(sentence(run.examples_note || "there are no predictions to look at"));
    const names = [...new Set(all.flatMap((example) => example.said.map((said) => said.variant)))];
    const others = names.filter((name) => name !== run.baseline);
    // The variant with the most flips is the one to look at.
    const flips = (name) => all.filter((example) => (example.flipped || {})[name]).length;
    let b = others.length ? others.reduce((best, name) => (flips(name) > flips(best) ? name : best), others[0]) : names[0];
    const place = h("div", { class: "examples" });

    function draw() {
      const ordered = all.slice().sort((x, y) => Boolean((y.flipped || {})[b]) - Boolean((x.flipped || {})[b]));
      place.replaceChildren(...ordered.map((example) => {
        const sides = [run.baseline, ...(b === run.baseline ? [] : [b])].map((name) => example.said.find((said) => said.variant === name)).filter(Boolean);
        const flip = (example.flipped || {})[b];
        const alone = example.picture && !example.said.some((said) => said.boxes && said.boxes.length) && !(example.picture.truth || []).length;
        return h("article", { class: "example" + (example.text ? " wide" : "") },
          h("header", {}, h("h3", {}, example.title), flip ? h("span", { class: "flip" }, "changed: " + flip) : null),
          example.text ? h("blockquote", {}, example.text, " ", h("mark", {}, example.truth)) : example.truth ? h("p", { class: "soft" }, "truth: " + example.truth) : null,
          alone ? picture(example.picture, {}, example.title) : null,
          h("div", { class: "sides" }, sides.map((said) => side(alone ? { ...example, picture: null } : example, said))));
      }));
    }

    draw();
    const boxes = all.some((example) => example.picture && (example.picture.truth || []).length);
    return h("div", {},
      h("div", { class: "toolbar" },
        others.length > 1 ? Q.select(`${run.baseline} beside`, others.map((name) => ({ key: name, label: `${name} (${flips(name)} changed)` })), b, (key) => { b = key; draw(); }) : null,
        boxes ? h("p", { class: "legend" }, h("span", { class: "swatch true" }), "found, and there ", h("span", { class: "swatch false" }), "found, not there ", h("span", { class: "swatch missed" }), "there, missed; names at the pointer") : null),
      place);
  }

  Object.assign(Q, { examples });
})();
