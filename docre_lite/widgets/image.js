// The entity matrix as an image: a stage and a channel of the U-Net, a pixel, and the inputs that move it.
export default {
  render(context) {
    const widget = start(context, "The pairs as an image, and what a pixel sees");
    const { names, stages, orders, fields, pairs } = widget.data, n = names.length;
    const same = (one, two) => one.join() === two.join();
    const stageOf = (name) => stages.find((stage) => stage.name === name);
    const label = (stage, c) => (stage.labels ? stage.labels[c] : `channel ${c}`);
    const known = () => orders.find(({ order }) => same(order, widget.state().order));
    /** The places in this order that row or column k of a stage covers; the names of their entities. */
    const covered = (k, { scale }) => Array.from({ length: Math.min(scale, n - k * scale) }, (_, i) => k * scale + i);
    const named = (k, stage, order) => covered(k, stage).map((i) => names[order[i]]).join(", ");
    let kernel = false, hovered = null, grid = null, image = null, built = "", rest = [];
    /** Can any order be computed: by a kernel, or by the page's own model? */
    const free = () => kernel || (changeable(context, widget) && !context.model.get("failed"));

    const stage = select("Stage", stages.map(({ name, text, side }) => [name, `${name} (${side} × ${side}): ${text}`]), (name) => {
      const { row: r, column: c, stage: old } = widget.state(), now = stageOf(name), from = stageOf(old);
      const [row, column] = [r, c].map((k) => Math.floor((k * from.scale) / now.scale));
      widget.choose({ stage: name, channel: now.shown[0], ...settle(now, row, column, widget.state().order) });
    });
    const channel = select("Channel", [], (c) => widget.choose({ channel: c }));
    const which = select("Order of the entities", [], (order) => renumber(order));
    const shuffle = button("Shuffle entities", () => {
      if (!free()) return renumber(orders[(orders.indexOf(known()) + 1) % orders.length].order);
      const order = [...names.keys()];
      for (let k = n - 1; k > 0; k -= 1) {
        const j = Math.floor(Math.random() * (k + 1));
        [order[k], order[j]] = [order[j], order[k]];
      }
      rest = [...rest, order];
      return renumber(order);
    });
    const board = h("div", { class: "dw-row dw-image" }), changes = h("div", { class: "dw-changes" });
    const seats = orderable(names, renumber), hint = h("p", { class: "dw-hint" }, "Drag an entity to another place, or choose it and press Alt with ↑ or ↓: the network runs again for that order.");
    const numbering = h("div", { class: "dw-row dw-order" }, seats.el, h("div", { class: "dw-changes" }, hint, changes));
    widget.body.append(row(stage.el, channel.el), row(which.el, shuffle), board,
      legend(["plus", "above 0; in the image: moves the pixel"], ["minus", "below 0"], ["mark", "the pixel's own pairs"], ["edge", "reached by the convolutions"]),
      numbering);

    /** Is there a number? Among the logits, only pairs to classify have one. */
    const holds = ({ name }, r, c, order) =>
      name !== "logits" || (pairs ? pairs.some(([s, o]) => s === order[r] && o === order[c]) : r !== c);
    function settle(now, r, c, order) {
      if (holds(now, r, c, order)) return { row: r, column: c };
      const [row, column] = now.pixels.map((at) => [Math.floor(at / now.side), at % now.side]).find(([i, j]) => holds(now, i, j, order));
      return { row, column };
    }
    /** The same pair in another order: its entities keep their names and get other neighbours. */
    function renumber(order) {
      const state = widget.state(), now = stageOf(state.stage);
      const moved = (k) => Math.floor(order.indexOf(state.order[k * now.scale]) / now.scale);
      widget.choose({ order, ...settle(now, moved(state.row), moved(state.column), order) });
    }

    /** The image with a number in each cell; its cells cannot be chosen. */
    function picture(order) {
      const cells = order.map(() => order.map(() => h("span", { class: "dw-cell dw-plus" })));
      const caption = h("caption", {});
      const head = h("tr", {}, h("th", { scope: "col", class: "dw-corner" }, "head ↓ tail →"),
        ...order.map((i, c) => h("th", { scope: "col" }, h("span", { class: "dw-vertical" }, `${c} ${names[i]}`))));
      const lines = order.map((i, r) => h("tr", {}, h("th", { scope: "row", title: names[i] }, `${r} ${names[i]}`), ...cells[r].map((cell) => h("td", {}, cell))));
      const el = h("div", { class: "dw-scroll", tabindex: 0, role: "region", "aria-label": "What moves the pixel" },
        h("table", { class: "dw-matrix" }, caption, h("thead", {}, head), h("tbody", {}, ...lines)));
      function draw(text, roots, [r0, r1, c0, c1], rows, columns) {
        const total = roots ? roots.flat().reduce((sum, x) => sum + x * x, 0) || 1 : 1;
        caption.textContent = text;
        cells.forEach((line, r) => line.forEach((cell, c) => {
          const within = r >= r0 && r <= r1 && c >= c0 && c <= c1, part = roots ? roots[r][c] ** 2 / total : 0;
          const own = rows.includes(r) && columns.includes(c);
          cell.className = `dw-cell dw-plus${own ? " dw-mark" : ""}`;
          cell.style.setProperty("--share", roots ? roots[r][c] : 0);
          cell.textContent = part >= 0.005 ? String(Math.round(100 * part)) : "";
          cell.title = `${names[order[r]]} → ${names[order[c]]}${roots ? `: ${percent(part, 1)}` : ""}`;
          const edges = { top: r === r0, bottom: r === r1, left: c === c0, right: c === c1 };
          Object.entries(edges).forEach(([side, on]) => cell.style.setProperty(`--${side}`, within && on ? "3px" : "0px"));
        }));
      }
      return { el, draw };
    }

    function build(now, order) {
      const groups = Array.from({ length: now.side }, (_, k) => named(k, now, order));
      const caption = `${now.name}: ${now.side} × ${now.side} pixels${now.scale > 1 ? `, each for up to ${now.scale} × ${now.scale} pairs` : ""}. Choose one`;
      grid = matrix(groups, { caption, onchoose: (r, c) => { hovered = null; widget.choose({ row: r, column: c }); } });
      const marks = groups.map((name, k) => {  // a coarse pixel shows the entities' numbers; the image beside it has the names
        const all = covered(k, now), last = all[all.length - 1];
        return now.scale === 1 ? `${k} ${name}` : k * now.scale < last ? `${k * now.scale}–${last}` : String(last);
      });
      const tops = [...grid.el.querySelectorAll("thead th")].slice(1);
      tops.forEach((th, k) => th.replaceChildren(h("span", { class: "dw-vertical" }, marks[k])));
      grid.el.querySelectorAll("tbody th").forEach((th, k) => th.replaceChildren(marks[k]));
      grid.el.addEventListener("pointerover", (event) => {
        const td = event.target.closest("td");
        if (event.pointerType !== "mouse" || !td) return;
        hovered = [td.parentElement.rowIndex - 1, td.cellIndex - 1];
        look();
      });
      grid.el.addEventListener("pointerleave", () => { hovered = null; look(); });
      image = picture(order);
      board.replaceChildren(grid.el, image.el);
    }

    /** The data of a pixel: its number, the roots of its gradients by cell of the image, the box that reaches it. */
    function about(r, c) {
      const state = widget.state(), now = stageOf(state.stage), answer = widget.answer(), found = known();
      const packed = answer ? answer.map : found?.maps[now.name][state.channel];
      const value = packed && holds(now, r, c, state.order) ? unpack(packed).at(r, c) : null;
      const rank = now.pixels.indexOf(r * now.side + c), reach = unpack(now.reach);
      const asked = answer && r === state.row && c === state.column;
      const own = asked ? answer.field : null;  // a page has only the gradients that it carries
      const kept = own ?? (found && fields[`${found.name}/${now.name}/${state.channel}`]);
      const place = own ? 0 : rank, line = [...names.keys()];
      let roots = null;
      if (now.name === "image") roots = line.map((i) => line.map((j) => Number(i === r && j === c)));
      else if (kept && place < kept.shape[0]) {
        const { at } = unpack(kept);
        roots = line.map((i) => line.map((j) => at(place, i, j)));
      }
      return { value, roots, box: asked ? answer.box : [reach.at(r, 0), reach.at(r, 1), reach.at(c, 2), reach.at(c, 3)] };
    }
    const titled = (now, r, c, order) => `${named(r, now, order)} → ${named(c, now, order)}`;

    /** Draws what moves the pixel under the pointer, or else the chosen one. */
    function look() {
      const { stage: name, channel: k, row: r0, column: c0, order } = widget.state(), now = stageOf(name);
      const [r, c] = hovered && holds(now, ...hovered, order) ? hovered : [r0, c0], { value, roots, box } = about(r, c);
      const pixel = `${now.name}, ${label(now, k)}, pixel (${r}, ${c})${value === null ? "" : ` = ${number(value)}`}`;
      const text = roots || !context.model.page || !free() ? `The image: share of each cell in what moves ${pixel}, in %`
        : `The image: what reaches ${pixel}. The gradient needs a kernel`;
      image.draw(text, roots, box, covered(r, now), covered(c, now));
    }

    function tell({ row: r, column: c, order, channel: k }, now, answer) {
      const { value, roots, box: [r0, r1, c0, c1] } = about(r, c), area = covered(r, now).length * covered(c, now).length;
      const head = `${titled(now, r, c, order)}${area > 1 ? ` (${area} pairs in one pixel)` : r === c && now.scale === 1 ? " (no pair, but a pixel)" : ""}: `
        + `${now.name}, ${label(now, k)}, ${value === null ? "not computed yet" : number(value)}. `;
      if (now.name === "image") return `${head}A pixel of the image depends on itself alone.`;
      const box = (r1 - r0 + 1) * (c1 - c0 + 1) === n * n ? "the whole image" : `the outlined ${r1 - r0 + 1} × ${c1 - c0 + 1} cells of the image`;
      if (!roots) return `${head}The convolutions reach ${box}. What moves the number is not in the page; a kernel computes it.`;
      const parts = roots.flatMap((line, i) => line.map((x, j) => [x * x, i, j])), total = parts.reduce((sum, [x]) => sum + x, 0);
      if (!total) return `${head}Nothing moves this number: its ReLU is closed. Other channels of the pixel see ${box}.`;
      const inner = parts.filter(([, i, j]) => i >= r0 && i <= r1 && j >= c0 && j <= c1).reduce((sum, [x]) => sum + x, 0) / total;
      const [most, i, j] = parts.reduce((best, part) => (part[0] > best[0] ? part : best));
      const outside = inner < 0.995 ? `; ${percent(1 - inner)} lies outside and comes through the averages of the normalisation` : "";
      if (inner === 1) return `${head}The convolutions reach ${box}. The largest part of what moves it lies in ${names[order[i]]} → ${names[order[j]]} (${percent(most / total)}).`;
      return `${head}Of what moves it, ${percent(inner)} lies in ${box}, the largest part in ${names[order[i]]} → ${names[order[j]]} (${percent(most / total)})${outside}.`;
    }

    function compare({ order }, compared) {
      const text = (facts) => facts.join(", ") || "none";
      const rows = (compared?.changed ?? []).map(([s, o, ...facts]) => [`${names[s]} → ${names[o]}`, ...facts.map(text)]);
      changes.replaceChildren(...(rows.length ? [table("Pairs with another answer in this order", ["pair", "by first mention", "in this order", "gold"], rows)] : []));
      if (same(order, orders[0].order)) return "";
      if (!compared) return " What this order changes is being computed.";
      const [before, after] = compared.f1;
      const { control } = compared, other = control === undefined ? "" : control ? ` ATLOP changes its answer to ${control} of them.` : " ATLOP's answers do not change.";
      return ` In this order ${compared.changed.length} of ${compared.pairs} pairs have another answer than by first mention: F1 ${number(before, 1)} % by first mention, ${number(after, 1)} % now.${other}`;
    }

    // In a page: the package's own models, forward only. The results for an order serve all its pixels.
    const ran = new Map(), given = widget.data.document, facts = (found) => new Set(found.map(String));
    async function run(think, asks) {
      const keys = asks.map((ask) => JSON.stringify(ask));
      await Promise.all([...new Set(keys)].filter((key) => !ran.has(key)).map(async (key) => {
        const [model, order] = JSON.parse(key), { trace, logits, triples } = await think(model, permuted({ ...given, candidates: pairs }, order));
        ran.set(key, { stages: { ...trace, logits }, facts: triples.map((t) => [order[t.head], order[t.tail], t.relation]) });
      }));
      const found = keys.map((key) => ran.get(key));
      [...ran.keys()].filter((key) => !keys.includes(key)).slice(0, -12).forEach((key) => ran.delete(key));
      return found;
    }
    /** `Stages.compared`: the changes due to an order; for the control, the number of pairs. */
    function against(first, now, control) {
      const gold = given.gold.map((t) => [t.head, t.tail, t.relation]), sides = [first.facts, now.facts].map(facts);
      const differ = (one, two) => {
        const [a, b] = [one, two].map(facts), all = [...one.filter((f) => !b.has(String(f))), ...two.filter((f) => !a.has(String(f)))];
        return [...new Set(all.map(([s, o]) => s * n + o))].sort((x, y) => x - y).map((c) => [Math.floor(c / n), c % n]);
      };
      const of = (list, s, o) => list.filter((f) => f[0] === s && f[1] === o).map((f) => f[2]).sort();
      const tenth = (x) => Number((x % 1 === 0.25 ? x - 0.05 : x).toFixed(1));  // halves to even, as Python rounds
      const f1 = (side) => {
        const right = gold.filter((f) => side.has(String(f))).length, [p, r] = [right / (side.size || 1), right / (gold.length || 1)];
        return 100 * (right && (2 * p * r) / (p + r));
      };
      return {
        pairs: pairs ? pairs.length : n * (n - 1),
        changed: differ(first.facts, now.facts).map(([s, o]) => [s, o, of(first.facts, s, o), of(now.facts, s, o), of(gold, s, o)]),
        f1: sides.map((side) => tenth(f1(side))),
        ...(control ? { control: differ(...control.map((found) => found.facts)).length } : {}),
      };
    }
    liven(context, widget, async ({ order, stage: name, channel: k, row: r, column: c }, think) => {
      const { live: [model], control } = widget.data, first = orders[0].order, asks = [[model, order], [model, first], ...(control ? [[control, order], [control, first]] : [])];
      const [own, begin, ...others] = await run(think, asks);
      const { side, reach: ends } = stageOf(name), values = own.stages[name], wide = values.length / side ** 2, reach = unpack(ends);
      const at = (p) => values[p * wide + k + (name === "logits")];  // class 0 is not a channel
      const closed = !["image", "logits"].includes(name) && at(r * side + c) === 0;  // by its ReLU: nothing moves it
      return {
        map: pack(Float32Array.from({ length: side ** 2 }, (_, p) => at(p)), [side, side]),
        field: closed ? pack(new Float32Array(n * n), [1, n, n]) : null, box: [reach.at(r, 0), reach.at(r, 1), reach.at(c, 2), reach.at(c, 3)],
        compared: against(begin, own, control && others),
      };
    });

    widget.run(() => {
      const state = widget.state(), answer = widget.answer(), now = stageOf(state.stage), { order } = state;
      kernel = kernel || (answer !== null && !widget.data.live);
      const all = free() ? Array.from({ length: now.count }, (_, c) => c) : now.shown;
      if (!all.includes(state.channel)) all.push(state.channel);
      const listed = orders.map((o) => [o.order, o.name]), fresh = rest.map((o, k) => [o, `fresh shuffle ${k + 1}`]);
      channel.fill(all.map((c) => [c, label(now, c)]));
      const every = [...listed, ...fresh];
      which.fill(every.some(([o]) => same(o, order)) ? every : [...every, [order, "your own order"]]);
      seats.draw(order);
      [seats.el, hint].forEach((el) => { el.hidden = !free(); });
      stage.set(now.name); channel.set(state.channel); which.set(order);
      const key = `${now.name} ${order}`;
      if (key !== built) { hovered = null; build(now, order); built = key; }
      const packed = answer ? answer.map : known()?.maps[now.name][state.channel], map = packed && unpack(packed);
      const line = [...Array(now.side).keys()];
      const peak = map ? Math.max(...line.flatMap((r) => line.map((c) => (holds(now, r, c, order) ? Math.abs(map.at(r, c)) : 0))), 1e-9) : 1;
      grid.draw((r, c) => {
        if (!holds(now, r, c, order)) return null;
        if (!map) return { text: "…", title: "not computed yet" };
        const value = map.at(r, c);
        return { share: Math.abs(value) / peak, text: number(value, peak < 9.95 ? 1 : 0), kind: value < 0 ? "minus" : "plus", title: number(value) };
      }, [state.row, state.column]);
      look();
      return tell(state, now, answer) + compare(state, answer ? answer.compared : known()?.compared);
    });
  },
};

