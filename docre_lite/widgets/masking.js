// The model answers for all pairs while some are hidden: given, restored and gold; F1 over the rate; one pair's paths.

/** The cells of the path A – x – B that each mode's head looks along. */
const LEGS = [
  (a, b, x) => [[a, x], [x, b]], (a, b, x) => [[a, x], [b, x]], (a, b, x) => [[x, a], [b, x]], (a, b, x) => [[x, a], [x, b]],
];

/** A draw of the page's own: exactly ⌊rate · cells⌋ cells off the diagonal, "1" for each; more are added as the rate rises. */
function drawHidden(count, rate, seed) {
  let word = Math.imul(seed + 1, 0x9e3779b1);
  const random = () => {  // mulberry32
    word = (word + 0x6d2b79f5) | 0;
    let t = Math.imul(word ^ (word >>> 15), 1 | word);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
  const score = Array.from({ length: count * count }, random), cells = [...score.keys()].filter((c) => c % count !== Math.floor(c / count));
  const gone = new Set(cells.sort((a, b) => score[a] - score[b] || a - b).slice(0, Math.floor((rate / 100) * cells.length + 1e-4)));
  return score.map((_, c) => (gone.has(c) ? "1" : "0")).join("");
}

/** The answers with these cells hidden, in the format of `_state` in Python; `silent` holds the margins without each head. */
function stateOf({ gold, relations }, hidden, { n, margin, chosen, trace }, silent) {
  const size = relations.length, pairs = new Map();
  const at = (s, o) => { const c = s * n + o; if (!pairs.has(c)) pairs.set(c, { s, o, claimed: [], known: [] }); return pairs.get(c); };
  gold.forEach((g) => at(g.head, g.tail).known.push(g.relation));
  let found = 0, correct = 0;
  chosen.forEach((on, i) => { if (on) { found += 1; at(Math.floor(i / size / n), Math.floor(i / size) % n).claimed.push(i % size); } });
  const where = [...pairs.values()].sort((a, b) => a.s - b.s || a.o - b.o), short = (x) => Math.round(10 * x) / 10, looks = [], middles = [];
  const claims = where.map(({ s, o, claimed, known }) => {
    const of = (margins, r) => margins[(s * n + o) * size + r], right = claimed.filter((r) => known.includes(r));
    correct += right.length;
    const list = right.length ? right : claimed.length ? claimed : known, r = list.reduce((a, b) => (of(margin, b) > of(margin, a) ? b : a));
    for (const weights of trace.attention) {
      for (let m = 0; m < 4; m += 1) {
        const row = weights.subarray(((m * n + s) * n + o) * (n + 1), ((m * n + s) * n + o + 1) * (n + 1)), most = Math.max(...row.subarray(0, n));
        looks.push(1 - row[n], most);
        middles.push(row.indexOf(most));
      }
    }
    return [s, o, claimed, r, ...[margin, ...silent].map((margins) => short(of(margins, r)))];
  });
  const covered = gold.filter((g) => hidden[g.head * n + g.tail] === "1"), shape = [claims.length, trace.attention.length, 4];
  const share = (part, whole) => (whole ? part / whole : 0), [precision, recall] = [share(correct, found), share(correct, gold.length)];
  return {
    hidden, claims, correct, covered: covered.length,
    looks: packed([...shape, 2], looks, 0, 1), middles: packed(shape, middles, 0, 255),
    scores: [share(200 * precision * recall, precision + recall), 100 * precision, 100 * recall],
    restored: covered.filter((g) => at(g.head, g.tail).claimed.includes(g.relation)).length,
  };
}

export default {
  render(context) {
    const widget = start(context, "Hide pairs, and see what is restored");
    const { data } = widget, { names, relations, modes, rates, states, gold } = data, count = names.length;
    const candidate = new Set(data.pairs.map(([h, t]) => h * count + t));
    const goldOf = (h, t) => gold.filter((g) => g.head === h && g.tail === t);
    const entity = (e) => `${e} ${names[e]}`;
    const can = changeable(context, widget), failed = () => context.model.page && !!context.model.get("failed");
    /** Can pairs hidden just now get an answer: from a kernel, or from the page's own model? */
    const live = () => !failed() && (!!context.model.get("answer")?.state || (context.model.page && !!data.live));
    let shown = null, hiding = false, clicked = false, byHand = false, last = null, step = {};

    const storedAt = ({ rate, draw }) => { const of = states[rates.indexOf(rate)]; return of[draw % of.length]; };
    const drawn = (share, draw) => (draw < data.draws ? storedAt({ rate: share, draw }).hidden : drawHidden(count, share, draw));
    const hiddenOf = ({ rate, draw, hidden }) => hidden ?? drawn(rate, draw);
    const redraw = (share, draw) => widget.choose({ rate: share, draw, hidden: draw < data.draws ? null : drawn(share, draw) });
    function toggle(h, t) {
      const state = widget.state(), cells = [...hiddenOf(state)], at = h * count + t;
      cells[at] = cells[at] === "1" ? "0" : "1";
      const hidden = cells.join("");
      clicked = true;
      widget.choose({ hidden: state.draw < data.draws && hidden === drawn(state.rate, state.draw) ? null : hidden });
    }

    const choosePair = (h, t) => widget.choose({ head: h, tail: t });
    const given = matrix(names, {
      caption: "Given to the model", onchoose: (h, t) => (hiding ? toggle : choosePair)(h, t), onwalk: (h, t) => { if (!hiding) choosePair(h, t); },
    });
    const told = matrix(names, { caption: "What it says of all pairs", onchoose: choosePair });
    const known = matrix(names, { caption: "Gold", onchoose: choosePair });
    const rate = slider("Pairs hidden", { min: 0, max: rates[rates.length - 1], step: rates[1] - rates[0], text: (v) => (byHand ? "by hand" : `${v} %`) }, (v) => redraw(v, widget.state().draw));
    const resample = () => {
      const { rate: share, draw } = widget.state();
      redraw(share, live() ? draw + 1 : (draw + 1) % data.draws);
    };
    const clicks = choice("A click on a pair that is given", [[false, "chooses it"], [true, "hides it, or shows it again"]], (v) => { hiding = v; });
    clicks.set(false);
    const none = button("Hide none", () => redraw(0, 0)), tools = [none, clicks.el];
    const which = h("span", { class: "dw-value" });
    const f1 = states.map((of) => of.map(({ scores }) => scores[0] / 100));
    const mean = f1.map((of) => of.reduce((a, b) => a + b, 0) / of.length);
    const low = f1.map((of) => Math.min(...of)), high = f1.map((of) => Math.max(...of));
    const curve = curves({
      x: rates.map((r) => r / 100), series: [{ name: "mean F1", values: mean }], band: [low, high],
      xlabel: "pairs hidden (%)", ylabel: "F1 (%)",
    });
    const numbers = h("div", {}), restored = h("div", { class: "dw-facts dw-restored" }), pair = h("div", { class: "dw-pair" });
    widget.body.append(
      row(rate.el, h("div", { class: "dw-control" }, button("Resample", resample), none, which)),
      row(clicks.el),
      h("div", { class: "dw-row dw-three" }, given.el, told.el, known.el),
      legend(["hidden", "hidden"], ["gold", "holds a stated relation", "•"], ["gold", "holds a composed one", "◆"], ["leg", "leg of the chosen pair's strongest path"]),
      legend(["hit", "all right", "✓"], ["partly", "partly right", "±"], ["wrong", "wrong", "✗"], ["missed", "missed", "○"], ["veiled", "dotted frame: said of a hidden pair"]),
      row(numbers, h("div", { class: "dw-curve" }, curve.el, h("p", { class: "dw-hint" }, `Line and ring: mean of ${data.draws} draws; band: their range; full dot: what is shown.`))),
      restored, pair,
    );
    liven(context, widget, async (state, think) => {
      const hidden = hiddenOf(state);
      if (last?.hidden === hidden) return last;  // only the chosen pair differs: the same answer
      const document = { ...data.document, candidates: data.pairs }, asked = { hidden: Array.from(hidden, Number) }, silent = [];
      const answer = await think(data.live[0], document, { ...asked, keep: true });
      for (const without of modes.keys()) silent.push((await think(data.live[0], document, { ...asked, without })).margin);
      last = stateOf(data, hidden, answer, silent);
      return last;
    });

    /** The answer with these pairs hidden, computed or stored; null while it is on its way. */
    function find(state) {
      const answer = context.model.get("answer"), { rate: share, draw } = state, cells = state.hidden ?? null;
      if (answer?.state?.rate === share && answer.state.draw === draw && (answer.state.hidden ?? null) === cells) return answer;
      const kept = cells ? states[rates.indexOf(share)].find(({ hidden }) => hidden === cells) : draw < data.draws && storedAt(state);
      return kept || (failed() || !shown ? storedAt(state) : null);
    }
    /** The effect of the last click on a given pair: the answers that came and went. */
    function follow(found, pair) {
      if (step.to === found.hidden) return step.pair === pair ? step.said : "";
      const other = shown ? [...found.hidden].map((c, k) => (c === shown.hidden[k] ? -1 : k)).filter((k) => k >= 0) : [];
      step = { to: found.hidden, pair, said: "" };
      if (clicked && other.length === 1) {
        const facts = (of) => of.claims.flatMap(([s, o, claimed]) => claimed.map((r) => `${names[s]} → ${names[o]}: ${relations[r]}`));
        const [before, now] = [facts(shown), facts(found)], gone = before.filter((f) => !now.includes(f)), more = now.filter((f) => !before.includes(f));
        const some = (of) => of.slice(0, 3).join("; ") + (of.length > 3 ? `; and ${of.length - 3} more` : "");
        const [s, o] = [Math.floor(other[0] / count), other[0] % count];
        step.said = `${names[s]} → ${names[o]} is ${found.hidden[other[0]] === "1" ? "hidden" : "shown again"}: `
          + `${[gone.length && `the model no longer says ${some(gone)}`, more.length && `it now says ${some(more)}`].filter(Boolean).join(", and ") || "no answer changes"}. `;
      }
      clicked = false;
      return step.said;
    }
    const depth = (g) => (g.depth ? `composed in ${g.depth} step${g.depth > 1 ? "s" : ""}` : "stated");
    const list = (items) => items.join(", ") || "none";

    /** The answer for one pair, beside gold. */
    function compare(found, s, o) {
      const claim = found.claims.find(([a, b]) => a === s && b === o), right = goldOf(s, o).map((g) => g.relation);
      const claimed = claim ? claim[2] : [], hits = claimed.filter((r) => right.includes(r));
      const missed = right.filter((r) => !claimed.includes(r));
      const kind = !claimed.length ? (missed.length ? "missed" : "") : !hits.length ? "wrong" : missed.length || hits.length < claimed.length ? "partly" : "hit";
      const title = [...claimed.map((r) => `${relations[r]}, ${right.includes(r) ? "right" : "wrong"}`), ...missed.map((r) => `${relations[r]}, missed`)];
      return { claim, claimed, kind, title: title.join("; ") || "no relation, right" };
    }
    const marks = { hit: "✓", partly: "±", wrong: "✗", missed: "○", "": "" };

    /** The path that matters most to a pair: the head without which its margin falls most, and where that head looks most. */
    function pathOf(found, claim) {
      const [s, o, , , margin, ...without] = claim, least = Math.min(...without), mode = without.indexOf(least);
      if (least >= margin) return null;
      const place = found.claims.indexOf(claim), looks = unpack(found.looks), middles = unpack(found.middles);
      const shares = Array.from({ length: looks.shape[1] }, (_, l) => looks.at(place, l, mode, 1)), share = Math.max(...shares), layer = shares.indexOf(share);
      const x = Math.round(middles.at(place, layer, mode));
      return { mode, least, layer, share, x, legs: share >= 0.005 ? LEGS[mode](s, o, x) : [] };
    }

    /** Hidden pairs that the model still gets right, each with the legs of its strongest path. */
    function restoredTable(found, isHidden) {
      const rows = found.claims.filter(([s, o]) => isHidden(s, o)).map((claim) => {
        const [s, o, claimed, followed, margin] = claim, right = claimed.filter((r) => goldOf(s, o).some((g) => g.relation === r));
        if (!right.length) return null;
        const path = pathOf(found, claim), legs = path?.legs.map(([a, b]) => `${names[a]} → ${names[b]} (${isHidden(a, b) ? "hidden" : "seen"})`) ?? [];
        return [
          h("button", { type: "button", class: "dw-fact", onclick: () => choosePair(s, o) }, `${names[s]} → ${names[o]}`),
          list(right.map((r) => relations[r])), number(margin, 1),
          path ? `${modes[path.mode]}: ${number(path.least, 1)} without it` : "no single one",
          legs.length ? `${legs.join(", ")}: ${percent(path.share)} in layer ${path.layer + 1}` : "none",
        ].map((cell, k) => (k === 2 ? `${cell}${claimed.length > 1 ? ` (${relations[followed]})` : ""}` : cell));
      }).filter(Boolean);
      const head = ["pair", "named right", "margin (logits)", "head that it needs most", "legs where that head looks most"];
      return rows.length ? table("Hidden pairs that the model still names right", head, rows) : h("p", { class: "dw-hint" }, "No gold triple of a hidden pair is named.");
    }

    /** One line per mode: the gold derivations of its pattern, the effect of its head, where it looks in each layer. */
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

    const sign = (facts) => (!facts.length ? "" : facts.every((g) => g.depth) ? "◆" : "•");
    function drawGiven(hidden, chosen, legs) {
      given.draw((a, b) => {
        if (a === b) return null;
        const facts = goldOf(a, b), off = hidden[a * count + b] === "1", leg = legs.some(([c, d]) => c === a && d === b);
        const kind = [off ? "hidden" : facts.length && "gold", leg && "leg"].filter(Boolean).join(" dw-");
        return { kind, text: sign(facts), title: `${off ? "hidden" : "seen"}${facts.length ? ", holds a relation" : ""}${leg ? ", a leg of the strongest path" : ""}` };
      }, chosen);
    }

    widget.run(() => {
      const state = widget.state(), { head: s, tail: o } = state, found = find(state), chosen = [s, o];
      byHand = !!state.hidden && state.hidden !== drawn(state.rate, state.draw) && !failed();
      rate.set(state.rate);
      tools.forEach((el) => { el.hidden = !can || failed(); });
      if (!found) {
        if (clicked) drawGiven(hiddenOf(state), chosen, []);  // show the click at once
        return undefined;
      }
      const moved = follow(found, `${s} ${o}`);
      shown = found;
      const isHidden = (a, b) => found.hidden[a * count + b] === "1", covered = [...found.hidden].filter((c) => c === "1").length;
      const asked = (a, b) => candidate.has(a * count + b), total = gold.length, all = count * (count - 1);
      const veil = (a, b) => (isHidden(a, b) ? "hidden" : "seen"), of = storedAt(state) === found ? state.draw % data.draws : state.draw;
      which.textContent = byHand ? `${covered} of ${all} pairs` : state.rate ? (of < data.draws ? `draw ${of + 1} of ${data.draws}` : `draw ${of + 1}, fresh`) : "nothing to draw";
      const { claim, claimed } = compare(found, s, o), path = claim ? pathOf(found, claim) : null;
      drawGiven(found.hidden, chosen, path?.legs ?? []);
      told.draw((a, b) => {
        if (!asked(a, b)) return null;
        const { kind, title } = compare(found, a, b);
        return { kind: [kind, ...(isHidden(a, b) ? ["veiled"] : [])].join(" dw-"), text: marks[kind], title: `${title} (${veil(a, b)})` };
      }, chosen);
      known.draw((a, b) => {
        if (!asked(a, b)) return null;
        const facts = goldOf(a, b);
        return { kind: facts.length ? "gold" : "", text: sign(facts), title: list(facts.map((g) => `${relations[g.relation]} (${depth(g)})`)) };
      }, chosen);

      const at = rates.indexOf(state.rate), [own, precision, recall] = found.scores, place = byHand ? covered / all : state.rate / 100;
      curve.draw(Math.min(place, rates[rates.length - 1] / 100), place > rates[rates.length - 1] / 100 ? null : own / 100);
      const wrong = found.claims.reduce((sum, [, , said]) => sum + said.length, 0) - found.correct;
      const share = (x) => number(100 * x, 1), hand = byHand ? `${covered} of ${all} pairs hidden by hand` : "";
      const several = f1[at].length > 1 ? `${f1[at].length} draws` : "one draw";
      numbers.replaceChildren(table(`${data.title}, ${hand || `${state.rate} % of the pairs hidden`}`, ["measure", "value"], [
        [byHand ? "F1 (%)" : "F1 of this draw (%)", number(own, 1)], ["its precision (%)", number(precision, 1)], ["its recall (%)", number(recall, 1)],
        ["gold triples found", `${found.correct} of ${total}`], ["on hidden pairs", `${found.restored} of ${found.covered}`], ["wrong claims", String(wrong)],
        ...(byHand ? [] : [[`F1, mean of ${several} (%)`, share(mean[at])], ["their range (%)", `${share(low[at])} to ${share(high[at])}`]]),
      ]));
      restored.replaceChildren(...(covered ? [restoredTable(found, isHidden)] : []));

      const facts = goldOf(s, o);
      const title = h("p", { class: "dw-hint" }, h("strong", {}, `A = ${entity(s)} → B = ${entity(o)}`), ` (${veil(s, o)}). Gold: `
        + `${list(facts.map((g) => `${relations[g.relation]} (${depth(g)})`))}. Predicted: ${list(claimed.map((r) => relations[r]))}.`);
      const paths = claim ? modeTable(found, claim, s, o, isHidden) : null;
      pair.replaceChildren(title, ...(paths ? paths.els : [h("p", { class: "dw-hint" }, "Nothing holds and nothing is claimed here: choose a marked pair to see its paths.")]));
      const carried = paths && paths.most >= 0
        ? ` Without the head ${modes[paths.most]} the margin of ${relations[paths.followed]} falls most, from ${number(paths.margin, 1)} to ${number(paths.least, 1)}.`
        : paths ? ` No head alone lifts the margin of ${relations[paths.followed]}.` : "";
      return `${moved}${hand || `${state.rate} % hidden`}: F1 ${number(own, 1)}, ${found.correct} of ${total} gold triples found, `
        + `${found.restored} of the ${found.covered} on hidden pairs among them; ${wrong} wrong claim${wrong === 1 ? "" : "s"}. `
        + `${names[s]} → ${names[o]}, ${veil(s, o)}: ${compare(found, s, o).title}.${carried}`;
    });
  },
};
