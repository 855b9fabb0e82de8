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

/** All facts that are gold or claimed in some round, in the format of `_run` in Python, and each round's weights. */
function runOf(doc, relations, { n, trace }) {
  const size = relations.length, facts = new Map(), { decided } = trace;
  const put = (head, tail, relation) => {
    const key = JSON.stringify([head, tail, relation]), r = relations.indexOf(relation), at = (head * n + tail) * size + r;
    if (facts.has(key)) return;
    facts.set(key, {
      head, tail, relation, held: decided.map(({ chosen }) => (r < 0 ? 0 : chosen[at])),
      margin: r < 0 ? null : decided.map(({ margin }) => Math.round(10 * margin[at]) / 10),
    });
  };
  decided.forEach(({ chosen }) => chosen.forEach((on, i) => { if (on) put(Math.floor(i / size / n), Math.floor(i / size) % n, relations[i % size]); }));
  doc.gold.forEach((t) => put(t.head, t.tail, t.relation));
  const order = (a, b) => a.head - b.head || a.tail - b.tail || (a.relation < b.relation ? -1 : 1), sorted = [...facts.values()].sort(order);
  return { n, facts: sorted, scores: scoresOf(doc, sorted, decided.length), attention: trace.attention };
}

/** A row for each round, the base first: F1, precision, recall, claimed, added and removed with the gold ones among them. */
function scoresOf({ gold }, facts, rounds) {
  const share = (part, whole) => (whole ? part / whole : 0), isGold = (f) => gold.some((t) => t.head === f.head && t.tail === f.tail && t.relation === f.relation);
  const shown = (x) => {  // one digit, ties to even
    const tenths = 1000 * x, low = Math.floor(tenths);
    return ((tenths - low === 0.5 ? low + (low % 2) : Math.round(tenths)) / 10).toFixed(1);
  };
  return Array.from({ length: rounds }, (_, k) => {
    const now = facts.filter((f) => f.held[k]), right = now.filter(isGold).length, total = gold.length;
    const [precision, recall] = [share(right, now.length), share(right, total)], f1 = share(2 * precision * recall, precision + recall);
    const moved = (from, to) => { const list = facts.filter((f) => f.held[to] && !f.held[from]); return `${list.length} (${list.filter(isGold).length})`; };
    return [k, ...[f1, precision, recall].map((x) => (total ? shown(x) : "–")), now.length, ...(k ? [moved(k - 1, k), moved(k, k - 1)] : ["–", "–"])];
  });
}

/** A run with the attention of one cell, in the format of `_packed` in Python. */
function packedRun({ n, facts, scores, attention }, [s, o]) {
  const kept = attention.flatMap((round) => round.flatMap((sides) => sides.flatMap((weights) =>
    [0, 1, 2, 3].flatMap((line) => [...weights.subarray(((line * n + s) * n + o) * (n + 1), ((line * n + s) * n + o + 1) * (n + 1))]))));
  return { facts, scores, cells: [[s, o]], attention: packed([1, attention.length, attention[0].length, 2, 4, n + 1], kept, 0, 1) };
}

