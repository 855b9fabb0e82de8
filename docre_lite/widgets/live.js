// The models in the page itself: loaded when a widget comes into view, in a worker; and documents that a reader changes.
// The page's models lie in _static/models beside the book, or within the page (`docre-lite page`).

/** The code in the worker: requests come in, answers go out; of one widget's requests the last one wins. */
function docreWorker(engine) {
  const newest = new Map(), models = new Map(), waiting = [], { port1, port2 } = new MessageChannel();
  port1.onmessage = () => waiting.shift()();
  const breath = () => new Promise((go) => { waiting.push(go); port2.postMessage(0); });
  onmessage = async ({ data: { id, owner, encoder, file, paper, document, asked } }) => {
    newest.set(owner, id);
    try {
      if (file) models.set(paper, engine.load(encoder, file));
      const model = await models.get(paper), pause = async () => {
        await breath();
        if (newest.get(owner) !== id) throw new Error("stale");
      };
      await pause();
      const begin = performance.now(), { pairs, trace, logits, margin, chosen, tokens, triples } = await engine.predict(model, document, asked, pause);
      const { looks, length, n } = pairs, relations = model.relations;
      postMessage({ id, answer: { n, length, relations, looks, trace, logits, margin, chosen, tokens, triples, took: performance.now() - begin } });
    } catch (error) {
      postMessage({ id, error: error.message });
    }
  };
}

/** One worker for all widgets of a page: think(owner, paper, document, asked) is a promise of the answer. */
function thinker() {
  if (globalThis.docreThinker) return globalThis.docreThinker;
  const page = globalThis.document, folder = `${page.documentElement.dataset.content_root ?? ""}_static/models/`;
  const scripts = new Map(), sent = new Set(), asks = new Map();
  let worker = null, count = 0;
  const files = () => globalThis.docreFiles ?? {};
  /** A file of the page as a classic script: that works from a disk, too, and the browser keeps it for all pages. */
  const script = (name) => {
    if (!scripts.has(name)) {
      scripts.set(name, new Promise((done, failed) => {
        const element = page.createElement("script");
        Object.assign(element, { src: `${folder}${name}.js`, onload: done, onerror: () => failed(new Error(`${name}.js could not be loaded`)) });
        page.head.append(element);
      }));
    }
    return scripts.get(name);
  };
  const start = () => {
    const source = `onerror = null; (${docreWorker})((${globalThis.docreEngine})());`, url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    worker = new Worker(url);
    URL.revokeObjectURL(url);
    worker.onmessage = ({ data: { id, answer, error } }) => {
      const { done, failed } = asks.get(id);
      asks.delete(id);
      if (error) failed(new Error(error)); else done(answer);
    };
    worker.onerror = () => {  // the next request gets a new worker
      for (const { failed } of asks.values()) failed(new Error("the worker stopped"));
      asks.clear();
      sent.clear();
      worker.terminate();
      worker = null;
    };
  };
  globalThis.docreThinker = async (owner, paper, document, asked = {}) => {
    await Promise.all([!globalThis.docreEngine && script("engine"), !files().encoder && script("encoder"), !files()[paper] && script(paper)]);
    const torn = !globalThis.docreEngine ? "engine" : ["encoder", paper].find((name) => !files()[name]);
    if (torn) throw new Error(`${torn}.js is damaged`);
    if (!worker) start();
    return new Promise((done, failed) => {
      const id = count += 1, first = !sent.has(paper);
      sent.add(paper);
      asks.set(id, { done, failed });
      worker.postMessage({ id, owner, paper, document, asked, ...(first ? { encoder: files().encoder, file: files()[paper] } : {}) });
    });
  };
  return globalThis.docreThinker;
}

/** A widget that computes in a page without a kernel: `recompute(state, think)` gives what a kernel's would, from the
 * page's own models; it is asked once the widget is in view and after every change. `think(paper, document, asked)`. */
