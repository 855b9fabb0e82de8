// A document that the reader can change; the facts that a model finds in it, as graph, matrix and list.
export default {
  render(context) {
    const widget = start(context, "Ask the model"), { data } = widget, given = data.document;
    const which = select("Model", data.models.map((name, k) => [k, name]), (v) => widget.choose({ model: v }));
    const question = h("p", { class: "dw-question" }), text = h("div", {}), facts = h("div", { class: "dw-facts" });
    const graph = h("div", { class: "dw-graph-box" }), grid = h("div", {});
    const edit = editor(widget, given), can = changeable(context, widget);
    widget.body.append(question, ...(can ? [edit.el] : []), text, row(data.models.length > 1 ? which.el : null), widget.status,
      h("div", { class: "dw-row dw-reader" }, graph, grid), legend(["new", "new with your change", "+"], ["missed", "lost with it", "−"], ["hit", "as before", "✓"]), facts);
    const key = ([head, relation, tail]) => `${head}|${relation}|${tail}`;

    /** The facts found, in the numbers of the given document (in its own if the text is the reader's). */
    function found(state) {
      if (!state.change) return data.found[state.model];
      return widget.answer()?.found ?? null;
    }

    function compare(state, own) {
      const doc = state.change?.document ?? given, from = doc.from ?? given.names.map((_, e) => e);
      const before = state.change?.text ? [] : data.found[state.model], outer = (e) => from[e], line = (s) => doc.lines?.[s] ?? s;
      const names = state.change?.text ? doc.names : given.names.map((name, e) => (from.includes(e) ? doc.names[from.indexOf(e)] : name));
      const now = own.map(([s, r, o, score, evidence]) => ({ id: key([outer(s), r, outer(o)]), head: outer(s), tail: outer(o), relation: r, score, evidence: evidence.map(line), kind: "hit" }));
      const known = new Set(before.map(key)), still = new Set(now.map((f) => f.id));
      if (state.change && !state.change.text) now.forEach((f) => { if (!known.has(f.id)) f.kind = "new"; });
      const lost = before.filter((f) => !still.has(key(f))).map(([head, relation, tail, score, evidence]) => ({ id: key([head, relation, tail]), head, tail, relation, score, evidence, kind: "missed" }));
      return { names, facts: [...now, ...lost], from, doc };
    }

    const [width, height] = [430, 330];
    function drawGraph({ names, facts: list, from }, state) {
      const shown = state.change?.text ? names.map((_, e) => e) : given.names.map((_, e) => e), n = shown.length;
      const at = (e) => {
        const angle = (2 * Math.PI * shown.indexOf(e)) / n - Math.PI / 2;
        return [width / 2 + (width / 2 - 112) * Math.cos(angle), height / 2 + (height / 2 - 32) * Math.sin(angle)];
      };
      const lines = list.map((f) => {
        const [[x, y], [u, v]] = [at(f.head), at(f.tail)], d = Math.hypot(u - x, v - y) || 1, [dx, dy] = [(u - x) / d, (v - y) / d];
        const [a, b, c, e] = [x + 12 * dx, y + 12 * dy, u - 12 * dx, v - 12 * dy], bend = 10;
        const path = `M${a} ${b}Q${(a + c) / 2 - bend * dy} ${(b + e) / 2 + bend * dx} ${c} ${e}`;
        const tip = `M${c} ${e}L${c - 7 * dx + 4 * dy} ${e - 7 * dy - 4 * dx}L${c - 7 * dx - 4 * dy} ${e - 7 * dy + 4 * dx}Z`;
        return h("g", { class: `dw-edge dw-edge-${f.kind}` }, h("title", {}, `${names[f.head]} ${f.relation} ${names[f.tail]}`), h("path", { d: path, fill: "none" }), h("path", { d: tip, class: "dw-tip" }));
      });
      const nodes = shown.map((e) => {
        const [x, y] = at(e), right = x > width / 2 + 20, left = x < width / 2 - 20, gone = !state.change?.text && !from.includes(e);
        const short = names[e].length > 16 ? `${names[e].slice(0, 15)}…` : names[e];
        return h("g", { class: `dw-node${gone ? " dw-gone" : ""}` }, h("title", {}, names[e]), h("circle", { cx: x, cy: y, r: 6 }),
          h("text", { x: x + (right ? 10 : left ? -10 : 0), y: y + (right || left ? 4 : y < height / 2 ? -11 : 19), "text-anchor": right ? "start" : left ? "end" : "middle" }, short));
      });
      graph.replaceChildren(h("svg", { class: "dw-graph", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Graph of ${list.filter((f) => f.kind !== "missed").length} facts between ${n} entities; the list below names each` }, ...lines, ...nodes));
    }

    let matrixOf = null;
    function drawMatrix({ names, facts: list }) {
      const id = names.join("|");
      if (matrixOf?.id !== id) {
        matrixOf = { id, ...matrix(names, { caption: "Pairs with a fact" }) };
        grid.replaceChildren(matrixOf.el);
      }
      matrixOf.draw((r, c) => {
        if (r === c) return null;
        const here = list.filter((f) => f.head === r && f.tail === c), kinds = new Set(here.map((f) => f.kind));
        const kind = kinds.has("new") ? "new" : kinds.has("hit") ? "hit" : kinds.has("missed") ? "missed" : "";
        return { text: { new: "+", hit: "✓", missed: "−", "": "" }[kind], kind, title: here.map((f) => `${f.relation}${{ new: ", new", missed: ", lost", hit: "" }[f.kind]}`).join("; ") || "no fact" };
      }, null);
    }

    function ask({ names, facts: list, from }, state) {
      if (!data.question || state.change?.text) return "";
      const [head, relation, tail] = data.question, fact = list.find((f) => f.id === key(data.question) && f.kind !== "missed");
      const who = `${names[head]} → ${names[tail]}, ${relation}`;
      if (![head, tail].every((e) => from.includes(e))) return `${who}: one of the two is no longer in the text.`;
      return fact ? `${who}: yes, by a margin of ${number(fact.score, 1)} logits, from sentence${fact.evidence.length === 1 ? "" : "s"} ${fact.evidence.join(" and ") || "none"}.` : `${who}: the model does not say so.`;
    }

    const shown = textOf(given), failed = () => context.model.page && !!context.model.get("failed");
    shown.draw({});
    text.append(shown.el);
    liven(context, widget, async (state, think) => {
      const { triples } = await think(data.live[state.model], state.change?.document ?? given);
      return { found: triples.map((t) => [t.head, t.relation, t.tail, Math.round(100 * t.score) / 100, t.evidence]) };
    });
    widget.run(() => {
      const free = can && !failed(), state = { ...widget.state(), ...(free ? {} : { change: null }) };  // otherwise only stored answers remain
      const own = (free && widget.answer()?.found) || found(state);
      which.set(state.model);
      edit.el.hidden = !free;
      text.hidden = free;
      if (free) edit.draw();
      if (!own) return undefined;  // an answer to this change is on its way
      const seen = compare(state, own), signs = { hit: "✓", new: "+", missed: "−" }, words = { hit: "as before", new: "new", missed: "lost" };
      drawGraph(seen, state);
      drawMatrix(seen);
      question.textContent = ask(seen, state);
      question.hidden = !question.textContent;
      const order = { new: 0, missed: 1, hit: 2 }, list = [...seen.facts].sort((a, b) => order[a.kind] - order[b.kind] || a.head - b.head || a.tail - b.tail);
      facts.replaceChildren(table(`Facts that ${data.models[state.model]} finds`, ["change", "head", "relation", "tail", "margin (logits)", "evidence"], list.map((f) => [
        h("span", { class: `dw-cell dw-${f.kind}`, role: "img", "aria-label": words[f.kind] }, signs[f.kind]), seen.names[f.head], f.relation, seen.names[f.tail], number(f.score, 1), f.evidence.map((s) => `[${s}]`).join(" ") || "none"])));
      const count = (kind) => list.filter((f) => f.kind === kind).length, total = count("hit") + count("new");
      const name = (f) => `${seen.names[f.head]} ${f.relation} ${seen.names[f.tail]}`;
      const some = (kind) => list.filter((f) => f.kind === kind).slice(0, 3).map(name).join("; ") + (count(kind) > 3 ? ` and ${count(kind) - 3} more` : "");
      const said = !state.change ? `${data.models[state.model]} finds ${total} facts. ${free ? "Strike a sentence or a word, or rename somebody, and see what follows." : ""}`
        : state.change.text ? `${total} facts in your text.`
          : `${total} facts now; ${count("new") ? `new: ${some("new")}` : "none is new"}; ${count("missed") ? `lost: ${some("missed")}` : "none is lost"}.`;
      return said;
    });
  },
};
