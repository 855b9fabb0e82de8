// The logits of one pair: three losses in two parts each, and the push on every logit, all from the equations.
function lse(values) {
  const top = Math.max(...values);
  return top + Math.log(values.reduce((sum, x) => sum + Math.exp(x - top), 0));
}

/** ATLOP section 4, closed form: k·lse(P ∪ 0) − Σ_P l, and lse(N ∪ 0) − l_0. TH is neither positive nor negative. */
function adaptiveThreshold(l, holds) {
  const relations = l.map((_, r) => r).slice(1), P = relations.filter((r) => holds.includes(r)), k = P.length;
  const N = relations.filter((r) => !holds.includes(r)), of = (classes) => lse([0, ...classes].map((r) => l[r]));
  const above = of(P), below = of(N), p = (r) => Math.exp(l[r] - above), q = (r) => Math.exp(l[r] - below);
  const gradient = l.map((_, r) => (r === 0 ? k * p(0) + q(0) - 1 : P.includes(r) ? k * p(r) - 1 : q(r)));
  return { positives: k * above - P.reduce((sum, r) => sum + l[r], 0), negatives: below - l[0], gradient };
}

/** DocuNet (10), PAEE (9): log(1 + Σ_P e^(t − l)) and log(1 + Σ_N e^(l − t)) over these classes around a threshold t. */
function thresholdSoftmax(l, t, classes, holds) {
  const P = classes.filter((r) => holds.includes(r)), N = classes.filter((r) => !holds.includes(r));
  const positives = lse([0, ...P.map((r) => t - l[r])]), negatives = lse([0, ...N.map((r) => l[r] - t)]);
  const gradient = l.map((x, r) =>
    P.includes(r) ? -Math.exp(t - x - positives) : N.includes(r) ? Math.exp(x - t - negatives) : 0);
  return { positives, negatives, gradient };
}

const RATE = 0.5;  // of a step down: ten positives in one softmax still settle
const LOSSES = {
  AdaptiveThreshold: adaptiveThreshold,
  /** Class 0 is a class like the others, "unrelated": it holds if nothing else does. The threshold is 0. */
  BalancedSoftmax: (l, holds) => thresholdSoftmax(l, 0, l.map((_, r) => r), holds.length ? holds : [0]),
  AdaptiveSoftmax(l, holds) {
    const found = thresholdSoftmax(l, l[0], l.map((_, r) => r).slice(1), holds);
    found.gradient[0] = -found.gradient.reduce((a, b) => a + b, 0);  // the threshold moves all margins the other way
    return found;
  },
};