function liven(context, widget, recompute) {
  const { model } = context;
  if (!model.page || !widget.data.live || typeof Worker === "undefined") return;
  const owner = fresh("owner"), root = widget.body.closest(".dw");
  let on = false, newest = 0;
  const work = async () => {
    if (!on) return;
    const state = model.get("state"), own = newest += 1;  // earlier requests no longer count
    if (widget.answer()) { root.removeAttribute("aria-busy"); return; }
    root.setAttribute("aria-busy", "true");
    try {
      let steps = 0;  // several models of one answer may run side by side
      const found = await recompute(state, (paper, document, asked) => thinker()(`${owner} ${steps += 1}`, paper, document, asked));
      if (own === newest) model.set("answer", { state, ...found });
    } catch (error) {
      if (error.message !== "stale" && own === newest) {
        on = false;
        model.set("failed", `The model does not run in this page (${error.message}); stored answers are shown.`);
      }
    }
    if (own === newest) root.removeAttribute("aria-busy");
  };
  model.on("change:state", work);
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    on = true;
    work();
  }, { rootMargin: "100px" }).observe(root);
}

/** Numbers from `low` to `high` as bytes: what `pack` in base.py makes, and `unpack` reads. */
function packed(shape, values, low, high) {
  const byte = (x) => String.fromCharCode(Math.max(0, Math.min(255, Math.round((255 * (x - low)) / (high - low)))));
  return { shape, low, high, bytes: btoa(Array.from(values, byte).join("")) };
}

// Documents that a reader changes ------------------------------------------------------------------------------------

/** Can the reader change the document here: by the page's own model, or by a kernel? */
const changeable = (context, widget) => !context.model.page || !!widget.data.live;

/** The document without struck sentences and words, and with other names. Entities without a mention are left out.
 *
 * `change`: { sentences: [places], words: [places among all words], names: { entity: name }, text }; with `text` the
 * reader's own marked-up document is what is changed. `from[e]` and `lines[s]` are the numbers before. */
function changed(given, change) {
  const base = change?.text ? fromText(change.text) : given;
  if (!change) return { ...base, from: base.names.map((_, e) => e), lines: base.sentences.map((_, s) => s) };
  const [gone, words, names] = [new Set(change.sentences ?? []), new Set(change.words ?? []), change.names ?? {}];
  const sentences = [], lines = [], mentions = [], named = new Map(), touched = new Set();
  let place = 0;
  base.sentences.forEach((sentence, s) => {
    const first = place;
    place += sentence.length;
    if (gone.has(s)) return;
    const line = [], at = [], here = base.mentions.filter((m) => m.sentence === s);
    for (let w = 0; w < sentence.length; w += 1) {
      at[w] = line.length;
      const whole = here.find((m) => m.start === w && names[m.entity] !== undefined && said(m) === base.names[m.entity]);
      if (whole) {  // a name is replaced as a whole, including its struck words
        line.push(...names[whole.entity].split(/\s+/).filter(Boolean));
        for (let inner = w + 1; inner < whole.end; inner += 1) at[inner] = line.length;
        w = whole.end - 1;
      } else if (!words.has(first + w)) line.push(sentence[w]);
    }
    at[sentence.length] = line.length;
    for (const m of here) {
      const [start, end] = [at[m.start], at[m.end]];
      if (start < end) mentions.push({ ...m, sentence: sentences.length, start, end });
      if (said(m) === base.names[m.entity] && sentence.some((_, w) => m.start <= w && w < m.end && words.has(first + w))) touched.add(m.entity);
    }
    if (line.length) { sentences.push(line); lines.push(s); }
    else while (mentions.length && mentions[mentions.length - 1].sentence === sentences.length) mentions.pop();
  });
  function said(m) { return base.sentences[m.sentence].slice(m.start, m.end).join(" "); }
  const from = base.names.map((_, e) => e).filter((e) => mentions.some((m) => m.entity === e)), now = new Map(from.map((e, k) => [e, k]));
  mentions.forEach((m) => { if (!named.has(m.entity)) named.set(m.entity, sentences[m.sentence].slice(m.start, m.end).join(" ")); });
  const pairs = base.candidates?.filter((pair) => pair.every((e) => now.has(e))).map((pair) => pair.map((e) => now.get(e)));
  return {
    ...(pairs && { candidates: pairs }), title: base.title, sentences, mentions: mentions.map((m) => ({ ...m, entity: now.get(m.entity) })), from, lines,
    names: from.map((e) => names[e] ?? (touched.has(e) ? named.get(e) : base.names[e])), types: from.map((e) => base.types[e]),
    gold: (base.gold ?? []).filter((t) => now.has(t.head) && now.has(t.tail)).map((t) => ({ ...t, head: now.get(t.head), tail: now.get(t.tail) })),
  };
}