export default {
  render(context) {
    const widget = start(context, "Answers that are read again, round by round");
    const { documents, runs, lines, columns, relations: known = [], live } = widget.data;
    const failed = () => context.model.page && !!context.model.get("failed"), can = changeable(context, widget);
    const titles = documents.map(({ title }, d) => [d, title]);
    const which = select("Document", titles, (d) => {
      const [head, tail] = runs[d].cells[0];
      widget.choose({ document: d, head, tail, byHand: {} });
    });
    const last = () => widget.state().rounds;
    const go = (k) => widget.choose({ round: Math.max(0, Math.min(last(), k)) });
    const step = slider("Round", { min: 0, max: last(), step: 1, text: (k) => (k ? `${k} of ${last()}` : "0, the base") }, go);
    const more = button("Run one more round", () => widget.choose({ rounds: last() + 1, round: last() + 1 }));
    const stop = button("Stop after this round", () => { const k = widget.state().round; widget.choose({ rounds: k, round: k }); });
    more.hidden = stop.hidden = true;  // until a kernel has answered, or the page's own model is there
    const deep = unpack(runs[0].attention).shape[2];
    const layer = select("Layer", [[-1, "mean of all"], ...Array.from({ length: deep }, (_, l) => [l, String(l + 1)])], (v) => widget.choose({ layer: v }));
    const side = choice("Who looks", [[-1, "both (mean)"], [0, "features"], [1, "answers"]], (v) => widget.choose({ matrix: v }));
    const relation = select("Say by hand", known.slice(1).map((name) => [name, name]), () => {}), where = h("span", { class: "dw-hint" });
    const add = button("Add", () => say((held) => [...held.filter((r) => r !== relation.input.value), relation.input.value]));
    const remove = button("Remove", () => say((held) => held.filter((r) => r !== relation.input.value)));
    const back = button("As the model says", () => say(null)), allBack = button("Undo all by hand", () => widget.choose({ byHand: {} }));
    const follows = h("div", { class: "dw-because" });
    const hand = h("div", { class: "dw-part" }, row(relation.el, h("div", { class: "dw-row dw-tight" }, add, remove, back, allBack), where),
      legend(["plain", "set by hand: the next round reads it", "✎"], ["plain dw-follows", "answer that differs from the one without your hand"]), follows);
    const looked = bars("", 0), because = h("div", { class: "dw-because" });
    const [stage, counts, relations, page] = [1, 2, 3, 4].map(() => h("div", { class: "dw-part" }));
    widget.body.append(
      row(...(documents.length > 1 ? [which.el] : []), step.el, h("div", { class: "dw-row dw-tight" },
        button("◀ Back", () => go(widget.state().round - 1)), button("Next ▶", () => go(widget.state().round + 1)), stop, more)),
      h("div", { class: "dw-row dw-beside" }, stage, h("div", { class: "dw-part" }, counts, relations)),
      legend(["hit", "right", "✓"], ["missed", "missed", "○"], ["wrong", "wrong", "✗"],
        ["changed", "+ added, − removed by this round; no sign: as before", "+"],
        ["plain dw-looked", "filled from below: attention of the chosen cell", ""]),
      hand, row(layer.el, side.el), h("div", { class: "dw-looks" }, looked.el), page, because,
    );

    let cells, text, drawn = -1, spoken = false;
    const handed = ({ byHand }) => Object.entries(byHand ?? {}).sort(([a], [b]) => a - b).flatMap(([k, list]) => list.map(([a, b, held]) => ({ k: Number(k), a, b, held })));
    /** What was put in by hand for a cell after a round; null if nothing was. */
    const handOf = (k, a, b) => widget.state().byHand?.[k]?.find(([c, d]) => c === a && d === b)?.[2] ?? null;
    /** What the model says of the document: computed for this state; as it travelled with the page; or for another cell. */
    function run() {
      const state = widget.state(), stored = runs[state.document], answer = context.model.get("answer"), same = (name) => JSON.stringify(answer.state[name] ?? {}) === JSON.stringify(state[name] ?? {});
      if (widget.answer()) return { ...widget.answer().run, untouched: widget.answer().untouched };
      if (!handed(state).length && state.rounds < stored.scores.length) return stored;
      if (answer?.state && ["document", "rounds", "byHand"].every(same)) return { ...answer.run, untouched: answer.untouched };
      return { ...(answer?.state && answer.state.document === state.document && !failed() ? answer.run : stored), old: can && !failed() };
    }
    const runsOf = new Map();  // by document, rounds, and answers by hand: choosing a cell or a layer needs no new run
    liven(context, widget, async ({ document: d, rounds, byHand = {}, head, tail }, think) => {
      const ask = async (put) => {
        const key = JSON.stringify([d, rounds, put]);
        if (!runsOf.has(key)) {
          const answers = Array.from({ length: rounds }, (_, k) => (put[k] ?? []).map(([a, b, held]) => [a, b, held.map((r) => known.indexOf(r))]));
          const found = runOf(documents[d], known, await think(live[0], documents[d], { rounds, answers, keep: true }));
          if (runsOf.size > 20) runsOf.clear();
          runsOf.set(key, found);
          return found;
        }
        return runsOf.get(key);
      };
      const found = await ask(byHand), untouched = Object.keys(byHand).length ? (await ask({})).facts : null;
      return { run: packedRun(found, [head, tail]), untouched };
    });

    /** Replace the chosen cell's answer in the round shown; `change` gives the new relations, null restores the model's. */
    function say(change) {
      const { round: k, head, tail, byHand } = widget.state(), next = { ...byHand };
      const model = run().facts.filter((f) => f.head === head && f.tail === tail && f.held[k]).map((f) => f.relation);
      const held = (change ? change(handOf(k, head, tail) ?? model) : model).sort(), list = (byHand?.[k] ?? []).filter(([a, b]) => a !== head || b !== tail);
      if (held.join("\n") !== model.sort().join("\n")) list.push([head, tail, held]);
      if (list.length) next[k] = list; else delete next[k];
      widget.choose({ byHand: next });
    }
    /** What each later round says otherwise than it would have: a sentence a round, the first one with what was put in. */
    function followed({ facts, untouched, scores }, state, names) {
      const list = handed(state).filter(({ k }) => k < scores.length - 1);
      if (!list.length || !untouched) return [];
      const key = (f) => `${names[f.head]} · ${f.relation} · ${names[f.tail]}`, some = (of) => of.slice(0, 4).join("; ") + (of.length > 4 ? `; and ${of.length - 4} more` : "");
      const put = `With ${list.map(({ k, a, b, held }) => `${names[a]} → ${names[b]}: ${held.join(", ") || "no relation"} put in by hand after round ${k}`).join(", and ")}`;
      /** Where no answer changes: the margin that does most. */
      const nudge = (k) => {
        const moves = facts.filter((f) => f.margin).map((f) => ({ f, now: f.margin[k], then: untouched.find((u) => key(u) === key(f))?.margin?.[k] ?? f.margin[k] }));
        const top = moves.reduce((a, b) => (Math.abs(b.now - b.then) > Math.abs(a.now - a.then) ? b : a), moves[0]);
        return top && top.now !== top.then ? `; most moves the margin of ${key(top.f)}, from ${number(top.then, 1)} to ${number(top.now, 1)}` : "";
      };
      return Array.from({ length: scores.length - 1 - list[0].k }, (_, i) => {
        const k = list[0].k + 1 + i, [now, then] = [facts, untouched].map((of) => of.filter((f) => f.held[k]).map(key));
        const more = now.filter((f) => !then.includes(f)), less = then.filter((f) => !now.includes(f));
        const said = [more.length && `also says ${some(more)}`, less.length && `does not say ${some(less)}`].filter(Boolean).join(", and ") || `gives the same answers as without it${nudge(k)}`;
        return { k, said: `round ${k} ${said}`, put };
      });
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
      const found = run(), able = !!widget.answer() || (context.model.page && !!live && !failed()), k = Math.min(state.round, found.scores.length - 1), judged = doc.gold.length > 0;
      const goldOf = (a, b, relation) => doc.gold.find((t) => t.head === a && t.tail === b && t.relation === relation);
      which.set(d); step.input.max = last(); step.set(state.round); layer.set(state.layer); side.set(state.matrix);
      if (able) more.hidden = stop.hidden = false;
      more.disabled = stop.disabled = failed();
      if (!failed()) stop.disabled = k === 0 || k === last();

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
      const readAt = (a, b) => handOf(k - 1, a, b) ?? at(a, b).filter((f) => f.was).map((f) => f.relation);
      const holds = (of, a, b) => of.filter((f) => f.head === a && f.tail === b && f.held[k]).map((f) => f.relation).join(", ");

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
        const put = handOf(k, a, b), without = found.untouched ? holds(found.untouched, a, b) : null, other = without !== null && without !== holds(found.facts, a, b);
        const classes = [kind ?? "plain", other && "dw-follows", here.some((f) => f.change) && "dw-changed", look >= 0.005 && "dw-looked"].filter(Boolean);
        const title = (here.map((f) => `${f.relation} ${f.said}`).join("; ") || "no relation") + (other ? `; without your hand ${without || "no relation"}` : "")
          + (put ? `; by hand ${put.join(", ") || "no relation"}` : "");
        const signs = [true, false].map((moved) => [...new Set(here.filter((f) => (f.change !== "") === moved).map((f) => f.sign))].join(""));
        if (signs.every(Boolean)) classes.push("dw-two");
        return {
          share: look, text: (put ? "✎" : "") + signs.filter(Boolean).join("\n"), kind: classes.join(" "),
          title: look >= 0.005 ? `${title}; attention ${percent(look)}` : title,
        };
      }, [s, o]);

      counts.replaceChildren(table("All rounds of this document; the arrow marks the one that is shown", columns,
        found.scores.slice(0, last() + 1).map(([j, ...rest]) => [j === k ? `▸ ${j}` : j, ...rest])));
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
        : k ? (able && !widget.answer() ? "The attention of this cell is on its way." : "The attention of this cell did not travel with the page: open the notebook, and the model computes it.")
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

      const later = followed(found, state, names), by = handOf(k, s, o), unread = k >= last();
      hand.hidden = !can || failed();
      [add, remove].forEach((element) => { element.disabled = unread; });
      back.disabled = !by;
      allBack.disabled = !handed(state).length;
      where.textContent = unread ? `No round reads what round ${k} says: go back a round, or run one more.`
        : `${names[s]} → ${names[o]} after round ${k}${by ? ` is ${by.join(", ") || "no relation"} by hand` : ""}.`;
      follows.replaceChildren(...(later.length ? [h("p", { class: "dw-hint" }, `${later[0].put}:`), h("ul", { class: "dw-reasons" }, ...later.map(({ said }) => h("li", {}, said)))] : []));
      if (found.old && spoken) return undefined;  // the answer to what was chosen is on its way
      spoken = true;

      const first = later.find((line) => line.k === k) ?? later[0], list = (pick) => here.filter(pick).map((f) => f.relation).join(", ") || "no relation";
      const f1 = found.scores[k][1], moves = (sign) => facts.filter((f) => f.change === sign).length;
      const top = best.find(({ entry }) => entry !== own);
      return `${first ? `${first.put}, ${first.said}. ` : ""}${k ? `Round ${k} adds ${moves("+")} and removes ${moves("−")}` : "Round 0, the base alone"}${judged ? `; F1 ${f1} %` : ""}. `
        + `${names[s]} → ${names[o]}: ${k ? `${handOf(k - 1, s, o) ? `${handOf(k - 1, s, o).join(", ") || "no relation"} by hand` : list((f) => f.was)} before, ${list((f) => f.now)} now` : list((f) => f.now)}; `
        + `gold: ${gold.map((t) => t.relation + (t.depth ? " (composed)" : "")).join(", ") || "none"}.`
        + `${top ? ` It looks most at ${names[top.a]} → ${names[top.b]} (${percent(top.value)} of ${lineName(top.line)})` : ""}`
        + `${via >= 0 ? `, and over all lines most through ${names[via]}.` : top ? "." : ""}`;
    });
  },
};
