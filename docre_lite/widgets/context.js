// What a pair looks at: words shaded by attention, sums over sentences, the pair's margins; in a document that changes.
export default {
  render(context) {
    const widget = start(context, "What a pair looks at");
    const { data } = widget, { document: given, challenge } = data, stored = unpack(data.attention);
    const [heads] = stored.shape, can = changeable(context, widget), every = given.names.map((_, e) => e);
    const { starred: marked } = data;  // does the model read a star before and after each mention?
    const signed = (value) => (number(value, 1).startsWith("−") ? number(value, 1) : `+${number(value, 1)}`);

    // The pair -------------------------------------------------------------------------------------------------------

    let next = "head", wanted = null;  // the two that the reader chose, by number and name
    /** The document before words are struck from it: the given one, or the reader's own text. */
    const base = (change) => (change?.text ? fromText(change.text) : given);
    const want = (head, tail) => {
      const { names } = base(widget.state().change);
      wanted = [head, tail].map((e) => ({ e, name: names[e] }));
    };
    want(widget.state().head, widget.state().tail);
    const first = wanted;
    /** The pair shown, in the numbers of `base`: for null the model chose one. */
    const pairOf = (state) => (state.head === null || state.tail === null ? widget.answer()?.pair ?? [state.head, state.tail] : [state.head, state.tail]);
    const pick = (roles) => {
      const [head, tail] = pairOf(widget.state()), now = { head, tail, ...roles };
      if (now.head === now.tail) Object.assign(now, "head" in roles ? { tail: head } : { head: tail });
      want(now.head, now.tail);
      widget.choose(now);
    };
    /** A change keeps the pair as long as its entities exist; otherwise the model finds another. */
    function follow({ change }) {
      const { names } = base(change), left = change ? change.document.from : every;
      const place = ({ e, name }) => (names[e] === name ? e : names.indexOf(name)), there = (e) => (left.includes(e) ? e : null);
      if (!change && wanted.some((one) => place(one) < 0)) wanted = first;  // it was a pair of the reader's own text
      const [head, tail] = wanted.map((one) => there(place(one)));
      widget.choose({ change, head, tail });
    }

    // The page -------------------------------------------------------------------------------------------------------

    const head = select("Head entity", [], (v) => { next = "tail"; pick({ head: v }); });
    const tail = select("Tail entity", [], (v) => { next = "head"; pick({ tail: v }); });
    const view = choice("Attention of", [["both", "both (the product)"], ["head", "head entity"], ["tail", "tail entity"]], (v) => widget.choose({ view: v }));
    const which = select("Attention head", [[-1, "all together"], ...Array.from({ length: heads }, (_, k) => [k, String(k)])], (v) => widget.choose({ attention: v }));
    const margins = bars("Margin of a relation over the pair's threshold, in logits: right of the line it is claimed", 1);
    const text = h("div", {}), click = h("p", { class: "dw-hint" });
    const edit = can && editor({ ...widget, choose: follow }, given), task = can && challenge ? taskOf() : null;
    const changes = can && h("details", { class: "dw-change" }, h("summary", {}, "Change the document"), edit.el, task?.el);
    const swap = button("Swap", () => { const [s, o] = pairOf(widget.state()); pick({ head: o, tail: s }); });
    const signs = legend(["shade", `shade and underline: attention to a word${marked ? ", or to a star, which the model reads before and after each mention" : ""}`], ["chosen", "claimed"], ["hit", "gold, claimed or not"]);
    const dotted = h("li", {}, h("span", { class: "dw-was-sign", "aria-hidden": "true" }), "before the change");
    signs.append(dotted);
    widget.body.append(
      row(head.el, tail.el, swap), row(view.el, which.el), text, click, ...(can ? [changes] : []), margins.el,
      signs,
    );

    /** One fact that the model should lose when the reader strikes one word. */
    function taskOf() {
      const [s, relation, o] = challenge.fact, { names } = given, word = given.sentences.flat()[challenge.word];
      let sentence = 0;
      for (let left = challenge.word; left >= given.sentences[sentence].length; sentence += 1) left -= given.sentences[sentence].length;
      const said = h("p", { class: "dw-question" }), el = h("div", { class: "dw-task" },
        h("p", {}, h("strong", {}, "A challenge: "), `the model finds ${names[s]} → ${names[o]}: ${relation} (margin ${signed(challenge.margin)}). Make it lose this fact by striking one word that is not part of a name. `,
          button("Look at this pair", () => pick({ head: s, tail: o }))),
        said,
        h("details", {}, h("summary", {}, "One answer"), h("p", {}, `Strike “${word}” in sentence ${sentence}: the margin falls from ${signed(challenge.margin)} to ${signed(challenge.after)}.`)));
      const named = new Set();
      let place = 0;
      given.sentences.forEach((line, k) => {
        given.mentions.filter((m) => m.sentence === k).forEach((m) => { for (let w = m.start; w < m.end; w += 1) named.add(place + w); });
        place += line.length;
      });
      function draw({ change }, margin) {
        el.hidden = !!change?.text;
        const { words = [], sentences = [], names: renamed = {} } = change ?? {}, one = words.length === 1 && !sentences.length && !Object.keys(renamed).length && !named.has(words[0]);
        const lost = margin === null || margin <= 0;
        said.textContent = !change || margin === undefined ? ""
          : margin === null ? "Now one of the two names is gone. Put it back, and strike a word that is not part of a name."
            : one && lost ? `Solved: without “${given.sentences.flat()[words[0]]}” the margin is ${signed(margin)}, and the fact is lost.`
              : lost ? `Lost, with a margin of ${signed(margin)}; but can you do it by striking one word that is not part of a name?`
                : `The margin is ${signed(margin)} now: the model still finds the fact.`;
      }
      return { el, draw };
    }

    // What the model says --------------------------------------------------------------------------------------------

    /** Weight of every token for this view: an entity's own attention, or the product of both, summed over heads. */
    function weigh(own, tokens, [s, o], { view: how, attention: only }) {
      const chosen = only < 0 ? Array.from({ length: heads }, (_, k) => k) : [only];
      const raw = Array.from({ length: tokens }, (_, t) => chosen.reduce((sum, k) =>
        sum + (how === "both" ? own(k, s, t) * own(k, o, t) : own(k, how === "head" ? s : o, t)), 0));
      const total = raw.reduce((a, b) => a + b, 0) || 1;
      return raw.map((x) => x / total);
    }
    function gather(weights, { word, sentence }, sentences) {
      const words = new Array(sentences.flat().length).fill(0), shares = new Array(sentences.length).fill(0), stars = [];
      weights.forEach((x, t) => {
        if (word[t] >= 0) words[word[t]] += x;
        else if (sentence[t] >= 0) stars.push(x);
        if (sentence[t] >= 0) shares[sentence[t]] += x;
      });
      const inside = shares.reduce((a, b) => a + b, 0) || 1;
      return { words, stars, shares: shares.map((x) => x / inside) };
    }
    const goldOf = ([s, o]) => given.gold.filter((t) => t.head === s && t.tail === o);

    /** Relations as [name, margin, margin before]: those nearest to being claimed, gold ones, those claimed before. */
    function best({ relations, n, margin }, [s, o], gold, before) {
      const at = (s * n + o) * relations.length, all = [...relations.keys()].slice(1), by = (a, b) => margin[at + b] - margin[at + a];
      const near = [...all].sort(by).slice(0, data.shown);
      const order = all.filter((r) => near.includes(r) || gold.some((t) => t.relation === relations[r]) || before?.[r] > 0).sort(by);
      const short = (x) => Math.round(100 * x) / 100;
      return order.map((r) => [relations[r], short(margin[at + r]), ...(before ? [short(before[r])] : [])]);
    }

    /** The pair, with this head or tail where one is given, whose best relation has the highest margin. */
    function strongest({ relations, n, margin }, s, o) {
      let found = null, top = -Infinity;
      for (let a = 0; a < n; a += 1) {
        for (let b = 0; b < n; b += 1) {
          if (a === b || (s ?? a) !== a || (o ?? b) !== b) continue;
          const most = Math.max(...margin.subarray((a * n + b) * relations.length + 1, (a * n + b + 1) * relations.length));
          if (most > top) [found, top] = [[a, b], most];
        }
      }
      return found;
    }

    let unchanged = null, held = null;  // the model's answer to the document as given, and to the last one
    liven(context, widget, async (state, think) => {
      const { change } = state, doc = change?.document ?? given, left = change ? doc.from : every, own = change?.text;
      if (left.length < 2) return { pair: null, words: doc.sentences.flat().map(() => 0), stars: [], shares: doc.sentences.map(() => 0), margins: [], challenge: null };
      const key = JSON.stringify(change), ask = (d) => think(data.live[0], d);
      const [found, was] = await Promise.all([held?.key === key ? held.found : ask(doc), change && !own ? unchanged ?? ask(given) : null]);
      held = { key, found };
      if (!own) unchanged = was ?? found;
      const [s, o] = [state.head, state.tail].map((e) => (e === null ? null : left.indexOf(e)));
      const inner = s === null || o === null ? strongest(found, s, o) : [s, o], pair = inner.map((e) => left[e]);
      const { looks, n, length, tokens, relations } = found, from = was && (pair[0] * was.n + pair[1]) * relations.length;
      const weights = weigh((k, e, t) => looks[(k * n + e) * length + t], length, inner, state);
      return {
        pair, ...gather(weights, tokens, doc.sentences), challenge: own ? null : challengeOf(found, left),
        margins: best(found, inner, own ? [] : goldOf(pair), was && was.margin.subarray(from, from + relations.length)),
      };
    });
    function challengeOf({ margin, n, relations }, left) {
      if (!challenge) return null;
      const [s, relation, o] = challenge.fact, [a, b] = [left.indexOf(s), left.indexOf(o)];
      return a < 0 || b < 0 ? null : Math.round(100 * margin[(a * n + b) * relations.length + relations.indexOf(relation)]) / 100;
    }
    /** The stored results: those of the given document, which the page carries. */
    function known(state) {
      const pair = [state.head, state.tail], [, , tokens] = stored.shape;
      const own = (k, e, t) => stored.at(k, e, t) ** 2;  // packed as square roots, so that small ones survive
      return { pair, ...gather(weigh(own, tokens, pair, state), data, given.sentences), margins: data.margins[pair[0]][pair[1]] };
    }

    // Drawing --------------------------------------------------------------------------------------------------------

    let offered = null, drawn = null;  // lists and text are built once, not for every pair
    function offer({ left, about }) {
      const entities = left.map((e) => [e, `${e} ${about(e)}`]), key = JSON.stringify(entities);
      if (offered !== key) for (const role of [head, tail]) role.fill(entities);
      offered = key;
    }
    /** The text as the model reads it, a star around each mention; `places` has each word's number, -1 for a star. */
    function withStars({ sentences, mentions, ...rest }) {
      const spans = [...new Map(mentions.map((m) => [`${m.sentence} ${m.start} ${m.end}`, m])).values()], places = [], now = new Map();
      let count = 0;
      const stars = (found, line) => found.forEach(() => { line.push("*"); places.push(-1); });
      const lines = sentences.map((sentence, s) => {
        const here = spans.filter((m) => m.sentence === s), line = [];
        sentence.forEach((word, w) => {
          stars(here.filter((m) => m.start === w), line);
          now.set(`${s} ${w}`, line.length);
          line.push(word);
          places.push(count);
          count += 1;
          stars(here.filter((m) => m.end === w + 1), line);
        });
        return line;
      });
      const moved = mentions.map((m) => ({ ...m, start: now.get(`${m.sentence} ${m.start}`), end: now.get(`${m.sentence} ${m.end - 1}`) + 1 }));
      return { ...rest, sentences: lines, mentions: moved, places };
    }
    function textFor(given) {
      const key = JSON.stringify([given.sentences, given.mentions, given.names]);
      if (drawn?.key !== key) {
        const shown = marked ? withStars(given) : given;
        drawn = { key, places: shown.places, ...textOf(shown, (entity) => {
          const role = next;
          next = role === "head" ? "tail" : "head";
          pick({ [role]: entity });
        }) };
        text.replaceChildren(drawn.el);
      }
      return drawn;
    }

    /** The state to draw: the reader's, or the given document if the model does not run. */
    function current() {
      const state = widget.state(), failed = context.model.page && context.model.get("failed");
      if (can) changes.hidden = !!failed;
      return !failed ? state : { ...state, ...(state.change ? { head: wanted[0].e, tail: wanted[1].e } : {}), change: null };
    }

    function say(state, { names, about, lines }, answer) {
      const [s, o] = answer.pair, { shares, stars, margins: said } = answer, gold = state.change?.text ? [] : goldOf(answer.pair);
      const claimed = said.filter(([, value]) => value > 0).map(([relation]) => relation), peak = shares.indexOf(Math.max(...shares));
      const who = { both: "Both together look", head: `${names[s]} looks`, tail: `${names[o]} looks` }[state.view];
      const evidence = [...new Set(gold.flatMap((t) => t.evidence))].sort((a, b) => a - b);
      const held = gold.map((t) => t.relation + (t.depth ? " (composed)" : "")).join(", ") || "none";
      const where = `${who} most at sentence ${lines[peak]} (${percent(shares[peak])})${marked ? `, with ${percent(stars.reduce((a, b) => a + b, 0))} of the weight on stars` : ""}`;
      const pair = `${about(s)} → ${about(o)}: the model claims ${claimed.join(", ") || "no relation"}`;
      if (!state.change) return `${pair}; gold: ${held}. ${where}${evidence.length ? `; gold evidence: sentence ${evidence.join(", ")}` : ""}.`;
      const moved = said.filter(([relation, value, was]) => was !== undefined && (value > 0 || was > 0 || gold.some((t) => t.relation === relation))).sort((a, b) => Math.abs(b[1] - b[2]) - Math.abs(a[1] - a[2]))[0];
      const lost = said.filter(([, value, was]) => was > 0 && value <= 0).map(([relation]) => relation);
      const most = moved && `${lost.length ? `; it lost ${lost.join(", ")}` : ""}. ${moved[0]} moved most, from ${signed(moved[2])} to ${signed(moved[1])}`;
      const other = state.head !== null && state.tail !== null ? "" : state.change.text ? "The strongest pair of your text: "
        : "The pair you chose is no longer in the text; the strongest pair now: ";
      return `${other}${pair}${most ?? ""}. ${where}.`;
    }

    widget.run(() => {
      const state = current(), answer = widget.answer() ?? (state.change ? null : known(state)), doc = numbered(given, state.change);
      view.set(state.view); which.set(state.attention);
      if (can) { edit.draw(); task?.draw(state, widget.answer()?.challenge); }
      offer(doc);
      dotted.hidden = !state.change || !!state.change.text;
      const [s, o] = answer?.pair ?? pairOf(state);
      head.set(s); tail.set(o);
      click.textContent = `Click an entity in the text to make it the ${next} entity.`;
      const picture = textFor(doc);
      if (!answer) { picture.draw({ strong: [[s, "head"], [o, "tail"]] }); return undefined; }  // an answer is on its way
      if (!answer.pair) { picture.draw({}); margins.draw([]); return "Fewer than two entities are left: there is no pair to look at. Put something back."; }
      const { words, stars, shares } = answer, evidence = shares.flatMap((x, k) => (x >= data.evidence ? [k] : []));
      let star = 0;
      const weights = picture.places?.map((k) => (k < 0 ? stars[star++] ?? 0 : words[k])) ?? words;
      picture.draw({ weights, shares, strong: [[s, "head"], [o, "tail"]], evidence: state.view === "both" ? evidence : [] });
      const gold = state.change?.text ? [] : goldOf(answer.pair), mark = state.change ? " (gold before)" : " (gold)";
      margins.draw(answer.margins.map(([relation, value, was]) => {
        const right = gold.some((t) => t.relation === relation);
        return { label: `${relation}${right ? mark : ""}`, value, was, text: was === undefined ? number(value, 1) : `${signed(value)} (was ${signed(was)})`, kind: value > 0 ? "chosen" : right ? "positive" : "" };
      }));
      return say(state, doc, answer);
    });
  },
};