/** A changed document as it is drawn: its entities keep their numbers and have their current names.
 *
 * `left` are the numbers of those that are still there, `about(e)` is a name with the one before it. */
function numbered(given, change) {
  const base = change?.text ? fromText(change.text) : given, doc = change?.document ?? given, left = doc.from ?? base.names.map((_, e) => e);
  const names = base.names.map((name, e) => (left.includes(e) ? doc.names[left.indexOf(e)] : name));
  const mentions = doc.mentions.map((m) => ({ ...m, entity: left[m.entity] })), lines = doc.lines ?? doc.sentences.map((_, s) => s);
  const about = (e) => (names[e] === base.names[e] ? names[e] : `${names[e]} (${base.names[e]})`);
  return { title: doc.title, sentences: doc.sentences, mentions, names, types: base.types, lines, left, about };
}

const ABBREVIATIONS = new Set(("al approx apr aug ca capt cf co col corp dec dr ed eds eq eqs feb fig figs ft gen gov hon inc jan jr jul jun lt ltd maj mar messrs "
  + "mr mrs ms mt no nos nov oct pp prof pt ref refs rep resp rev sen sep sept sgt spp sr st ste viz vol vols vs").split(" "));
// Exactly the spaces and letters of the package's patterns: \s and the flag i differ between the languages.
const [SPACE, LETTER] = [String.raw`\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000`, String.raw`\p{L}\p{Nl}\p{No}`];
const RIM = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "gu"), SPACES = new RegExp(`[${SPACE}]+`, "gu"), bare = (text) => text.replace(RIM, "");
const WORD = new RegExp(String.raw`(?<![\p{L}\p{N}])(?:[${LETTER}]\.){2,}|\p{Nd}+(?:[.,]\p{Nd}+)+|['’](?:[sſStTdDmM]|[rR][eE]|[vV][eE]|[lL][lL])(?![\p{L}\p{N}])|(?:[\p{L}\p{N}][\u0300-\u036f]*)+|\.{2,}|[^${SPACE}]`, "gu");
const END = new RegExp(String.raw`[.!?]+["'”’)\]]*(?=[${SPACE}]+["'“‘(\[]*([\p{L}\p{N}]))`, "gu"), LAST = new RegExp(String.raw`([${LETTER}]+)\.$`, "u");
const BLANK = new RegExp(String.raw`\n[${SPACE.replace(String.raw`\t-\r`, String.raw`\t\v-\r`)}]*\n`, "u");  // a line of nothing
const MOST = { words: 1500, entities: 60 };  // of a document that a page reads

