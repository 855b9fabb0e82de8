// Potential pairs: a document's pair map, the pairs that λ keeps, and the patches that the budget allows.
export default {
  render(context) {
    const widget = start(context, "Which pairs are kept, and which patches get a close look");
    const { documents, budgets, steps, patch } = widget.data, { model } = context;
    /** Can any budget and any document be computed: by a kernel, or by the page's own model? */
    const free = () => changeable(context, widget) && !model.get("failed");
    const stops = free() ? [...new Set([...budgets, ...Array.from({ length: 100 }, (_, k) => (k + 1) / 100)])].sort((a, b) => a - b) : budgets;
    const grey = Array.from({ length: 101 }, (_, k) => k / 100);  // λ of the curves
    const views = documents.map(() => null);
    const level = ({ document: d, budget }) => documents[d].levels[documents[d].at[budgets.indexOf(budget)]];
    const which = select("Document", documents.map(({ title, names }, d) => [d, `${title}, ${names.length} entities`]), (d) => {
      const [head, tail] = documents[d].first;
      widget.choose({ document: d, head, tail, change: null });
    });
    const threshold = slider("Threshold λ", { min: 0, max: 1, step: 0.01 }, (v) => widget.choose({ threshold: v }));
    const patches = (k) => {
      const state = { ...widget.state(), budget: stops[k] }, { document: d } = state;
      const looked = state.change || !stored(state) ? widget.state().budget === stops[k] && widget.answer()?.looked.flat() : null;
      if (looked === null) return `${percent(stops[k])}: ${level(state).looked} of ${documents[d].weight.flat().length} patches`;
      return looked ? `${percent(stops[k])}: ${looked.filter(Boolean).length} of ${looked.length} patches` : percent(stops[k]);
    };
    const stored = ({ budget: share, change }) => !change && budgets.includes(share);
    const budget = slider("Patch budget", { min: 0, max: stops.length - 1, step: 1, text: patches }, (k) => widget.choose({ budget: stops[k] }));
    const editors = documents.map((document) => editor(widget, document)), place = h("div", {});
    const change = h("details", {}, h("summary", {}, "Change the document"), place);
    const numbers = table("Related or not? Of no pair at all, precision counts as 0", ["who decides", "pairs", "gold", "precision", "recall"],
      ["tag: above λ", "whole model: any relation"].map((who) => [who, "", "", "", ""]));
    const written = numbers.querySelectorAll("td"), map = h("div", {}), curve = h("div", {}), weights = h("div", {});
    let drawn = null;
    widget.body.append(
      row(...(documents.length > 1 ? [which.el] : []), threshold.el, budget.el),
      row(h("div", { class: "dw-row dw-tally" }, numbers, curve), h("div", {}, map, weights)),
      legend(["hit", "kept, gold", "●"], ["wrong", "kept, not gold"], ["missed", "gold, not kept", "●"],
        ["tinted", "not kept; the tint grows with the number"], ["frame", "patch with a close look"], ...(free() ? [["new", "kept, in a text of yours: it has no gold"]] : [])),
      change,
    );

    /** The parts whose size depends on the document. */
    function view({ names, gold, from }, weight) {
      const n = names.length;
      const relations = new Map();
      gold.forEach(({ head, tail, relation, depth }) => {
        const key = `${head},${tail}`;
        relations.set(key, [...(relations.get(key) ?? []), relation + (depth ? " (composed)" : "")]);
      });
      const caption = "Probability that a pair has any relation, in %";
      const grid = matrix(names, { caption, named: true, onchoose: (head, tail) => widget.choose({ head: from[head], tail: from[tail] }) });
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

    /** The stored answer for this state, in the format of a kernel's. */
    function local(state) {
      const { weight, since } = documents[state.document], { looked, potential, claims } = level(state);
      const kept = potential.map((line) => line.map((p) => p > Math.round(100 * state.threshold) * (steps / 100)));
      const said = {};
      kept.forEach((line, s) => line.forEach((on, o) => { const found = claims[on ? 1 : 0][`${s},${o}`]; if (found) said[`${s},${o}`] = found; }));
      return { potential, kept, weight, looked: since.map((line) => line.map((k) => k > 0 && k <= looked)), claims: said };
    }
    /** For the chosen pairs: their number, how many of them are gold, precision and recall; 0 for 0 of 0. */
    function judge(potential, relations, chosen) {
      let [all, right] = [0, 0];
      potential.forEach((line, s) => line.forEach((p, o) => {
        if (p === null || !chosen(s, o, p)) return;
        all += 1;
        right += relations.has(`${s},${o}`);
      }));
      return { all, right, precision: right / (all || 1), recall: right / (relations.size || 1) };
    }

    /** The document of a state, renumbered if it was changed; `from` holds the earlier numbers. */
    const current = ({ document: d, change: made }) => made?.document ?? { ...documents[d], from: documents[d].names.map((_, e) => e) };
    let own = { of: null };
    function viewOf(state, shown, weight) {
      if (!state.change) return (views[state.document] = views[state.document] ?? view(shown, weight));
      if (own.of !== state.change) own = { of: state.change, ...view(shown, weight) };
      return own;
    }

    /** The effect of a change, compared with the given document, for which the page has some budgets. */
    function differences(state, { from }, now) {
      if (!state.change || state.change.text || !budgets.includes(state.budget)) return "";
      const before = local(state), pairs = from.flatMap((s, i) => from.map((o, j) => [s, o, i, j])).filter(([s, o]) => s !== o);
      const count = (test) => pairs.filter((pair) => test(...pair)).length;
      const [more, fewer] = [count((s, o, i, j) => now.kept[i][j] && !before.kept[s][o]), count((s, o, i, j) => !now.kept[i][j] && before.kept[s][o])];
      const told = (said, s, o) => said[`${s},${o}`] ?? [], without = (one, two) => one.filter((r) => !two.includes(r)).length;
      const sum = (f) => pairs.reduce((total, [s, o, i, j]) => total + f(told(before.claims, s, o), told(now.claims, i, j)), 0);
      return `Your change: pairs newly kept: ${more}, no longer kept: ${fewer}; relations newly claimed: ${sum((was, is) => without(is, was))}, no longer claimed: ${sum(without)}. `;
    }

    liven(context, widget, async (state, think) => {
      const { trace, chosen, relations, n } = await think(widget.data.live[0], state.change?.document ?? documents[state.document], { options: { budget: state.budget, potential_threshold: state.threshold } });
      const nested = (values, of) => { const length = Math.sqrt(values.length); return Array.from({ length }, (_, r) => Array.from(values.subarray(r * length, (r + 1) * length), of)); };
      const { candidates } = current(state), pairs = candidates && new Set(candidates.map(String)), is = (x) => x > 0, none = new Float32Array(0);
      const share = nested(trace.potential ?? none, (x) => Math.ceil(steps / (1 + Math.exp(-x)))), claims = {};
      for (let c = 0; c < n * n; c += 1) {
        const found = relations.filter((_, r) => r && chosen[c * relations.length + r]);
        if (found.length) claims[`${Math.floor(c / n)},${c % n}`] = found;
      }
      return {
        potential: share.map((line, s) => line.map((p, o) => ((pairs ? pairs.has(`${s},${o}`) : s !== o) ? p : null))),
        kept: nested(trace.tag ?? none, is), looked: nested(trace.patch_looked ?? none, is),
        weight: nested(trace.patch_weight ?? none, (x) => Math.round(1e5 * x) / 1e5), claims,
      };
    });
    model.on("change:failed", () => {  // only stored answers remain: return to them
      const { budget: share } = widget.state(), near = budgets.reduce((best, b) => (Math.abs(b - share) < Math.abs(best - share) ? b : best));
      widget.choose({ change: null, budget: near });
    });
    widget.run(() => {
      const state = widget.state(), { document: d, threshold: cut } = state, shown = current(state), { names, from } = shown;
      which.set(d); threshold.set(cut); budget.set(stops.indexOf(state.budget));
      change.hidden = !free();
      if (place.firstChild !== editors[d].el) place.replaceChildren(editors[d].el);
      editors[d].draw();
      const answer = widget.answer() ?? (stored(state) ? local(state) : null);
      if (!answer) return undefined;  // an answer is on its way
      const { potential, kept, looked, weight, claims } = answer, first = names.flatMap((_, h_) => names.map((__, t_) => [h_, t_])).find(([h_, t_]) => potential[h_][t_] !== null);
      if (!first) return "No pair of entities is left to look at: put something back.";
      const { n, relations, grid, places, span, shares, side } = viewOf(state, shown, weight);
      const chosen = [state.head, state.tail].map((e) => from.indexOf(e)), [s, o] = (potential[chosen[0]]?.[chosen[1]] ?? null) === null ? first : chosen;
      if (map.firstChild !== grid.el) { map.replaceChildren(grid.el); weights.replaceChildren(side); }
      const pairs = potential.flat().filter((p) => p !== null).length;
      const tag = judge(potential, relations, (h_, t_) => kept[h_][t_]), whole = judge(potential, relations, (h_, t_) => `${h_},${t_}` in claims);
      [tag, whole].forEach(({ all, right, precision, recall }, k) =>
        [`${all}\u00a0of\u00a0${pairs}`, `${right}\u00a0of\u00a0${relations.size}`, ...[precision, recall].map((part) => (state.change?.text ? "–" : percent(part)))].forEach((text, c) => { written[5 * k + c + 1].textContent = text; }));
      if (drawn?.potential !== potential) {
        const at = grey.map((x) => judge(potential, relations, (h_, t_, p) => p > Math.round(100 * x) * (steps / 100)));
        const series = ["precision", "recall"].map((name) => ({ name, values: at.map((found) => found[name]) }));
        const marks = [0, 0.2, 0.4, 0.6, 0.8, 1].map((x) => [x, number(x, 1)]);
        drawn = { potential, curve: curves({ x: grey, series, marks, xlabel: "λ", ylabel: "precision —, recall - - (%)" }) };
        curve.replaceChildren(drawn.curve.el);
      }
      drawn.curve.draw(cut);
      curve.hidden = !!state.change?.text;
      grid.draw((h_, t_) => {
        const p = potential[h_][t_], gold = relations.get(`${h_},${t_}`), on = kept[h_][t_];
        if (p === null) return null;
        const title = `${number(p / steps)}, ${on ? "kept" : "not kept"}, gold: ${gold?.join(", ") ?? "none"}`;
        return { share: (0.5 * p) / steps, text: `${Math.round((100 * p) / steps)}${gold ? "●" : ""}`, kind: on ? (gold ? "hit" : state.change?.text ? "new" : "wrong") : gold ? "missed" : "", title };
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
      return `${differences(state, shown, answer)}${names[s]} → ${names[o]}: probability ${number(p)}, ${kept[s][o] ? "above" : "not above"} λ = ${number(cut)}, so ${kept[s][o] ? "kept" : "not kept"}. `
        + `${state.change?.text ? "" : `Gold: ${list(relations.get(`${s},${o}`))}; `}${state.change?.text ? "The" : "the"} whole model claims: ${list(claims[`${s},${o}`])}. `
        + `Its patch, heads ${span(y)} and tails ${span(x)}, has weight ${percent(weight[y][x], 1)} and gets ${looked[y][x] ? "a close look" : "no close look"}. `
        + `Kept: ${tag.all} of ${pairs} pairs${state.change?.text ? "" : `, precision ${percent(tag.precision)}, recall ${percent(tag.recall)}`}.`;
    });
  },
};
