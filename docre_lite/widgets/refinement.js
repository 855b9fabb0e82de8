// Round after round: answers over gold, what the round changed, and where the chosen cell looked along its four lines.
const RANKED = 6;  // entries of the list of attention

/** The cell that entry k of a line is for cell (s, o): (s, k), (k, o), (k, s), (o, k). */
const onLine = (line, s, o, k) => [[s, k], [k, o], [k, s], [o, k]][line];

/** The line of cell (s, o) on which another cell lies, and its entry there; null if it shares no entity with it. */
function lineOf(s, o, a, b) {
  for (let line = 0; line < 4; line += 1) {
    const k = line === 0 || line === 3 ? b : a, [c, d] = onLine(line, s, o, k);
    if (c === a && d === b) return { line, k };
  }
  return null;
}

export default {
  render(context) {
    const widget = start(context, "Answers that are read again, round by round");
    const { documents, runs, lines, columns } = widget.data;
    const titles = documents.map(({ title }, d) => [d, title]);
    const which = select("Document", titles, (d) => {
      const [head, tail] = runs[d].cells[0];
      widget.choose({ document: d, head, tail });
    });
    const last = () => widget.state().rounds;
    const go = (k) => widget.choose({ round: Math.max(0, Math.min(last(), k)) });
    const step = slider("Round", { min: 0, max: last(), step: 1, text: (k) => (k ? `${k} of ${last()}` : "0, the base") }, go);
    const more = button("Run one more round", () => widget.choose({ rounds: last() + 1, round: last() + 1 }));
    more.hidden = true;  // until a kernel has answered
    const deep = unpack(runs[0].attention).shape[2];
    const layer = select("Layer", [[-1, "mean of all"], ...Array.from({ length: deep }, (_, l) => [l, String(l + 1)])], (v) => widget.choose({ layer: v }));
    const side = choice("Who looks", [[-1, "both (mean)"], [0, "features"], [1, "answers"]], (v) => widget.choose({ matrix: v }));
    const looked = bars("", 0), because = h("div", { class: "dw-because" });
    const [stage, counts, relations, page] = [1, 2, 3, 4].map(() => h("div", { class: "dw-part" }));
    widget.body.append(
      row(...(documents.length > 1 ? [which.el] : []), step.el, h("div", { class: "dw-row dw-tight" },
        button("◀ Back", () => go(widget.state().round - 1)), button("Next ▶", () => go(widget.state().round + 1)), more)),
      h("div", { class: "dw-row dw-beside" }, stage, h("div", { class: "dw-part" }, counts, relations)),
      legend(["hit", "right", "✓"], ["missed", "missed", "○"], ["wrong", "wrong", "✗"],
        ["changed", "+ added, − removed by this round; no sign: as before", "+"],
        ["plain dw-looked", "filled from below: attention of the chosen cell", ""]),
      row(layer.el, side.el), h("div", { class: "dw-looks" }, looked.el), page, because,
    );

    let cells, text, drawn = -1;
    /** What the model says of the document: recomputed for exactly this state, or as it travelled with the page. */
    function run() {
      return widget.answer()?.run ?? runs[widget.state().document];
    }
    function open(d) {
      cells = matrix(documents[d].names, { caption: "Answers over gold: choose a cell by click or arrow keys", onchoose: (head, tail) => widget.choose({ head, tail }) });
      text = textOf(documents[d]);
      stage.replaceChildren(cells.el);
      page.replaceChildren(text.el);
      drawn = d;
    }
    /** Weights [lines][N + 1] of a cell in the pass that made round k, the mean over what is not chosen; null if unknown. */
    function weigh({ cells: known, attention }, k, { head, tail, layer: l, matrix: m }) {
      const place = known.findIndex(([s, o]) => s === head && o === tail);
      if (place < 0 || k === 0) return null;
      const { shape, at } = unpack(attention), many = (v, size) => (v < 0 ? Array.from({ length: size }, (_, i) => i) : [v]);
      const layers = many(l, shape[2]), sides = many(m, shape[3]);
      return Array.from({ length: shape[4] }, (_, line) => Array.from({ length: shape[5] }, (_, entry) => {
        let sum = 0;
        layers.forEach((i) => sides.forEach((j) => { sum += at(place, k - 1, i, j, line, entry); }));
        return sum / (layers.length * sides.length);
      }));
    }

    widget.run(() => {
      const state = widget.state(), { document: d, head: s, tail: o } = state, doc = documents[d], { names } = doc;
      if (d !== drawn) open(d);
      const found = run(), k = Math.min(state.round, found.scores.length - 1), judged = doc.gold.length > 0;
      const goldOf = (a, b, relation) => doc.gold.find((t) => t.head === a && t.tail === b && t.relation === relation);
      which.set(d); step.input.max = last(); step.set(state.round); layer.set(state.layer); side.set(state.matrix);
      if (widget.answer()) more.hidden = false;

      const facts = found.facts.map((f) => {
        const gold = goldOf(f.head, f.tail, f.relation), now = f.held[k] === 1, was = k > 0 ? f.held[k - 1] === 1 : now;
        const change = now === was ? "" : now ? "+" : "−";
        const kind = now ? (!judged ? "new" : gold ? "hit" : "wrong") : gold ? "missed" : "";
        const mark = { hit: "✓", wrong: "✗", missed: "○", new: "●", "": judged ? "✗" : "" }[kind];
        const said = { hit: "right", wrong: "wrong", missed: "missed", new: "claimed", "": judged ? "wrong" : "claimed" }[kind];
        const moved = { "+": ", added by this round", "−": ", removed by this round", "": "" }[change];
        return { ...f, gold, now, was, change, kind, sign: change + mark, said: said + moved };
      }).filter((f) => f.kind || f.change);
      const at = (a, b) => facts.filter((f) => f.head === a && f.tail === b);
      const readAt = (a, b) => at(a, b).filter((f) => f.was).map((f) => f.relation);

      const weights = weigh(found, k, state), own = weights ? weights[0].length - 1 : 0;
      const looks = weights ? weights.flatMap((entries, line) => entries.map((value, entry) => {
        const [a, b] = entry === own ? [s, o] : onLine(line, s, o, entry);
        return { line, entry, a, b, value };
      })) : [];
      const share = new Map();
      looks.forEach(({ a, b, value }) => share.set(`${a} ${b}`, Math.max(share.get(`${a} ${b}`) ?? 0, value)));
      cells.draw((a, b) => {
        if (a === b) return null;
        const here = at(a, b), kind = ["wrong", "hit", "new", "missed"].find((name) => here.some((f) => f.kind === name));
        const look = share.get(`${a} ${b}`) ?? 0;
        const classes = [kind ?? "plain", here.some((f) => f.change) && "dw-changed", look >= 0.005 && "dw-looked"].filter(Boolean);
        const title = here.map((f) => `${f.relation} ${f.said}`).join("; ") || "no relation";
        const signs = [true, false].map((moved) => [...new Set(here.filter((f) => (f.change !== "") === moved).map((f) => f.sign))].join(""));
        if (signs.every(Boolean)) classes.push("dw-two");
        return {
          share: look, text: signs.filter(Boolean).join("\n"), kind: classes.join(" "),
          title: look >= 0.005 ? `${title}; attention ${percent(look)}` : title,
        };
      }, [s, o]);

      counts.replaceChildren(table("All rounds of this document; the arrow marks the one that is shown", columns,
        found.scores.map(([j, ...rest]) => [j === k ? `▸ ${j}` : j, ...rest])));
      const here = at(s, o);
      relations.replaceChildren(here.length
        ? table(`${names[s]} → ${names[o]}: relations, and margins over the threshold in logits (claimed above 0)`,
          ["relation", ...(k ? [`after round ${k - 1}`] : []), k ? `after round ${k}` : "base", "now", "gold"],
          here.map((f) => [f.relation, ...(k ? [f.margin ? number(f.margin[k - 1], 1) : "–"] : []), f.margin ? number(f.margin[k], 1) : "–", `${f.sign} ${f.said}`, f.gold ? (f.gold.depth ? "composed" : "yes") : judged ? "no" : "–"]))
        : h("p", { class: "dw-hint" }, `${names[s]} → ${names[o]}: no relation, neither here nor in gold.`));

      const lineName = (line) => `line ${line + 1}, ${lines[line]}`;
      const premises = doc.gold.filter((t) => t.head === s && t.tail === o).flatMap((t) => t.premises ?? []);
      const isPremise = (a, b) => premises.some(([x, , y]) => x === a && y === b);
      const best = looks.filter((x) => x.value > 0).sort((x, y) => y.value - x.value).slice(0, RANKED);
      looked.el.querySelector("caption").textContent = weights
        ? `Where ${names[s]} → ${names[o]} looks in round ${k}: its ${RANKED} strongest keys, in % of a line. In brackets: what round ${k - 1} had said there`
        : k ? "The attention of this cell did not travel with the page: open the notebook, and the model computes it."
          : "Round 0 is the base: every pair answers alone, no cell looks at another.";
      looked.draw(best.map(({ line, entry, a, b, value }) => ({
        label: `${lineName(line)}: ${entry === own ? "the cell itself" : `${names[a]} → ${names[b]}`} (${readAt(a, b).join(", ") || "nothing"})${isPremise(a, b) ? ", a premise" : ""}`,
        value: 100 * value, kind: isPremise(a, b) ? "chosen" : "",
      })));

      const middles = weights ? names.map((_, e) => (e === s || e === o ? 0 : weights.reduce((sum, entries) => sum + entries[e], 0) / weights.length)) : [];
      const middle = middles.indexOf(Math.max(...middles));
      const via = weights && middles[middle] > 0 ? middle : -1;
      const gold = doc.gold.filter((t) => t.head === s && t.tail === o);
      text.draw({
        strong: [[s, "head"], [o, "tail"], ...(via >= 0 ? [[via, "middle"]] : [])],
        evidence: [...new Set(gold.flatMap((t) => t.evidence))],
      });

      /** Why a gold triple holds: its premises, each with its state, and with the line it lies on for the chosen cell. */
      function reason(t, first) {
        const fact = facts.find((f) => f.head === t.head && f.tail === t.tail && f.relation === t.relation);
        const where = first ? null : lineOf(s, o, t.head, t.tail);
        const itself = where && t.head === s && t.tail === o;
        const weight = where && weights ? `, ${percent(weights[where.line][itself ? own : where.k])} of ${lineName(where.line)}` : "";
        const why = t.premises ? ", because" : t.evidence.length ? `, said in sentence ${t.evidence.join(", ")}` : "";
        return h("li", {}, `${fact ? `${fact.sign} ` : ""}${names[t.head]} · ${t.relation} · ${names[t.tail]} (${fact ? fact.said : "gold"}${weight})${why}`,
          ...(t.premises ? [h("ul", {}, ...t.premises.map(([a, r, b]) => goldOf(a, b, r)).filter(Boolean).map((p) => reason(p, false)))] : []));
      }
      because.replaceChildren(...(gold.length
        ? [h("p", { class: "dw-hint" }, "Gold of this cell, and what it follows from:"), h("ul", { class: "dw-reasons" }, ...gold.map((t) => reason(t, true)))]
        : []));

      const list = (pick) => here.filter(pick).map((f) => f.relation).join(", ") || "no relation";
      const f1 = found.scores[k][1], moves = (sign) => facts.filter((f) => f.change === sign).length;
      const top = best.find(({ entry }) => entry !== own);
      return `${k ? `Round ${k} adds ${moves("+")} and removes ${moves("−")}` : "Round 0, the base alone"}${judged ? `; F1 ${f1} %` : ""}. `
        + `${names[s]} → ${names[o]}: ${k ? `${list((f) => f.was)} before, ${list((f) => f.now)} now` : list((f) => f.now)}; `
        + `gold: ${gold.map((t) => t.relation + (t.depth ? " (composed)" : "")).join(", ") || "none"}.`
        + `${top ? ` It looks most at ${names[top.a]} → ${names[top.b]} (${percent(top.value)} of ${lineName(top.line)})` : ""}`
        + `${via >= 0 ? `, and over all lines most through ${names[via]}.` : top ? "." : ""}`;
    });
  },
};