/** One document from marked-up text, by the rules of `from_text`: [Marie Curie|PER|1] was born in [Warsaw|LOC|2]. */
function fromText(marked) {
  const whole = bare(marked.replaceAll("\r\n", "\n"));
  if (BLANK.test(whole)) throw new Error("a blank line separates documents, and the page reads one; join the paragraphs");
  if (/^# [^\n]*$/u.test(whole)) throw new Error("a title without text; add the text below it");
  const { text, spans } = unmark(Array.from(whole.replace(/^# [^\n]*\n/, "")));
  const plain = text.join(""), chars = [];  // places in `plain`, in UTF-16
  text.reduce((at, c, k) => { chars[k] = at; return at + c.length; }, 0);
  chars.push(plain.length);
  const list = spans.map(({ start, end, ...rest }) => {
    const name = plain.slice(chars[start], chars[end]), inner = bare(name), at = chars[start] + name.indexOf(inner);
    return { ...rest, start: at, end: at + inner.length };
  }).sort((a, b) => a.start - b.start || a.end - b.end);
  if (!list.length) throw new Error("no name is marked; write [name|TYPE|number] around each");
  const ends = new Set([0, plain.length]);
  for (const m of plain.matchAll(END)) {
    const at = m.index + m[0].length, last = plain.slice(Math.max(0, m.index - 40), at).match(LAST);
    const goes = /\p{Lowercase}/u.test(m[1]) || (last && (Array.from(last[1]).length === 1 || ABBREVIATIONS.has(last[1].toLowerCase())));
    if (!goes && !list.some((s) => s.start < at && at < s.end)) ends.add(at);
  }
  const cuts = [...ends].sort((a, b) => a - b), inner = [...new Set(list.flatMap((s) => [s.start, s.end]))].sort((a, b) => a - b), sentences = [], starts = new Map(), stops = new Map();
  for (let k = 0; k + 1 < cuts.length; k += 1) {
    const part = plain.slice(cuts[k], cuts[k + 1]), words = [];
    if (!bare(part)) continue;
    for (const m of part.matchAll(WORD)) {
      const [a, b] = [cuts[k] + m.index, cuts[k] + m.index + m[0].length], here = inner.filter((c) => a < c && c < b);
      [a, ...here].forEach((from, i) => {
        starts.set(from, [sentences.length, words.length]);
        words.push(plain.slice(from, [...here, b][i]));
        stops.set([...here, b][i], words.length);
      });
    }
    sentences.push(words);
  }
  const keys = [...new Set(list.map((s) => s.key))], of = (key) => list.find((s) => s.key === key);
  if (keys.length > MOST.entities || sentences.flat().length > MOST.words) throw new Error(`the page reads up to ${MOST.entities} entities and ${MOST.words} words; the package reads more`);
  return {
    title: "your text", sentences, gold: [], types: keys.map((key) => of(key).type),
    names: keys.map((key) => plain.slice(of(key).start, of(key).end).replace(SPACES, " ")),
    mentions: list.filter((s, k) => list.findIndex((t) => ["key", "type", "start", "end"].every((x) => t[x] === s[x])) === k).map((s) => ({ sentence: starts.get(s.start)[0], start: starts.get(s.start)[1], end: stops.get(s.end), entity: keys.indexOf(s.key), type: s.type })),
  };
}

/** Characters without marks, and the places of the marked names in them. */
function unmark(marked) {
  const text = [], opened = [];
  let spans = [];
  for (let i = 0; i < marked.length; i += 1) {
    const c = marked[i];
    if (c === "\\" && ["[", "]", "|"].includes(marked[i + 1])) { text.push(marked[i += 1]); continue; }
    if (c === "[") opened.push([text.length, []]);
    else if (c === "|" && opened.length) opened[opened.length - 1][1].push(text.length);
    else if (c === "]" && opened.length) {
      const [start, bars] = opened.pop();
      if (bars.length) {
        const ends = [...bars, text.length], parts = [start, ...bars].map((a, k) => text.slice(a + 1, ends[k]).join(""));
        if (parts.length !== 3 || parts.some((part) => !bare(part))) throw new Error(`“${text.slice(start).join("").slice(0, 40)}]” does not have three parts; write [name|TYPE|number]`);
        text.splice(bars[0]);
        text.splice(start, 1);
        spans = spans.map((s) => (s.start > start ? { ...s, start: s.start - 1, end: s.end - 1 } : s));
        spans.push({ start, end: text.length, type: bare(parts[1]), key: bare(parts[2]) });
        continue;
      }
    }
    text.push(c);
  }
  for (const [start, bars] of opened) if (bars.length) throw new Error(`“${text.slice(start).join("").slice(0, 40)}” is not closed; write [name|TYPE|number]`);
  return { text, spans };
}

/** A document as marked-up text, that `fromText` reads. Sentences without words are left out. It is set for readers
 * where that reads back as the same words, else with a space between any two. */
function toText({ title, sentences, mentions, types }) {
  const safe = (word) => word.replace(/[[\]|]/g, "\\$&").replace(/\\$/, "\\ ");  // at the end it would escape a mark
  const written = (before) => {
    const text = sentences.map((words, s) => { const gap = before(words); return words.map((word, w) => {
      const open = mentions.filter((m) => m.sentence === s && m.start === w).map(() => "[").join("");
      const close = mentions.filter((m) => m.sentence === s && m.end === w + 1).sort((a, b) => b.start - a.start).map((m) => `|${m.type ?? types[m.entity]}|${m.entity + 1}]`).join("");
      return `${gap[w]}${open}${safe(word)}${close}`;
    }).join(""); }).filter(bare).join("\n");
    return bare(text).startsWith("# ") ? `# ${title.replace(SPACES, " ")}\n${text}` : text;  // otherwise its first line would become the title
  };
  const [set, spaced] = [written(gaps), written((words) => words.map((_, w) => (w ? " " : "")))];
  const read = (text) => { try { const { sentences: back, mentions: named } = fromText(text); return JSON.stringify([back, named]); } catch { return null; } };
  return read(set) === read(spaced) ? set : spaced;
}

/** Controls that change the document: strike sentences and words, rename or hide an entity, write another text.
 *
 * `state.change` holds the change; null means the document as given. `onerror` receives the fault of a text. */
function editor(widget, given) {
  const change = () => widget.state().change, base = () => (change()?.text ? fromText(change().text) : given);
  const put = (more) => {
    const next = { sentences: [], words: [], names: {}, text: "", ...change(), ...more };
    const empty = !next.text && !next.sentences.length && !next.words.length && !Object.keys(next.names).length;
    widget.choose({ change: empty ? null : { ...next, document: changed(given, next) } });
  };
  const lines = h("div", { class: "dw-lines" }), wrong = h("p", { class: "dw-wrong-text", role: "alert" });
  const who = select("Entity", [], () => { name.value = ""; });
  const name = h("input", { type: "text", id: fresh("name"), maxlength: 60, class: "dw-input" });
  const rename = () => { const e = Number(who.input.value); if (name.value.trim()) put({ names: { ...change()?.names, [e]: name.value.trim() } }); };
  name.addEventListener("keydown", (event) => { if (event.key === "Enter") rename(); });
  const area = h("textarea", { class: "dw-area", rows: 6, spellcheck: false, id: fresh("area"), oninput: () => { clearTimeout(area.timer); area.timer = setTimeout(own, 400); } });
  function own() {
    try {
      if (area.value.trim()) fromText(area.value);
      wrong.textContent = "";
      put({ text: area.value.trim() === toText(given).trim() ? "" : area.value, sentences: [], words: [], names: {} });
    } catch (error) { wrong.textContent = error.message; }
  }
  const el = h("div", { class: "dw-editor" }, lines,
    row(who.el, h("div", { class: "dw-control" }, h("label", { for: name.id }, "New name"), name, button("Rename", rename),
      button("Hide its name", () => put({ names: { ...change()?.names, [Number(who.input.value)]: "[UNK]" } }))),
    button("Put everything back", () => { area.value = toText(given); wrong.textContent = ""; widget.choose({ change: null }); })),
    h("details", {}, h("summary", {}, "Write your own document"), h("label", { for: area.id }, "Mark each name as [name|TYPE|number]; the same number is the same entity. Types: PER, LOC, ORG, TIME, NUM, MISC."), area), wrong);
  area.value = toText(given);
  let drawn = "";
  function draw() {
    const doc = base(), now = change(), key = JSON.stringify([now, doc.title]);
    if (key === drawn) return;
    drawn = key;
    const chosen = who.input.value, focused = lines.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    who.fill(doc.names.map((text, e) => [e, `${e} ${now?.names?.[e] ?? text}`]));
    who.set(chosen in doc.names ? chosen : 0);
    let place = 0;
    lines.replaceChildren(...doc.sentences.map((sentence, s) => {
      const off = !!now?.sentences?.includes(s), toggle = (list, k) => (list.includes(k) ? list.filter((x) => x !== k) : [...list, k]);
      const before = gaps(sentence), words = sentence.map((word, w) => {
        const at = place + w, out = !!now?.words?.includes(at), of = doc.mentions.find((m) => m.sentence === s && m.start <= w && w < m.end);
        return [before[w], h("button", {
          type: "button", class: `dw-strike${of ? " dw-named" : ""}`, "data-key": `w${at}`, "aria-pressed": String(out), disabled: off, tabindex: w ? -1 : 0,
          title: out ? "put this word back" : "strike this word", onclick: () => put({ words: toggle(now?.words ?? [], at) }),
          onkeydown: (event) => {
            const step = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
            if (!step) return;
            event.preventDefault();
            let next = event.target[step];
            while (next && !next.classList.contains("dw-strike")) next = next[step];
            next?.focus();
          },
        }, word)];
      });
      place += sentence.length;
      const strike = h("button", { type: "button", class: "dw-button dw-small", "data-key": `s${s}`, "aria-pressed": String(off), onclick: () => put({ sentences: toggle(now?.sentences ?? [], s) }) }, off ? "put back" : "strike");
      return h("p", { class: "dw-line", "data-off": String(off) }, strike, h("small", {}, ` [${s}] `), ...words.flat());
    }));
    if (focused) lines.querySelector(`[data-key="${focused}"]`)?.focus();
  }
  return { el, draw };
}
