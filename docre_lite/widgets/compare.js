export default {
  render(context) {
    const widget = start(context, "Models side by side"), { data } = widget;
    const side = 150;  // of a map, in the units of its picture
    const which = select("Document", data.documents.map((d, k) => [k, d.title]), (v) => widget.choose({ document: v, fact: "" }));
    const kind = choice("Facts", [["all", "all"], ["intra", "within a sentence"], ["inter", "across sentences"], ["composed", "composed"]], (v) => widget.choose({ kind: v }));
    const agree = choice("Models", [["all", "any"], ["disagree", "disagree"], ["agree", "agree"]], (v) => widget.choose({ agree: v }));
    const maps = h("div", { class: "dw-row dw-maps" });
    const facts = h("div", { class: "dw-scroll dw-facts" });
    const text = h("div", {});
    widget.body.append(
      row(which.el), row(kind.el, agree.el), maps,
      legend(["hit", "right: gold and claimed", "✓"], ["wrong", "wrong: claimed, not gold", "✗"], ["missed", "missed: gold, not claimed", "○"]),
      facts, widget.status, text,  // what is said of a fact stands beside it
    );
    const marks = { hit: ["✓", "right"], wrong: ["✗", "wrong"], missed: ["○", "missed"], "": ["", "not claimed"] };
    const key = ([head, relation, tail]) => `${head}|${relation}|${tail}`;

    /** Every fact that is gold or claimed by a model, with what each model makes of it. */
    function factsOf(doc, claims) {
      const together = new Set(doc.together.map(([a, b]) => `${a}|${b}`)), found = new Map();
      const add = (head, relation, tail) => {
        const id = key([head, relation, tail]);
        if (!found.has(id)) found.set(id, { id, head, relation, tail, gold: null, intra: together.has(`${head}|${tail}`), margins: claims.map(() => undefined) });
        return found.get(id);
      };
      doc.gold.forEach((t) => { add(t.head, t.relation, t.tail).gold = t; });
      claims.forEach((list, m) => list.forEach(([head, relation, tail, margin]) => { add(head, relation, tail).margins[m] = margin; }));
      const list = [...found.values()];
      list.forEach((f) => { f.says = f.margins.map((margin) => (margin !== undefined ? (f.gold ? "hit" : "wrong") : f.gold ? "missed" : "")); });
      return list.sort((a, b) => a.head - b.head || a.tail - b.tail || a.relation.localeCompare(b.relation));
    }

    /** One model's pairs: a filled square where all its facts are right, a cross where one is wrong, a ring where one is missed. */
    function mapOf(doc, name, m, list, chosen) {
      const count = doc.names.length, step = side / count, pairs = new Map();
      list.forEach((f) => {
        if (!f.says[m]) return;
        const id = `${f.head}|${f.tail}`, said = pairs.get(id) ?? { head: f.head, tail: f.tail, kinds: new Set() };
        said.kinds.add(f.says[m]);
        pairs.set(id, said);
      });
      const counts = { hit: 0, wrong: 0, missed: 0 };
      list.forEach((f) => { if (f.says[m]) counts[f.says[m]] += 1; });
      const { hit, wrong, missed } = counts, composed = widget.state().kind === "composed";
      const f1 = composed ? hit / Math.max(hit + missed, 1) : (2 * hit) / Math.max(2 * hit + wrong + missed, 1);
      const measure = composed ? "recall" : "F1";
      const line = (head, tail, look) => {
        const [x, y, p] = [tail * step, head * step, step * 0.18];
        if (look === "hit") return h("rect", { class: "dw-map-hit", x: x + p / 2, y: y + p / 2, width: step - p, height: step - p });
        if (look === "missed") return h("circle", { class: "dw-map-missed", cx: x + step / 2, cy: y + step / 2, r: step / 2 - p });
        return h("path", { class: "dw-map-wrong", d: `M${x + p} ${y + p}L${x + step - p} ${y + step - p}M${x + step - p} ${y + p}L${x + p} ${y + step - p}` });
      };
      const label = `${name}: ${hit} right, ${wrong} wrong, ${missed} missed`;
      const picture = h("svg", { class: "dw-map", viewBox: `-1 -1 ${side + 2} ${side + 2}`, role: "img", "aria-label": `Pairs of ${label}; heads in rows, tails in columns` },
        h("rect", { class: "dw-map-ground", x: 0, y: 0, width: side, height: side }),
        ...Array.from({ length: count }, (_, k) => h("rect", { class: "dw-map-none", x: k * step, y: k * step, width: step, height: step })),
        ...[...pairs.values()].flatMap(({ head, tail, kinds }) => ["hit", "missed", "wrong"].filter((k) => kinds.has(k)).map((k) => line(head, tail, k))),
        chosen && h("rect", { class: "dw-map-on", x: chosen.tail * step, y: chosen.head * step, width: step, height: step }));
      return h("figure", { class: "dw-figure" }, picture,
        h("figcaption", {}, h("strong", {}, name), h("br"), `${measure} ${number(100 * f1, 1)} %`, h("br"), `✓ ${hit}`, composed ? "" : `  ✗ ${wrong}`, `  ○ ${missed}`));
    }

    let drawn = null;  // the text of a document is built once, not for every fact
    function textFor(k, doc) {
      if (drawn?.k !== k) {
        drawn = { k, ...textOf(doc) };
        text.replaceChildren(drawn.el);
      }
      return drawn;
    }

    widget.run(() => {
      const state = widget.state(), doc = data.documents[state.document];
      which.set(state.document); kind.set(state.kind); agree.set(state.agree);
      const claims = widget.answer()?.claims ?? data.models.map((model) => model.claims[state.document]);
      const wanted = { all: () => true, intra: (f) => f.intra, inter: (f) => !f.intra, composed: (f) => !!f.gold?.depth }[state.kind];
      const narrowed = factsOf(doc, claims).filter(wanted);
      const united = (f) => new Set(f.says.map((s) => s === "hit" || s === "wrong")).size === 1;
      const list = narrowed.filter((f) => state.agree === "all" || united(f) === (state.agree === "agree"));
      const chosen = list.find((f) => f.id === state.fact);
      maps.replaceChildren(...data.models.map(({ name }, m) => mapOf(doc, name, m, narrowed, chosen)));

      const focused = facts.contains(document.activeElement);
      const buttons = list.map((f, k) => h("button", {
        type: "button", class: "dw-fact", "aria-pressed": String(f === chosen), tabindex: f === chosen || (!chosen && k === 0) ? 0 : -1,
        onclick: () => widget.choose({ fact: f.id }),
        onkeydown: (event) => {
          const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
          if (!step) return;
          event.preventDefault();
          if (list[k + step]) { buttons[k + step].focus(); widget.choose({ fact: list[k + step].id }); }
        },
      }, `${doc.names[f.head]} → ${doc.names[f.tail]}: ${f.relation}`));
      const cell = (says, margin) => {
        const [mark, word] = marks[says];
        return h("td", {}, h("span", { class: `dw-cell${says && ` dw-${says}`}`, role: "img", "aria-label": word, title: margin === undefined || margin === null ? word : `${word}, margin ${number(margin)}` }, mark));
      };
      const place = facts.scrollTop;
      facts.replaceChildren(h("table", { class: "dw-table" },
        h("caption", {}, `${list.length} of ${narrowed.length} facts, gold or claimed; arrow keys walk`),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "fact"), h("th", { scope: "col" }, "gold"), ...data.models.map(({ name }) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, ...list.map((f, k) => h("tr", { class: f === chosen ? "dw-on" : null },
          h("th", { scope: "row" }, buttons[k]),
          h("td", {}, f.gold ? (f.gold.depth ? `composed, ${f.gold.depth}` : "stated") : "no"),
          ...f.says.map((says, m) => cell(says, f.margins[m])))))));
      facts.scrollTop = place;
      if (focused && chosen) buttons[list.indexOf(chosen)].focus();

      textFor(state.document, doc).draw({
        strong: chosen ? [[chosen.head, "head"], [chosen.tail, "tail"]] : [], evidence: chosen?.gold?.evidence ?? [],
      });
      if (!chosen) {
        const apart = narrowed.filter((f) => !united(f)).length;
        return `${doc.title}: ${narrowed.length} facts, and the models disagree on ${apart}. Choose a fact to find it in the text.`;
      }
      const by = (says) => data.models.filter((_, m) => chosen.says[m] === says).map(({ name }) => name).join(", ") || "none";
      const name = ([head, relation, tail]) => `${doc.names[head]} ${relation} ${doc.names[tail]}`;
      const source = !chosen.gold ? `It is not gold; claimed by ${by("wrong")}.` : `Gold; claimed by ${by("hit")}; missed by ${by("missed")}.`;
      const from = chosen.gold?.premises?.length ? ` It follows from: ${chosen.gold.premises.map(name).join("; ")}.` : "";
      return `${name([chosen.head, chosen.relation, chosen.tail])}, ${chosen.intra ? "within a sentence" : "across sentences"}. ${source}${from}`;
    });
  },
};
