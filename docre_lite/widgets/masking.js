// Pairs are hidden, the model says what it can of all of them: given, restored and gold; F1 over the rate; one pair's paths.
export default {
  render(context) {
    const widget = start(context, "Hide pairs, and see what is restored");
    const { data } = widget, { names, relations, modes, rates, states, gold } = data, count = names.length;
    const candidate = new Set(data.pairs.map(([h, t]) => h * count + t));
    const goldOf = (h, t) => gold.filter((g) => g.head === h && g.tail === t);
    const entity = (e) => `${e} ${names[e]}`;
    const live = () => !!context.model.get("answer")?.state;
    let shown = null;

    const choosePair = (h, t) => widget.choose({ head: h, tail: t });
    const given = matrix(names, { caption: "Given to the model", onchoose: choosePair });
    const told = matrix(names, { caption: "What it says of all pairs", onchoose: choosePair });
    const known = matrix(names, { caption: "Gold", onchoose: choosePair });
    const rate = slider("Pairs hidden", { min: 0, max: rates[rates.length - 1], step: rates[1] - rates[0], text: (v) => `${v} %` }, (v) => widget.choose({ rate: v }));
    const resample = () => {
      const { draw } = widget.state();
      widget.choose({ draw: live() ? draw + 1 : (draw + 1) % data.draws });  // a kernel draws anew
    };
    const which = h("span", { class: "dw-value" });
    const f1 = states.map((of) => of.map(({ scores }) => scores[0] / 100));
    const mean = f1.map((of) => of.reduce((a, b) => a + b, 0) / of.length);
    const low = f1.map((of) => Math.min(...of)), high = f1.map((of) => Math.max(...of));
    const curve = curves({
      x: rates.map((r) => r / 100), series: [{ name: "mean F1", values: mean }], band: [low, high],
      xlabel: "pairs hidden (%)", ylabel: "F1 (%)",
    });
    const numbers = h("div", {}), pair = h("div", { class: "dw-pair" });
    widget.body.append(
      row(rate.el, h("div", { class: "dw-control" }, button("Resample", resample), which)),
      h("div", { class: "dw-row dw-three" }, given.el, told.el, known.el),
      legend(["hidden", "hidden"], ["gold", "holds a stated relation", "•"], ["gold", "holds a composed one", "◆"]),
      legend(["hit", "all right", "✓"], ["partly", "partly right", "±"], ["wrong", "wrong", "✗"], ["missed", "missed", "○"], ["veiled", "dotted frame: said of a hidden pair"]),
      row(numbers, h("div", { class: "dw-curve" }, curve.el, h("p", { class: "dw-hint" }, `Line and ring: mean of ${data.draws} draws; band: their range; full dot: this draw.`))),
      pair,
    );

    /** The answer at this rate and draw: the kernel's, or a precomputed one; null while a fresh draw is on its way. */
    function find({ rate: share, draw }) {
      const answer = context.model.get("answer");
      if (answer?.state?.rate === share && answer.state.draw === draw) return answer;
      const of = states[rates.indexOf(share)];
      return draw < data.draws || !shown ? of[draw % of.length] : null;
    }
    const step = (g) => (g.depth ? `composed in ${g.depth} step${g.depth > 1 ? "s" : ""}` : "stated");
    const list = (items) => items.join(", ") || "none";

    /** What is said of one pair, beside gold. */
    function compare(found, s, o) {
      const claim = found.claims.find(([a, b]) => a === s && b === o), right = goldOf(s, o).map((g) => g.relation);
      const claimed = claim ? claim[2] : [], hits = claimed.filter((r) => right.includes(r));
      const missed = right.filter((r) => !claimed.includes(r));
      const kind = !claimed.length ? (missed.length ? "missed" : "") : !hits.length ? "wrong" : missed.length || hits.length < claimed.length ? "partly" : "hit";
      const title = [...claimed.map((r) => `${relations[r]}, ${right.includes(r) ? "right" : "wrong"}`), ...missed.map((r) => `${relations[r]}, missed`)];
      return { claim, claimed, kind, title: title.join("; ") || "no relation, right" };
    }
    const marks = { hit: "✓", partly: "±", wrong: "✗", missed: "○", "": "" };

    /** One line a mode: the gold derivations of its pattern, what its head is worth, where it looks in each layer. */
    function modeTable(found, claim, s, o, isHidden) {
      const place = found.claims.indexOf(claim), [, , , followed, margin, ...without] = claim;
      const looks = unpack(found.looks), middles = unpack(found.middles), [, layers] = looks.shape;
      const facts = goldOf(s, o), ways = facts.flatMap((g) => g.ways.map((way) => [...way, g.relation]));
      const least = Math.min(...without), most = least < margin ? without.indexOf(least) : -1;
      const away = (legs) => ["both legs seen", "one leg hidden", "both legs hidden"][legs.filter(([a, b]) => isHidden(a, b)).length];
      const rows = modes.map((name, m) => [
        name,
        ways.every(([mode]) => mode !== m) ? "none" : ways.filter(([mode]) => mode === m).map(([, x, pattern, legs, r]) => h("div", {},
          `${pattern}${facts.length > 1 ? ` ⇒ ${relations[r]}` : ""}, x = ${entity(x)} (${away(legs)})`)),
        `${number(without[m], 1)} (${without[m] >= margin ? "+" : ""}${number(without[m] - margin, 1)})${m === most ? " ◀" : ""}`,
        ...Array.from({ length: layers }, (_, l) => {
          const x = Math.round(middles.at(place, l, m)), share = looks.at(place, l, m, 1);
          const right = ways.some(([, middle]) => middle === x) ? " ✓" : "";
          return `${percent(looks.at(place, l, m, 0))}${share >= 0.005 ? `; ${entity(x)} ${percent(share)}${right}` : ""}`;
        }),
      ]);
      const head = ["mode", "gold derivations", "margin without this head", ...Array.from({ length: layers }, (_, l) => `layer ${l + 1}: all paths; strongest x`)];
      const about = `Margin of ${relations[followed]} over the threshold: ${number(margin, 1)} logits. ◀: without this head it falls most. `
        + "Layers: share of the head's attention; ✓: this x belongs to a gold derivation.";
      return { els: [h("p", { class: "dw-hint" }, about), table("What each mode's head is worth here, and where it looks", head, rows)], most, margin, least, followed };
    }

    widget.run(() => {
      const state = widget.state(), { head: s, tail: o } = state, found = find(state);
      rate.set(state.rate);
      if (!found) return undefined;
      shown = found;
      const isHidden = (a, b) => found.hidden[a * count + b] === "1", chosen = [s, o];
      const asked = (a, b) => candidate.has(a * count + b), total = gold.length;
      const veil = (a, b) => (isHidden(a, b) ? "hidden" : "seen");
      const sign = (facts) => (!facts.length ? "" : facts.every((g) => g.depth) ? "◆" : "•");
      which.textContent = state.rate ? (state.draw < data.draws ? `draw ${state.draw + 1} of ${data.draws}` : `draw ${state.draw + 1}, fresh`) : "nothing to draw";
      given.draw((a, b) => {
        if (a === b) return null;
        const facts = goldOf(a, b), kind = isHidden(a, b) ? "hidden" : facts.length ? "gold" : "";
        return { kind, text: sign(facts), title: `${veil(a, b)}${facts.length ? ", holds a relation" : ""}` };
      }, chosen);
      told.draw((a, b) => {
        if (!asked(a, b)) return null;
        const { kind, title } = compare(found, a, b);
        return { kind: [kind, ...(isHidden(a, b) ? ["veiled"] : [])].join(" dw-"), text: marks[kind], title: `${title} (${veil(a, b)})` };
      }, chosen);
      known.draw((a, b) => {
        if (!asked(a, b)) return null;
        const facts = goldOf(a, b);
        return { kind: facts.length ? "gold" : "", text: sign(facts), title: list(facts.map((g) => `${relations[g.relation]} (${step(g)})`)) };
      }, chosen);

      const at = rates.indexOf(state.rate), [own, precision, recall] = found.scores;
      curve.draw(state.rate / 100, own / 100);
      const wrong = found.claims.reduce((sum, [, , claimed]) => sum + claimed.length, 0) - found.correct;
      const share = (x) => number(100 * x, 1);
      const several = f1[at].length > 1 ? `${f1[at].length} draws` : "one draw";
      numbers.replaceChildren(table(`${data.title}, ${state.rate} % of the pairs hidden`, ["measure", "value"], [
        ["F1 of this draw (%)", number(own, 1)], ["its precision (%)", number(precision, 1)], ["its recall (%)", number(recall, 1)],
        ["gold triples found", `${found.correct} of ${total}`], ["on hidden pairs", `${found.restored} of ${found.covered}`], ["wrong claims", String(wrong)],
        [`F1, mean of ${several} (%)`, share(mean[at])], ["their range (%)", `${share(low[at])} to ${share(high[at])}`],
      ]));

      const { claim, claimed } = compare(found, s, o), facts = goldOf(s, o);
      const title = h("p", { class: "dw-hint" }, h("strong", {}, `A = ${entity(s)} → B = ${entity(o)}`), ` (${veil(s, o)}). Gold: `
        + `${list(facts.map((g) => `${relations[g.relation]} (${step(g)})`))}. Predicted: ${list(claimed.map((r) => relations[r]))}.`);
      const paths = claim ? modeTable(found, claim, s, o, isHidden) : null;
      pair.replaceChildren(title, ...(paths ? paths.els : [h("p", { class: "dw-hint" }, "Nothing holds and nothing is claimed here: choose a marked pair to see its paths.")]));
      const carried = paths && paths.most >= 0
        ? ` Without the head ${modes[paths.most]} the margin of ${relations[paths.followed]} falls most, from ${number(paths.margin, 1)} to ${number(paths.least, 1)}.`
        : paths ? ` No head alone lifts the margin of ${relations[paths.followed]}.` : "";
      return `${state.rate} % hidden: F1 ${number(own, 1)}, ${found.correct} of ${total} gold triples found, `
        + `${found.restored} of the ${found.covered} on hidden pairs among them; ${wrong} wrong claim${wrong === 1 ? "" : "s"}. `
        + `${names[s]} → ${names[o]}, ${veil(s, o)}: ${compare(found, s, o).title}.${carried}`;
    });
  },
};
