// Several models side by side: a map and a column per model, a row per fact; also in a document that the reader changes.
export default {
  render(context) {
    const widget = start(context, "Models side by side"), { data } = widget;
    const side = 150;  // of a map, in the units of its picture
    const can = data.asked && changeable(context, widget);
    const which = select("Document", data.documents.map((d, k) => [k, d.title]), (v) => widget.choose({ document: v, fact: "", change: null }));
    const kind = choice("Facts", [["all", "all"], ["intra", "within a sentence"], ["inter", "across sentences"], ["composed", "composed"]], (v) => widget.choose({ kind: v }));
    const agree = choice("Models", [["all", "any"], ["disagree", "disagree"], ["agree", "agree"]], (v) => widget.choose({ agree: v }));
    const maps = h("div", { class: "dw-row dw-maps" });
    const facts = h("div", { class: "dw-scroll dw-facts" });
    const text = h("div", {}), edit = h("div", {});
    const changes = h("details", { class: "dw-change" }, h("summary", {}, "Change the document"), edit);
    const signs = h("div", {});
    widget.body.append(
      row(which.el), ...(can ? [changes] : []), row(kind.el, agree.el), maps, signs,
      facts, widget.status, text,  // the comment on a fact is beside it
    );
    // The meaning of a mark: for a model if gold is known, after a change of the text's content, in a text without gold.
    const marks = {
      gold: { hit: ["✓", "right"], wrong: ["✗", "wrong"], missed: ["○", "missed"], "": ["", "not claimed"] },
      change: { hit: ["✓", "as before"], new: ["+", "new"], lost: ["−", "lost"], "": ["", "not claimed"] },
      own: { hit: ["✓", "claimed"], "": ["", "not claimed"] },
    };
    const legends = {
      gold: legend(["hit", "right: gold and claimed", "✓"], ["wrong", "wrong: claimed, not gold", "✗"], ["missed", "missed: gold, not claimed", "○"]),
      change: legend(["hit", "claimed, as before", "✓"], ["new", "claimed since your change", "+"], ["missed", "lost with your change", "−"]),
      own: legend(["hit", "claimed; only you know what is right in your text", "✓"]),
    };
    const key = ([head, relation, tail]) => `${head}|${relation}|${tail}`;

    /** Renaming keeps the gold facts; striking words changes the content of the text. */
    function modeOf(change) {
      if (change?.text) return "own";
      return change?.words?.length || change?.sentences?.length ? "change" : "gold";
    }

    /** Every fact that is gold or claimed by a model, before or now, with each model's verdict. */
    function factsOf(doc, { gold, before, claims, mode }) {
      const found = new Map(), stands = doc.names.map((_, e) => new Set(doc.mentions.filter((m) => m.entity === e).map((m) => m.sentence)));
      const add = ([head, relation, tail]) => {
        const id = key([head, relation, tail]);
        if (!found.has(id)) found.set(id, { id, head, relation, tail, gold: null, intra: [...stands[head]].some((s) => stands[tail].has(s)), margins: claims.map(() => undefined), was: claims.map(() => false) });
        return found.get(id);
      };
      claims.forEach((list, m) => list.forEach((claim) => { [,,, add(claim).margins[m]] = claim; }));
      if (mode === "change") before.forEach((list, m) => list.forEach((claim) => { add(claim).was[m] = true; }));
      gold.forEach((t) => {
        const fact = [t.head, t.relation, t.tail];
        if (mode === "gold" || found.has(key(fact))) add(fact).gold = t;
      });
      const list = [...found.values()], say = {
        gold: (f, claimed) => (claimed ? (f.gold ? "hit" : "wrong") : f.gold ? "missed" : ""),
        change: (f, claimed, was) => (claimed ? (was ? "hit" : "new") : was ? "lost" : ""),
        own: (f, claimed) => (claimed ? "hit" : ""),
      }[mode];
      list.forEach((f) => {
        f.claimed = f.margins.map((margin) => margin !== undefined);
        f.says = f.claimed.map((claimed, m) => say(f, claimed, f.was[m]));
      });
      return list.sort((a, b) => a.head - b.head || a.tail - b.tail || a.relation.localeCompare(b.relation));
    }

    /** One model's pairs: a filled square for facts that are right or as before, and signs for all else that a mark says. */
    function mapOf(doc, name, m, list, chosen, mode) {
      const count = doc.names.length, step = side / count, pairs = new Map();
      list.forEach((f) => {
        if (!f.says[m]) return;
        const id = `${f.head}|${f.tail}`, said = pairs.get(id) ?? { head: f.head, tail: f.tail, kinds: new Set() };
        said.kinds.add(f.says[m]);
        pairs.set(id, said);
      });
      const counts = { hit: 0, wrong: 0, missed: 0, new: 0, lost: 0 };
      list.forEach((f) => { if (f.says[m]) counts[f.says[m]] += 1; });
      const { hit, wrong, missed } = counts, composed = widget.state().kind === "composed";
      const f1 = composed ? hit / Math.max(hit + missed, 1) : (2 * hit) / Math.max(2 * hit + wrong + missed, 1);
      const measure = composed ? "recall" : "F1", total = `${hit + counts.new} found`;
      const under = {
        gold: [`${measure} ${number(100 * f1, 1)} %`, h("br"), `✓ ${hit}`, composed ? "" : `  ✗ ${wrong}`, `  ○ ${missed}`],
        change: [total, h("br"), `✓ ${hit}, + ${counts.new}, − ${counts.lost}`], own: [total],
      }[mode];
      const line = (head, tail, look) => {
        const [x, y, p] = [tail * step, head * step, step * 0.18];
        if (look === "hit") return h("rect", { class: "dw-map-hit", x: x + p / 2, y: y + p / 2, width: step - p, height: step - p });
        if (look === "missed") return h("circle", { class: "dw-map-missed", cx: x + step / 2, cy: y + step / 2, r: step / 2 - p });
        if (look === "new" || look === "lost") {
          const [u, v] = [x + step / 2, y + step / 2], upright = look === "new" ? `M${u} ${y + p}L${u} ${y + step - p}` : "";
          return h("path", { class: `dw-map-${look}`, d: `M${x + p} ${v}L${x + step - p} ${v}${upright}` });
        }
        return h("path", { class: "dw-map-wrong", d: `M${x + p} ${y + p}L${x + step - p} ${y + step - p}M${x + step - p} ${y + p}L${x + p} ${y + step - p}` });
      };
      const label = { gold: `${name}: ${hit} right, ${wrong} wrong, ${missed} missed`, change: `${name}: ${hit} as before, ${counts.new} new, ${counts.lost} lost`, own: `${name}: ${hit}` }[mode];
      const picture = h("svg", { class: "dw-map", viewBox: `-1 -1 ${side + 2} ${side + 2}`, role: "img", "aria-label": `Pairs of ${label}; heads in rows, tails in columns` },
        h("rect", { class: "dw-map-ground", x: 0, y: 0, width: side, height: side }),
        ...Array.from({ length: count }, (_, k) => h("rect", { class: "dw-map-none", x: k * step, y: k * step, width: step, height: step })),
        ...[...pairs.values()].flatMap(({ head, tail, kinds }) => ["hit", "missed", "wrong", "lost", "new"].filter((k) => kinds.has(k)).map((k) => line(head, tail, k))),
        chosen && h("rect", { class: "dw-map-on", x: chosen.tail * step, y: chosen.head * step, width: step, height: step }));
      return h("figure", { class: "dw-figure" }, picture,
        h("figcaption", {}, h("strong", {}, name), h("br"), ...under));
    }

    // What the models say --------------------------------------------------------------------------------------------

    let held = null;  // their answers for the last document: choosing a fact needs no new ones
    const keyOf = (state) => JSON.stringify([state.document, state.change]);
    liven(context, widget, async (state, think) => {
      if (held?.key === keyOf(state)) return { claims: held.claims };
      const doc = state.change?.document ?? data.documents[state.document];
      const answers = await Promise.all(data.live.map((paper) => think(paper, doc)));
      return { claims: answers.map(({ triples }) => triples.map((t) => [t.head, t.relation, t.tail, Math.round(100 * t.score) / 100])) };
    });
    /** Claims, if known, in the numbers of the document before words were struck. */
    function said(state, doc) {
      const answer = widget.answer()?.claims, before = data.models.map((model) => model.claims[state.document]);
      if (answer) held = { key: keyOf(state), claims: answer };
      const own = held?.key === keyOf(state) ? held.claims : state.change ? null : before;
      return { before, claims: own?.map((list) => list.map(([s, r, o, margin]) => [doc.left[s], r, doc.left[o], margin])) };
    }

    // Drawing --------------------------------------------------------------------------------------------------------

    let drawn = null, editing = null;  // built once per document, not for every fact
    function textFor(state, doc) {
      if (drawn?.key !== keyOf(state)) {
        drawn = { key: keyOf(state), ...textOf(doc) };
        text.replaceChildren(drawn.el);
      }
      return drawn;
    }
    function editorFor(k) {
      if (editing?.k === k) return editing;
      const choose = ({ change }) => widget.choose({ change, ...(change?.text === widget.state().change?.text ? {} : { fact: "" }) });
      editing = { k, ...editor({ ...widget, choose }, data.documents[k]) };
      edit.replaceChildren(editing.el);
      return editing;
    }
    /** The state to draw: the reader's, or the given document if the models do not run. */
    function current() {
      const failed = context.model.page && context.model.get("failed");
      changes.hidden = !!failed;
      return failed ? { ...widget.state(), change: null } : widget.state();
    }

    /** Buttons for facts; arrow keys walk. */
    function buttonsOf(list, doc, chosen) {
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
      return buttons;
    }
    function drawFacts(list, all, doc, chosen, mode) {
      const focused = facts.contains(document.activeElement), place = facts.scrollTop, buttons = buttonsOf(list, doc, chosen);
      const cell = (says, margin) => {
        const [mark, word] = marks[mode][says], look = says === "lost" ? "missed" : says;
        return h("td", {}, h("span", { class: `dw-cell${look && ` dw-${look}`}`, role: "img", "aria-label": word, title: margin === undefined || margin === null ? word : `${word}, margin ${number(margin)}` }, mark));
      };
      const about = (f) => (mode === "own" ? `${f.claimed.filter(Boolean).length} of ${f.claimed.length}` : f.gold ? (f.gold.depth ? `composed, ${f.gold.depth}` : "stated") : "no");
      const what = { gold: "gold or claimed", change: "claimed before or now", own: "claimed" }[mode];
      facts.replaceChildren(h("table", { class: "dw-table" },
        h("caption", {}, `${list.length} of ${all.length} facts, ${what}; arrow keys walk`),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "fact"), h("th", { scope: "col" }, { gold: "gold", change: "gold before", own: "found by" }[mode]), ...data.models.map(({ name }) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, ...list.map((f, k) => h("tr", { class: f === chosen ? "dw-on" : null },
          h("th", { scope: "row" }, buttons[k]), h("td", {}, about(f)), ...f.says.map((says, m) => cell(says, f.margins[m])))))));
      facts.scrollTop = place;
      if (focused && chosen) buttons[list.indexOf(chosen)].focus();
    }

    const united = (f) => new Set(f.claimed).size === 1;
    function sayAll(state, doc, list, { before, claims }, mode) {
      const apart = list.filter((f) => !united(f)).length, choose = "Choose a fact to find it in the text.";
      if (!state.change) return `${doc.title}: ${list.length} facts, and the models disagree on ${apart}. ${choose}`;
      if (mode === "own") return `Your text: the models find ${list.length} facts, and disagree on ${apart}. ${choose}`;
      const moved = data.models.map(({ name }, m) => {
        const [was, now] = [before[m], claims[m]].map((one) => new Set(one.map(key)));
        return [name, [...now].filter((id) => !was.has(id)).length, [...was].filter((id) => !now.has(id)).length];
      });
      const still = moved.filter(([, more, less]) => !more && !less).map(([name]) => name);
      const parts = moved.filter(([, more, less]) => more || less).map(([name, more, less]) => `${name} ${[more && `gains ${more}`, less && `loses ${less}`].filter(Boolean).join(" and ")}`);
      return `With your change ${parts.length ? parts.join(", ") : "no model gains or loses a fact"}${still.length && parts.length ? `; nothing changes for ${still.join(", ")}` : ""}. ${choose}`;
    }
    function sayOne(doc, f, mode) {
      const by = (...says) => data.models.filter((_, m) => says.includes(f.says[m])).map(({ name }) => name).join(", ") || "none";
      const name = ([head, relation, tail]) => `${doc.names[head]} ${relation} ${doc.names[tail]}`;
      const there = [f.head, f.tail].every((e) => doc.left.includes(e));
      const where = there ? `${f.intra ? "within a sentence" : "across sentences"}.` : "one of the two is no longer in the text.";
      const source = {
        gold: f.gold ? `Gold; claimed by ${by("hit")}; missed by ${by("missed")}.` : `It is not gold; claimed by ${by("wrong")}.`,
        change: `${[["hit", "As before"], ["new", "New"], ["lost", "Lost"]].filter(([says]) => f.says.includes(says)).map(([says, word]) => `${word}: ${by(says)}.`).join(" ")}${f.gold ? " It was gold before your change." : ""}`,
        own: `Claimed by ${by("hit")}; not by ${by("")}.`,
      }[mode];
      const from = f.gold?.premises?.length ? ` It ${mode === "change" ? "followed" : "follows"} from: ${f.gold.premises.map(name).join("; ")}.` : "";
      return `${name([f.head, f.relation, f.tail])}, ${where} ${source}${from}`;
    }

    widget.run(() => {
      const state = current(), given = data.documents[state.document], doc = numbered(given, state.change), mode = modeOf(state.change);
      const shown = state.kind === "composed" && mode === "own" ? "all" : state.kind;  // nobody knows which facts are composed
      which.set(state.document); kind.set(shown); agree.set(state.agree);
      kind.el.lastChild.hidden = mode === "own";
      if (can) editorFor(state.document).draw();
      const picture = textFor(state, doc), { before, claims } = said(state, doc);
      if (!claims) { picture.draw({}); return undefined; }  // an answer is on its way
      signs.replaceChildren(legends[mode]);
      const gold = mode === "own" ? [] : given.gold;
      const wanted = { all: () => true, intra: (f) => f.intra, inter: (f) => !f.intra, composed: (f) => !!f.gold?.depth }[shown];
      const narrowed = factsOf(doc, { gold, before, claims, mode }).filter(wanted);
      const list = narrowed.filter((f) => state.agree === "all" || united(f) === (state.agree === "agree"));
      const chosen = list.find((f) => f.id === state.fact);
      maps.replaceChildren(...data.models.map(({ name }, m) => mapOf(doc, name, m, narrowed, chosen, mode)));
      drawFacts(list, narrowed, doc, chosen, mode);
      const evidence = doc.lines.flatMap((line, s) => (chosen?.gold?.evidence.includes(line) ? [s] : []));
      picture.draw({ strong: chosen ? [[chosen.head, "head"], [chosen.tail, "tail"]] : [], evidence });
      return chosen ? sayOne(doc, chosen, mode) : sayAll(state, doc, narrowed, { before, claims }, mode);
    });
  },
};
