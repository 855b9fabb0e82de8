// Shared by all widgets and put before each one's own script: elements, controls, matrix, document, bars, curves.
// A widget ends in `export default { render({ model, el }) { … } }` and uses only get, set, on and save_changes of
// the model: the part common to Jupyter, Colab and the page without a kernel.

/** h("p", { class: "x", onclick: f }, "text", child): an element. Properties with null or false are left out. */
function h(tag, properties = {}, ...children) {
  const space = "svg path line circle rect text g polyline title".split(" ").includes(tag);
  const element = space ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === false || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

let counted = 0;
/** An id that no other element of the page has. */
const fresh = (what) => `dw-${what}-${(counted += 1)}-${Math.random().toString(36).slice(2, 7)}`;

/** A number as readable text: a true minus sign, no "−0". */
function number(value, digits = 2) {
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}
const percent = (share, digits = 0) => `${number(100 * share, digits)} %`;

/** An array that Python packed as bytes: at(i, j, …) gives a number. See `pack` in base.py. */
function unpack({ shape, low, high, bytes }) {
  const raw = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
  const at = (...index) => {
    let place = 0;
    index.forEach((i, axis) => { place = place * shape[axis] + i; });
    return low + (raw[place] * (high - low)) / 255;
  };
  return { shape, at };
}

/** The frame of every widget: title, sign, body, a status line that is read aloud. Returns the tools of a widget. */
function start({ model, el }, title) {
  const data = model.get("data");
  const sign = h("span", { class: "dw-sign" });
  const body = h("div", { class: "dw-body" });
  const status = h("p", { class: "dw-status", role: "status" });
  const label = fresh("title");
  const root = h(
    "section", { class: "dw", "aria-labelledby": label },
    h("header", { class: "dw-head" }, h("span", { class: "dw-title", id: label }, title), sign), body, status,
  );
  el.append(root);
  const state = () => model.get("state");
  const same = (one, two) => JSON.stringify(one) === JSON.stringify(two);
  const widget = {
    data, body, state, status,
    own: false,  // does the script compute everything itself, with or without a kernel?
    /** Change the reader's choices: everything is drawn again, and a kernel, if there is one, recomputes. */
    choose(changes) {
      model.set("state", { ...state(), ...changes });
      model.save_changes();
    },
    /** What the model recomputed for exactly this state; null if it has not (yet), or there is no kernel. */
    answer() {
      const answer = model.get("answer");
      return answer?.state && Object.keys(state()).every((k) => same(answer.state[k], state()[k])) ? answer : null;
    },
    /** Draw now and after every change. `draw` returns the sentence for the status line. */
    run(draw) {
      const redraw = () => {
        const answered = widget.answer() !== null, computed = answered || widget.own, failed = model.page && model.get("failed");
        sign.textContent = !computed ? "stored" : model.page || !answered ? "computed here" : "by your kernel";
        sign.title = failed || "";
        sign.dataset.live = computed;
        const said = draw(), told = failed ? `${said} ${failed}` : said;
        if (said !== undefined && told !== status.textContent) status.textContent = told;
      };
      model.on("change:failed", redraw);
      model.on("change:state", redraw);
      model.on("change:answer", redraw);
      redraw();
      root.dataset.ready = "";
    },
  };
  return widget;
}

/** A labelled slider. `text(value)` is its display; `set(value)` moves it without an event. */
function slider(label, { min, max, step, text = (v) => number(v) }, onchange) {
  const id = fresh("slider");
  const shown = h("span", { class: "dw-value" });
  const input = h("input", { type: "range", id, min, max, step, oninput: () => { say(); onchange(Number(input.value)); } });
  const say = () => {
    shown.textContent = text(Number(input.value));
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  const set = (value) => { if (document.activeElement !== input || Number(input.value) !== value) input.value = value; say(); };
  return { el: h("div", { class: "dw-control" }, h("label", { for: id }, label), input, shown), set, input };
}

/** A labelled drop-down; `options` are [value, text]. Values are compared as text. */
function select(label, options, onchange) {
  const id = fresh("select");
  const input = h("select", { id, onchange: () => onchange(options[input.selectedIndex][0]) });
  const fill = (list) => {
    options = list;
    input.replaceChildren(...list.map(([value, text]) => h("option", { value }, text)));
  };
  fill(options);
  const set = (value) => { input.selectedIndex = options.findIndex(([v]) => String(v) === String(value)); };
  return { el: h("div", { class: "dw-control" }, h("label", { for: id }, label), input), set, fill, input };
}

/** A row of alternatives, one of them chosen; `options` are [value, text]. */
function choice(label, options, onchange) {
  const name = fresh("choice");
  const inputs = options.map(([value]) => h("input", { type: "radio", name, onchange: () => onchange(value) }));
  const set = (value) => inputs.forEach((input, k) => { input.checked = String(options[k][0]) === String(value); });
  const rows = options.map(([, text], k) => h("label", { class: "dw-option" }, inputs[k], text));
  return { el: h("fieldset", { class: "dw-choice" }, h("legend", {}, label), ...rows), set };
}

const button = (text, onclick) => h("button", { type: "button", class: "dw-button", onclick }, text);
const row = (...children) => h("div", { class: "dw-row" }, ...children);
const legend = (...entries) =>
  h("ul", { class: "dw-legend" }, ...entries.map(([kind, text, mark = ""]) =>
    h("li", {}, h("span", { class: `dw-cell dw-${kind}`, "aria-hidden": "true" }, mark), text)));

/** A table of numbers or words under a caption. */
function table(caption, head, rows) {
  return h("div", { class: "dw-scroll", tabindex: 0, role: "region", "aria-label": caption }, h("table", { class: "dw-table" }, h("caption", {}, caption),
    h("thead", {}, h("tr", {}, ...head.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...rows.map((cells) => h("tr", {}, ...cells.map((cell) => h("td", {}, cell)))))));
}

/** A matrix of cells to choose from: heads in rows, tails in columns. Arrow keys walk, Enter or space chooses.
 *
 * draw(cell, chosen): `cell(r, c)` gives null for an empty place, or { share, text, kind, title }: a tint from 0 to 1,
 * the text of the cell, a class for its look ("hidden", "hit", …), and its description. `named` columns carry
 * their names too, upright. `onwalk` receives the target of arrow keys, which by default counts as chosen.
 */
function matrix(names, { caption, onchoose, onwalk = onchoose, columns = names, rowHead = "head", columnHead = "tail", named = false }) {
  const cells = names.map((_, r) => columns.map((_, c) => h("button", {
    type: "button", class: "dw-cell", tabindex: -1, onclick: () => { onchoose?.(r, c); cells[r][c].focus(); },
    onkeydown: (event) => walk(event, r, c),
  })));
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  function walk(event, r, c) {
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    do { r += step[0]; c += step[1]; } while (cells[r]?.[c]?.disabled);
    if (cells[r]?.[c]) { cells[r][c].focus(); onwalk?.(r, c); }
  }
  const head = h("tr", {}, h("th", { scope: "col", class: "dw-corner" }, `${rowHead} ↓ ${columnHead} →`),
    ...columns.map((name, c) => h("th", { scope: "col", title: name, class: named && "dw-upright" }, named ? h("span", { class: "dw-name dw-vertical" }, `${name} ${c}`) : String(c))));
  const rows = names.map((name, r) =>
    h("tr", {}, h("th", { scope: "row", title: name }, h("span", { class: "dw-name" }, name), ` ${r}`), ...cells[r].map((cell) => h("td", {}, cell))));
  const el = h("div", { class: "dw-scroll" },
    h("table", { class: "dw-matrix" }, h("caption", {}, caption), h("thead", {}, head), h("tbody", {}, ...rows)));
  function draw(cell, chosen) {
    let first = null;
    names.forEach((_, r) => columns.forEach((_, c) => {
      const target = cells[r][c], what = cell(r, c), on = !!chosen && chosen[0] === r && chosen[1] === c;
      target.disabled = what === null;
      target.className = `dw-cell${what?.kind ? ` dw-${what.kind}` : ""}${on ? " dw-on" : ""}`;
      target.style.setProperty("--share", what?.share ?? 0);
      target.dataset.dark = (what?.share ?? 0) > 0.55;
      target.textContent = what?.text ?? "";
      target.setAttribute("aria-label", what ? `${names[r]} to ${columns[c]}: ${what.title ?? what.text ?? ""}` : "no pair");
      target.title = what ? `${names[r]} → ${columns[c]}: ${what.title ?? what.text ?? ""}` : "";
      target.setAttribute("aria-pressed", on);
      target.tabIndex = on ? 0 : -1;
      if (!target.disabled && !first) first = target;
    }));
    if (first && !cells.flat().some((cell) => cell.tabIndex === 0)) first.tabIndex = 0;
  }
  return { el, draw };
}

const CLOSES = /^([,.;:!?%)\]}’”…']+|['’](s|t|re|ve|ll|d|m)|n['’]t)$/i, OPENS = /^[([{“‘]+$/;
/** The separator before each word of a sentence, a space or nothing: like `gaps` in the package. */
function gaps(words) {
  let close = true, quoted = false;
  return words.map((word) => {
    const quote = word === '"', gap = close || (quote ? quoted : CLOSES.test(word)) ? "" : " ";
    close = quote ? !quoted : OPENS.test(word);
    quoted = quoted !== quote;
    return gap;
  });
}

/** The text of a document: `sentences` of words, `mentions` as { sentence, start, end, entity }, `names`, `types`;
 * `lines`, where there are some, are the numbers of the sentences.
 *
 * draw({ weights, shares, strong, evidence }): one weight a word shades and underlines it, one share a sentence is
 * written before it, `strong` entities stand out as [entity, "head"], `evidence` sentences carry a bar.
 */
function textOf({ sentences, mentions, names, types, lines = null }, onchoose) {
  const words = [], marks = [], shares = [];
  const paragraphs = sentences.map((sentence, s) => {
    const spans = sentence.map((word) => h("span", { class: "dw-word" }, word)), before = gaps(sentence);
    words.push(...spans);
    shares.push(h("span", { class: "dw-share" }));
    const line = h("p", { class: "dw-sentence" }, h("small", {}, `[${lines?.[s] ?? s}] `), shares[s], " ");
    const opening = new Map();
    for (const m of mentions.filter((m) => m.sentence === s)) {
      const other = opening.get(m.start);
      if (!other || other.end < m.end) opening.set(m.start, m);  // of nested mentions the longest is drawn
    }
    for (let w = 0; w < sentence.length;) {
      const m = opening.get(w), end = m ? m.end : w + 1;
      const inner = spans.slice(w, end).flatMap((span, k) => (k ? [before[w + k], span] : [span]));
      if (m) {
        const about = `${names[m.entity]}, type ${types[m.entity]}`;
        const mark = h("span", {
          class: "dw-mention", "data-entity": m.entity, "data-tint": m.entity % 8, title: `entity ${m.entity}: ${about}`,
          onclick: () => onchoose?.(m.entity),
        }, ...inner, h("sup", {}, String(m.entity)));
        marks.push([mark, m.entity]);
        line.append(before[w], mark);
      } else line.append(before[w], ...inner);
      w = end;
    }
    return line;
  });
  const el = h("div", { class: `dw-text${onchoose ? " dw-clickable" : ""}` }, ...paragraphs);
  function draw({ weights = null, shares: parts = null, strong = [], evidence = [] }) {
    const peak = weights ? Math.max(...weights, 1e-12) : 1;
    words.forEach((word, k) => {
      const share = weights ? Math.max(0, weights[k]) / peak : 0;
      word.style.setProperty("--share", share.toFixed(3));
      word.title = weights ? percent(weights[k], 1) : "";
    });
    shares.forEach((span, s) => {
      span.textContent = parts ? percent(parts[s]) : "";
      span.style.setProperty("--share", parts ? parts[s] : 0);
    });
    marks.forEach(([mark, entity]) => {
      const role = strong.find(([e]) => e === entity)?.[1];
      if (role) mark.dataset.role = role; else delete mark.dataset.role;
    });
    paragraphs.forEach((line, s) => { line.dataset.evidence = evidence.includes(s); });
  }
  return { el, draw };
}

/** Bars to the left and right of a line at 0, with their numbers; items are { label, value, kind, title, was, text }:
 * a thin line marks the earlier value, and `text` replaces the number. */
function bars(caption, digits = 2) {
  const body = h("tbody", {});
  const el = h("table", { class: "dw-bars" }, h("caption", {}, caption), body);
  function draw(items) {
    const every = items.flatMap(({ value, was = value }) => [value, was]), reach = Math.max(...every.map(Math.abs), 1e-9);
    const low = every.some((value) => value < 0) ? 0.5 : 0;
    body.replaceChildren(...items.map(({ label, value, kind = "", title, was, text = number(value, digits) }) => {
      const length = ((1 - low) * Math.abs(value)) / reach;
      const bar = h("span", { class: `dw-bar ${kind && `dw-${kind}`}`, style: `left:${100 * (value < 0 ? low - length : low)}%;width:${100 * length}%` });
      const zero = h("span", { class: "dw-zero", style: `left:${100 * low}%` });
      const before = was === undefined ? null : h("span", { class: "dw-was", style: `left:${100 * (low + ((1 - low) * was) / reach)}%` });
      return h("tr", { title }, h("th", { scope: "row" }, label), h("td", { class: "dw-track" }, h("div", {}, bar, before, zero)), h("td", { class: "dw-value" }, text));
    }));
  }
  return { el, draw };
}

/** Lines over x with a marker at one place: { x, series: [{ name, values }], xlabel, ylabel }.
 *
 * `band` is [low, high], shaded; `marks` are [place, text] along x, by default percents.
 */
function curves({ x, series, xlabel, ylabel, top = 1, band = null, marks = null }) {
  const step = Math.ceil(x.length / 6);
  marks ??= x.filter((_, k) => k % step === 0).map((v) => [v, String(Math.round(100 * v))]);
  const [width, height, left, bottom] = [360, 200, 46, 38];
  const across = (v) => left + ((v - x[0]) / (x[x.length - 1] - x[0] || 1)) * (width - left - 12);
  const up = (v) => 10 + (1 - v / top) * (height - bottom - 10);
  const dashes = ["", "6 3", "2 3"];
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((t) => t * top);
  const marker = h("line", { class: "dw-marker", y1: up(top), y2: up(0) });
  const dots = series.map(() => h("circle", { r: 4, class: "dw-dot" }));
  const own = h("circle", { r: 4, class: "dw-own", visibility: "hidden" });
  const points = (values) => values.map((v, i) => `${across(x[i])},${up(v)}`);
  const el = h("svg", { class: "dw-curves", viewBox: `0 0 ${width} ${height}`, role: "img" },
    ...ticks.map((t) => h("g", {}, h("line", { class: "dw-tick", x1: left, x2: width - 12, y1: up(t), y2: up(t) }), h("text", { x: left - 6, y: up(t) + 4, "text-anchor": "end" }, String(Math.round(100 * t))))),
    ...marks.map(([v, text]) => h("text", { x: across(v), y: height - bottom + 16, "text-anchor": "middle" }, text)),
    h("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, xlabel),
    h("text", { transform: `translate(12 ${(height - bottom) / 2 + 6}) rotate(-90)`, "text-anchor": "middle" }, ylabel),
    band ? h("polyline", { class: "dw-band", points: [...points(band[0]), ...points(band[1]).reverse()].join(" ") }) : null,
    marker,
    ...series.map(({ values }, k) => h("polyline", { class: "dw-line", "stroke-dasharray": dashes[k % 3], points: points(values).join(" ") })),
    ...dots, own,
  );
  /** Mark one x; values between two known ones lie on the line. `single` is a value beside the lines, as a full dot. */
  function draw(at, single = null) {
    marker.setAttribute("x1", across(at));
    marker.setAttribute("x2", across(at));
    const k = Math.max(1, x.findIndex((v) => v >= at)), part = (at - x[k - 1]) / (x[k] - x[k - 1] || 1);
    const now = series.map(({ values }) => values[k - 1] + part * (values[k] - values[k - 1]));
    dots.forEach((dot, i) => { dot.setAttribute("cx", across(at)); dot.setAttribute("cy", up(now[i])); });
    own.setAttribute("visibility", single === null ? "hidden" : "visible");
    own.setAttribute("cx", across(at));
    own.setAttribute("cy", up(single ?? 0));
    el.setAttribute("aria-label", `${ylabel} over ${xlabel}. At ${percent(at)}: ${series.map(({ name }, i) => `${name} ${number(100 * now[i], 1)}`).join(", ")}`);
    return now;
  }
  return { el, draw };
}
