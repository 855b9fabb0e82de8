// The entity matrix as an image: a stage and a channel of the U-Net, a pixel, and what in the image moves it.
export default {
  render(context) {
    const widget = start(context, "The pairs as an image, and what a pixel sees");
    const { names, stages, orders, fields, pairs } = widget.data, n = names.length;
    const same = (one, two) => one.join() === two.join();
    const stageOf = (name) => stages.find((stage) => stage.name === name);
    const label = (stage, c) => (stage.labels ? stage.labels[c] : `channel ${c}`);
    const known = () => orders.find(({ order }) => same(order, widget.state().order));
    /** The places in this order that row or column k of a stage stands for; their entities' names. */
    const covered = (k, { scale }) => Array.from({ length: Math.min(scale, n - k * scale) }, (_, i) => k * scale + i);
    const named = (k, stage, order) => covered(k, stage).map((i) => names[order[i]]).join(", ");
    let kernel = false, hovered = null, grid = null, image = null, built = "", rest = [];

    const stage = select("Stage", stages.map(({ name, text, side }) => [name, `${name} (${side} × ${side}): ${text}`]), (name) => {
      const { row: r, column: c, stage: old } = widget.state(), now = stageOf(name), from = stageOf(old);
      const [row, column] = [r, c].map((k) => Math.floor((k * from.scale) / now.scale));
      widget.choose({ stage: name, channel: now.shown[0], ...settle(now, row, column, widget.state().order) });
    });
    const channel = select("Channel", [], (c) => widget.choose({ channel: c }));
    const which = select("Order of the entities", [], (order) => renumber(order));
    const shuffle = button("Shuffle entities", () => {
      if (!kernel) return renumber(orders[(orders.indexOf(known()) + 1) % orders.length].order);
      const order = [...names.keys()];
      for (let k = n - 1; k > 0; k -= 1) {
        const j = Math.floor(Math.random() * (k + 1));
        [order[k], order[j]] = [order[j], order[k]];
      }
      rest = [...rest, order];
      return renumber(order);
    });
    const board = h("div", { class: "dw-row dw-image" }), changes = h("div", {});
    widget.body.append(row(stage.el, channel.el), row(which.el, shuffle), board,
      legend(["plus", "above 0; in the image: moves the pixel"], ["minus", "below 0"], ["mark", "the pixel's own pairs"], ["edge", "reached by the convolutions"]),
      changes);

    /** Is there a number? Of the logits only pairs to be classified have one. */
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

    /** The image with a number in each cell; not to choose from. */
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
      const marks = groups.map((name, k) => {  // of a coarse pixel the entities' numbers; the image beside it has the names
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

    /** What is known of a pixel: its number, the roots of its gradients by cell of the image, the box that reaches it. */
    function about(r, c) {
      const state = widget.state(), now = stageOf(state.stage), answer = widget.answer(), found = known();
      const packed = answer ? answer.map : found?.maps[now.name][state.channel];
      const value = packed && holds(now, r, c, state.order) ? unpack(packed).at(r, c) : null;
      const rank = now.pixels.indexOf(r * now.side + c), reach = unpack(now.reach);
      const asked = answer && r === state.row && c === state.column;
      const kept = asked ? answer.field : found && fields[`${found.name}/${now.name}/${state.channel}`];
      const place = asked ? 0 : rank, line = [...names.keys()];
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
      const text = `The image: share of each cell in what moves ${now.name}, ${label(now, k)}, pixel (${r}, ${c})`
        + `${value === null ? "" : ` = ${number(value)}`}, in %`;
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
      return ` In this order ${compared.changed.length} of ${compared.pairs} pairs have another answer than by first mention: F1 ${number(before, 1)} % by first mention, ${number(after, 1)} % now.`;
    }

    widget.run(() => {
      const state = widget.state(), answer = widget.answer(), now = stageOf(state.stage), { order } = state;
      kernel = kernel || answer !== null;
      const all = kernel ? Array.from({ length: now.count }, (_, c) => c) : now.shown;
      if (!all.includes(state.channel)) all.push(state.channel);
      const listed = orders.map((o) => [o.order, o.name]), fresh = rest.map((o, k) => [o, `fresh shuffle ${k + 1}`]);
      channel.fill(all.map((c) => [c, label(now, c)]));
      which.fill([...listed, ...fresh]);
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
