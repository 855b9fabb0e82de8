// Potential pairs: a document's pair map, the pairs that λ keeps, and the patches that the budget pays for.
export default {
  render(context) {
    const widget = start(context, "Which pairs are kept, and which patches get a close look");
    const { documents, budgets, steps, patch } = widget.data;
    const grey = Array.from({ length: 101 }, (_, k) => k / 100);  // λ of the curves
    const views = documents.map(() => null);
    const level = ({ document: d, budget }) => documents[d].levels[documents[d].at[budgets.indexOf(budget)]];
    const which = select("Document", documents.map(({ title, names }, d) => [d, `${title}, ${names.length} entities`]), (d) => {
      const [head, tail] = documents[d].first;
      widget.choose({ document: d, head, tail });
    });
    const threshold = slider("Threshold λ", { min: 0, max: 1, step: 0.01 }, (v) => widget.choose({ threshold: v }));
    const patches = (k) => {
      const { document: d } = widget.state();
      return `${percent(budgets[k])}: ${level({ document: d, budget: budgets[k] }).looked} of ${documents[d].weight.flat().length} patches`;
    };
    const budget = slider("Patch budget", { min: 0, max: budgets.length - 1, step: 1, text: patches }, (k) => widget.choose({ budget: budgets[k] }));
    const numbers = table("Related or not? Of no pair at all, precision counts as 0", ["who decides", "pairs", "gold", "precision", "recall"],
      ["tag: above λ", "whole model: any relation"].map((who) => [who, "", "", "", ""]));
    const written = numbers.querySelectorAll("td"), map = h("div", {}), curve = h("div", {}), weights = h("div", {});
    let drawn = null;
    widget.body.append(
      row(...(documents.length > 1 ? [which.el] : []), threshold.el, budget.el),
      row(h("div", { class: "dw-row dw-tally" }, numbers, curve), h("div", {}, map, weights)),
      legend(["hit", "kept, gold", "●"], ["wrong", "kept, not gold"], ["missed", "gold, not kept", "●"],
        ["tinted", "not kept; the tint grows with the number"], ["frame", "patch with a close look"]),
    );

    /** The parts whose size depends on the document. */
    function view(d) {
      const { names, gold, weight } = documents[d], n = names.length;
      const relations = new Map();
      gold.forEach(({ head, tail, relation, depth }) => {
        const key = `${head},${tail}`;
        relations.set(key, [...(relations.get(key) ?? []), relation + (depth ? " (composed)" : "")]);
      });
      const caption = "Probability that a pair has any relation, in %";
      const grid = matrix(names, { caption, named: true, onchoose: (head, tail) => widget.choose({ head, tail }) });
      const places = [...grid.el.querySelectorAll("tbody tr")].map((line) => [...line.querySelectorAll("td")]);
      const span = (k) => (k * patch >= n ? "copy" : `${k * patch}–${Math.min(n, (k + 1) * patch) - 1}`);
      const shares = weight.map((line) => line.map(() => h("span", { class: "dw-cell dw-broad" })));
      const side = h("div", { class: "dw-scroll", tabindex: 0, role: "region", "aria-label": "Weights of the patches" },
        h("table", { class: "dw-matrix dw-framed" }, h("caption", {}, "Weights of the patches, in %"),
          h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "dw-corner" }, "heads ↓ tails →"), ...weight.map((_, k) => h("th", { scope: "col" }, span(k))))),
          h("tbody", {}, ...shares.map((line, k) => h("tr", {}, h("th", { scope: "row" }, span(k)), ...line.map((cell) => h("td", {}, cell)))))));
      grid.el.classList.add("dw-framed");
      return { n, relations, grid, places, span, shares, side };
    }
    const frame = (place, ...sides) => place.style.setProperty("--edge", sides.map((on) => (on ? "2px" : "0")).join(" "));

    /** What travelled with the page for this state, as a kernel would answer it. */
    function local(state) {
      const { weight, since } = documents[state.document], { looked, potential, claims } = level(state);
      const kept = potential.map((line) => line.map((p) => p > Math.round(100 * state.threshold) * (steps / 100)));
      const said = {};
      kept.forEach((line, s) => line.forEach((on, o) => { const found = claims[on ? 1 : 0][`${s},${o}`]; if (found) said[`${s},${o}`] = found; }));
      return { potential, kept, weight, looked: since.map((line) => line.map((k) => k > 0 && k <= looked)), claims: said };
    }
    /** Of the pairs that are chosen: how many, how many of them gold, precision and recall; 0 for 0 of 0. */
    function judge(potential, relations, chosen) {
      let [all, right] = [0, 0];
      potential.forEach((line, s) => line.forEach((p, o) => {
        if (p === null || !chosen(s, o, p)) return;
        all += 1;
        right += relations.has(`${s},${o}`);
      }));
      return { all, right, precision: right / (all || 1), recall: right / (relations.size || 1) };
    }

    widget.run(() => {
      const state = widget.state(), { document: d, threshold: cut, head: s, tail: o } = state, { names } = documents[d];
      const { potential, kept, looked, weight, claims } = widget.answer() ?? local(state);
      const { n, relations, grid, places, span, shares, side } = (views[d] = views[d] ?? view(d));
      which.set(d); threshold.set(cut); budget.set(budgets.indexOf(state.budget));
      if (map.firstChild !== grid.el) { map.replaceChildren(grid.el); weights.replaceChildren(side); }
      const pairs = potential.flat().filter((p) => p !== null).length;
      const tag = judge(potential, relations, (h_, t_) => kept[h_][t_]), whole = judge(potential, relations, (h_, t_) => `${h_},${t_}` in claims);
      [tag, whole].forEach(({ all, right, precision, recall }, k) =>
        [`${all}\u00a0of\u00a0${pairs}`, `${right}\u00a0of\u00a0${relations.size}`, percent(precision), percent(recall)].forEach((text, c) => { written[5 * k + c + 1].textContent = text; }));
      if (drawn?.potential !== potential) {
        const at = grey.map((x) => judge(potential, relations, (h_, t_, p) => p > Math.round(100 * x) * (steps / 100)));
        const series = ["precision", "recall"].map((name) => ({ name, values: at.map((found) => found[name]) }));
        const marks = [0, 0.2, 0.4, 0.6, 0.8, 1].map((x) => [x, number(x, 1)]);
        drawn = { potential, curve: curves({ x: grey, series, marks, xlabel: "λ", ylabel: "precision —, recall - - (%)" }) };
        curve.replaceChildren(drawn.curve.el);
      }
      drawn.curve.draw(cut);
      grid.draw((h_, t_) => {
        const p = potential[h_][t_], gold = relations.get(`${h_},${t_}`), on = kept[h_][t_];
        if (p === null) return null;
        const title = `${number(p / steps)}, ${on ? "kept" : "not kept"}, gold: ${gold?.join(", ") ?? "none"}`;
        return { share: (0.5 * p) / steps, text: `${Math.round((100 * p) / steps)}${gold ? "●" : ""}`, kind: on ? (gold ? "hit" : "wrong") : gold ? "missed" : "", title };
      }, [s, o]);
      places.forEach((line, y) => line.forEach((place, x) => {
        const on = looked[Math.floor(y / patch)][Math.floor(x / patch)], last = (k) => k % patch === patch - 1 || k === n - 1;
        frame(place, on && y % patch === 0, on && last(x), on && last(y), on && x % patch === 0);
      }));
      shares.forEach((line, y) => line.forEach((cell, x) => {
        cell.textContent = number(100 * weight[y][x], 1);
        cell.title = looked[y][x] ? "close look" : "coarse look only";
        frame(cell.parentNode, ...Array(4).fill(looked[y][x]));
      }));
      const p = potential[s][o] / steps, [y, x] = [Math.floor(s / patch), Math.floor(o / patch)];
      const list = (found) => (found?.length ? found.join(", ") : "none");
      return `${names[s]} → ${names[o]}: probability ${number(p)}, ${kept[s][o] ? "above" : "not above"} λ = ${number(cut)}, so ${kept[s][o] ? "kept" : "not kept"}. `
        + `Gold: ${list(relations.get(`${s},${o}`))}; the whole model claims: ${list(claims[`${s},${o}`])}. `
        + `Its patch, heads ${span(y)} and tails ${span(x)}, has weight ${percent(weight[y][x], 1)} and gets ${looked[y][x] ? "a close look" : "no close look"}. `
        + `Kept: ${tag.all} of ${pairs} pairs, precision ${percent(tag.precision)}, recall ${percent(tag.recall)}.`;
    });
  },
};