/** `pack` of base.py: one byte per number. */
function pack(values, shape) {
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
  const bytes = Array.from(values, (value) => Math.round((255 * (value - low)) / (high - low || 1)));
  return { shape, low, high, bytes: btoa(String.fromCharCode(...bytes)) };
}

/** `Document.permuted`: new entity k is old entity `order[k]`. */
function permuted({ sentences, mentions, types, candidates }, order) {
  const now = (entity) => order.indexOf(entity);
  return {
    sentences, types: order.map((e) => types[e]), mentions: mentions.map((m) => ({ ...m, entity: now(m.entity) })),
    candidates: candidates && candidates.map(([s, o]) => [now(s), now(o)]),
  };
}

/** A list to reorder: by dragging its rows, with Alt and an arrow key, or with their buttons. */
function orderable(names, onorder) {
  const items = names.map((name, e) => {
    const place = h("span", { class: "dw-place" }), grip = h("button", {
      type: "button", class: "dw-grip", tabindex: -1, onpointerdown: (event) => hold(event, e), onfocus: () => tab(e),
      onkeydown: (event) => {
        const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
        if (!step) return;
        event.preventDefault();
        if (event.altKey) move(e, step);
        else items[order[order.indexOf(e) + step]]?.grip.focus();
      },
    }, h("span", { "aria-hidden": "true" }, "⠿ "), place, ` ${name}`);
    const arrows = [[-1, "↑", "up"], [1, "↓", "down"]].map(([step, sign, way]) =>
      h("button", { type: "button", class: "dw-button dw-arrow", tabindex: -1, "aria-label": `Move ${name} ${way}`, onclick: () => move(e, step) }, sign));
    return { el: h("li", {}, grip, ...arrows), place, grip, arrows };
  });
  const list = h("ol", { "aria-label": "Entities in their order" }), el = h("div", { class: "dw-ordered" }, list);
  let order = [];
  const tab = (one) => items.forEach(({ grip }, e) => { grip.tabIndex = e === one ? 0 : -1; });
  function move(e, step) {
    const from = order.indexOf(e), to = from + step, next = [...order];
    if (to < 0 || to >= order.length) return;
    [next[from], next[to]] = [next[to], next[from]];
    onorder(next);
    items[e].grip.focus();
  }
  /** Follows the pointer: the other rows make room, so the row that holds the pointer stays in the page. */
  function hold(event, e) {
    if (event.button) return;
    const { el: own, grip } = items[e], rows = () => [...list.children];
    grip.focus();
    grip.setPointerCapture(event.pointerId);
    own.classList.add("dw-held");
    const follow = ({ clientY }) => {
      const middle = (row) => { const { top, height } = row.getBoundingClientRect(); return top + height / 2; };
      for (let next = own.nextElementSibling; next && clientY > middle(next); next = own.nextElementSibling) own.before(next);
      for (let last = own.previousElementSibling; last && clientY < middle(last); last = own.previousElementSibling) own.after(last);
      count();
    };
    const drop = ({ type }) => {
      own.classList.remove("dw-held");
      ["pointermove", "pointerup", "pointercancel"].forEach((name) => grip.removeEventListener(name, name === "pointermove" ? follow : drop));
      const next = rows().map((row) => items.findIndex((item) => item.el === row));
      if (type === "pointercancel" || next.join() === order.join()) put(); else onorder(next);
    };
    grip.addEventListener("pointermove", follow);
    grip.addEventListener("pointerup", drop);
    grip.addEventListener("pointercancel", drop);
  }
  const count = () => [...list.children].forEach((row, k) => { items.find((item) => item.el === row).place.textContent = String(k); });
  function put() {
    const focused = items.find(({ el: row }) => row.contains(document.activeElement));
    if (order.some((e, k) => list.children[k] !== items[e].el)) {
      list.replaceChildren(...order.map((e) => items[e].el));
      (focused?.grip)?.focus({ preventScroll: true });
    }
    count();
    order.forEach((e, k) => { [items[e].arrows[0].disabled, items[e].arrows[1].disabled] = [k === 0, k === order.length - 1]; });
    if (!items.some(({ grip }) => grip.tabIndex === 0)) tab(order[0]);
  }
  return { el, draw: (now) => { order = now; put(); } };
}
