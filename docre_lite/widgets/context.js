// What a pair looks at: words shaded by attention, sums over sentences, the pair's logits around its threshold.
export default {
  render(context) {
    const widget = start(context, "What a pair looks at");
    const { data } = widget, { document: doc } = data, attention = unpack(data.attention);
    const [heads, count, tokens] = attention.shape;
    const names = doc.names, entities = names.map((name, i) => [i, `${i} ${name}`]);
    let next = "head";
    const pick = (role, entity) => {
      const other = role === "head" ? "tail" : "head";
      const swap = widget.state()[other] === entity ? { [other]: widget.state()[role] } : {};
      widget.choose({ [role]: entity, ...swap });
    };
    const text = textOf(doc, (entity) => {
      const role = next;
      next = role === "head" ? "tail" : "head";
      pick(role, entity);
    });
    const head = select("Head entity", entities, (v) => { next = "tail"; pick("head", v); });
    const tail = select("Tail entity", entities, (v) => { next = "head"; pick("tail", v); });
    const view = choice("Attention of", [["both", "both (the product)"], ["head", "head entity"], ["tail", "tail entity"]], (v) => widget.choose({ view: v }));
    const which = select("Attention head", [[-1, "all together"], ...Array.from({ length: heads }, (_, k) => [k, String(k)])], (v) => widget.choose({ attention: v }));
    const margins = bars("Margin of a relation over the pair's threshold, in logits: right of the line it is claimed", 1);
    const click = h("p", { class: "dw-hint" });
    widget.body.append(
      row(head.el, tail.el, button("Swap", () => widget.choose({ head: widget.state().tail, tail: widget.state().head }))),
      row(view.el, which.el), text.el, click, margins.el,
      legend(["shade", "shade and underline: attention to a word"], ["chosen", "claimed"], ["hit", "gold, claimed or not"]),
    );

    /** Weight of every token for this view: an entity's own attention, or the product of both, summed over heads. */
    function weigh({ head: s, tail: o, view: how, attention: only }) {
      const chosen = only < 0 ? Array.from({ length: heads }, (_, k) => k) : [only];
      const own = (k, e, t) => attention.at(k, e, t) ** 2;  // packed as square roots, so that small ones survive
      const raw = Array.from({ length: tokens }, (_, t) => chosen.reduce((sum, k) =>
        sum + (how === "both" ? own(k, s, t) * own(k, o, t) : own(k, how === "head" ? s : o, t)), 0));
      const total = raw.reduce((a, b) => a + b, 0) || 1;
      return raw.map((x) => x / total);
    }
    function gather(weights) {
      const words = new Array(doc.sentences.flat().length).fill(0), shares = new Array(doc.sentences.length).fill(0);
      weights.forEach((x, t) => {
        if (data.word[t] >= 0) words[data.word[t]] += x;
        if (data.sentence[t] >= 0) shares[data.sentence[t]] += x;
      });
      const inside = shares.reduce((a, b) => a + b, 0) || 1;
      return { words, shares: shares.map((x) => x / inside) };
    }

    widget.run(() => {
      const state = widget.state(), { head: s, tail: o } = state, answer = widget.answer();
      head.set(s); tail.set(o); view.set(state.view); which.set(state.attention);
      const { words, shares } = answer ?? gather(weigh(state));
      const evidence = shares.flatMap((x, k) => (x >= data.evidence ? [k] : []));
      text.draw({ weights: words, shares, strong: [[s, "head"], [o, "tail"]], evidence: state.view === "both" ? evidence : [] });
      click.textContent = `Click an entity in the text to make it the ${next} entity.`;
      const gold = doc.gold.filter((t) => t.head === s && t.tail === o);
      const said = answer?.margins ?? data.margins[s][o];
      margins.draw(said.map(([relation, value]) => {
        const right = gold.some((t) => t.relation === relation);
        return { label: `${relation}${right ? " (gold)" : ""}`, value, kind: value > 0 ? "chosen" : right ? "positive" : "" };
      }));
      const claimed = said.filter(([, value]) => value > 0).map(([relation]) => relation);
      const strongest = shares.indexOf(Math.max(...shares));
      const who = { both: "Both together look", head: `${names[s]} looks`, tail: `${names[o]} looks` }[state.view];
      const known = [...new Set(gold.flatMap((t) => t.evidence))].sort((a, b) => a - b);
      return `${names[s]} → ${names[o]}: the model claims ${claimed.join(", ") || "no relation"}; gold: ${gold.map((t) => t.relation + (t.depth ? " (composed)" : "")).join(", ") || "none"}. `
        + `${who} most at sentence ${strongest} (${percent(shares[strongest])})${known.length ? `; gold evidence: sentence ${known.join(", ")}` : ""}.`;
    });
  },
};