export default {
  render(context) {
    const widget = start(context, "A threshold, three losses, and who pushes whom");
    const { names, losses, reach, presets, together, top } = widget.data;
    widget.own = true;
    const last = names.length - 1, single = (r) => r > 0 && !(together && r === last);
    const place = (x) => `calc(.5rem + ${Math.min(1, Math.max(0, (x + reach) / (2 * reach)))} * (100% - 1rem))`;
    const settle = (logits) => widget.choose({ logits: logits.map((x) => Math.min(reach, Math.max(-reach, x))) });
    const lines = names.map((name, r) => logitLine(name, r));
    const titles = ["class", "holds", "logit (thin line: 0; dashed: the threshold)", "", "push: where descent moves it", ""];
    const panel = h("div", { class: "dw-logits" },
      h("div", { class: "dw-logit dw-titles", "aria-hidden": "true" }, ...titles.map((text) => h("span", {}, text))),
      ...lines.map((line) => line.el));
    const group = fresh("loss"), choices = losses.map(([key, text]) => lossLine(key, text));
    const unit = h("p", { class: "dw-hint" });
    const down = (steps) => {
      let { logits, positives, loss } = widget.state();
      for (let k = 0; k < steps; k += 1) {
        const { gradient } = LOSSES[loss](logits, positives);
        logits = logits.map((x, r) => x - RATE * gradient[r]);
      }
      settle(logits.map((x) => Math.round(1e4 * x) / 1e4));
    };
    widget.body.append(
      h("div", { class: "dw-row dw-tight", role: "group", "aria-label": "Cases" }, h("span", {}, "Set:"),
        ...presets.map(({ name, logits, positives }) => button(name, () => widget.choose({ logits, positives })))),
      panel,
      row(button(`1 step down the chosen loss (rate ${RATE})`, () => down(1)), button("50 steps", () => down(50))),
      h("fieldset", { class: "dw-losses" },
        h("legend", {}, "Loss in nats: the part of the positives, and that of the negatives"), ...choices.map((c) => c.el)),
      unit, legend(["positive", "holds; part of the positives", "✓"], ["shade", "does not hold; part of the negatives", "✗"], ["th", "class 0"]),
    );

    function logitLine(name, r) {
      const move = () => settle(widget.state().logits.map((x, k) => (k === r ? Number(input.value) : x)));
      const input = h("input", { type: "range", min: -reach, max: reach, step: 0.1, class: "dw-over", oninput: move });
      const held = (k) => (k === r ? box.checked : widget.state().positives.includes(k));
      const toggle = () => widget.choose({ positives: names.map((_, k) => k).filter(held) });
      const box = h("input", { type: "checkbox", "aria-label": `${name} holds`, onchange: toggle });
      const bar = h("span", { class: "dw-bar" }), line = h("span", { class: "dw-cut" });
      const zero = h("span", { class: "dw-nought", style: `left:${place(0)}` });
      const value = h("span", { class: "dw-value dw-height" });
      const pushed = h("span", { class: "dw-bar" }), push = h("span", { class: "dw-value dw-push" });
      const label = h("span", { class: "dw-name" }, name);
      const el = h("div", { class: "dw-logit" }, label, h("span", { class: "dw-holds" }, ...(single(r) ? [box] : [])),
        h("div", { class: "dw-field" }, zero, bar, line, input), value,
        h("div", { class: "dw-field dw-force" }, h("span", { class: "dw-zero", style: "left:50%" }), pushed), push);
      function draw(x, cut, holds, gradient, widest, title) {
        const kind = r === 0 ? "dw-th" : holds ? "dw-positive" : "dw-shade", force = -gradient, length = (50 * Math.abs(force)) / widest;
        if (document.activeElement !== input || Math.abs(Number(input.value) - x) > 0.05) input.value = x;
        box.checked = holds;
        label.textContent = title;
        value.textContent = number(x, 1);
        push.textContent = `${force >= 0.005 ? "→ +" : force <= -0.005 ? "← " : ""}${number(force)}`;
        bar.className = `dw-bar ${kind}`;
        bar.style.cssText = `left:0;width:${place(x)}`;  // from the left edge: a logit has no zero of its own
        line.style.left = place(cut);
        pushed.className = `dw-bar ${kind}`;
        pushed.hidden = Math.abs(force) < 0.005;
        pushed.style.cssText = `left:${force < 0 ? 50 - length : 50}%;width:${length}%`;
        input.setAttribute("aria-label", `Logit of ${title}`);
        input.setAttribute("aria-valuetext", `${number(x, 1)}, margin ${number(x - cut, 1)}, push ${number(force)}`);
      }
      return { el, draw };
    }

    function lossLine(key, text) {
      const input = h("input", { type: "radio", name: group, onchange: () => widget.choose({ loss: key }) });
      const one = h("span", { class: "dw-bar dw-positive" }), two = h("span", { class: "dw-bar dw-shade" });
      const floor = h("span", { class: "dw-cut dw-floor" }), said = h("span", { class: "dw-sum" });
      const el = h("div", { class: "dw-loss" },
        h("label", { class: "dw-option" }, input, text), h("div", { class: "dw-field" }, one, two, floor), said);
      function draw({ positives, negatives }, least, widest, chosen) {
        const share = (x) => `${(100 * x) / widest}%`;
        input.checked = chosen;
        [one.hidden, two.hidden] = [positives < 0.005, negatives < 0.005];
        one.style.cssText = `left:0;width:${share(positives)}`;
        two.style.cssText = `left:${share(positives)};width:${share(negatives)}`;
        floor.style.left = share(least);
        floor.hidden = least === 0;
        said.textContent = `${number(positives)} + ${number(negatives)} = ${number(positives + negatives)}`
          + (key === "AdaptiveThreshold" && least ? `; floor of the first part ${number(least)}` : "");
      }
      return { key, el, draw };
    }

    widget.run(() => {
      const { logits, positives, loss } = widget.state(), answer = widget.answer();
      const found = Object.fromEntries(losses.map(([key]) => [key, LOSSES[key](logits, positives)]));
      if (answer) {
        for (const [key, [one, two]] of Object.entries(answer.parts)) Object.assign(found[key], { positives: one, negatives: two });
        found[loss].gradient = answer.gradient;
      }
      const { gradient } = found[loss], fixed = loss === "BalancedSoftmax", cut = fixed ? 0 : logits[0], k = positives.length;
      const title = (r) => (r === 0 && fixed ? "NA (class 0)" : r === 0 ? `${names[0]} (class 0)` : names[r]);
      const strongest = Math.max(1, ...gradient.map(Math.abs));
      lines.forEach((line, r) => line.draw(logits[r], cut, positives.includes(r), gradient[r], strongest, title(r)));
      const highest = Math.max(...losses.map(([key]) => found[key].positives + found[key].negatives));
      const widest = 2 ** Math.max(1, Math.ceil(Math.log2(highest)));
      const floor = k ? k * Math.log(k) : 0;
      choices.forEach(({ key, draw }) => draw(found[key], key === "AdaptiveThreshold" ? floor : 0, widest, key === loss));
      unit.textContent = k > 1
        ? `ATLOP's first part cannot fall below k·log k = ${k}·log ${k} = ${number(floor)} (the mark): `
          + `its ${k} positives share one softmax. The other two losses can reach 0.`
        : `With ${k ? "one positive" : "no positive"} there is no floor above 0, and ATLOP's loss equals PAEE's.`;
      const chosen = names.map((_, r) => r).filter((r) => single(r) && logits[r] > cut).sort((a, b) => logits[b] - logits[a]).slice(0, top);
      const up = gradient.indexOf(Math.min(...gradient)), lowest = gradient.indexOf(Math.max(...gradient));
      const force = (r) => `${title(r)} (${-gradient[r] > 0 ? "+" : ""}${number(-gradient[r])})`;
      const total = found[loss].positives + found[loss].negatives;
      const claims = chosen.map((r) => `${names[r]} (${positives.includes(r) ? "right" : "wrong"})`);
      const missed = positives.filter((r) => !chosen.includes(r)).map((r) => names[r]);
      const still = gradient.every((x) => Math.abs(x) < 0.005);
      return `Claimed, above ${fixed ? "0" : names[0]}: ${claims.join(", ") || "nothing"}; missed: ${missed.join(", ") || "nothing"}. `
        + `Loss ${number(total)}: ${number(found[loss].positives)} from the positives, ${number(found[loss].negatives)} from the negatives. `
        + (still ? "Nothing is pushed." : `Strongest pushes: up ${force(up)}, down ${force(lowest)}.`);
    });
  },
};
