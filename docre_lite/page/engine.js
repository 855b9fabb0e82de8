// The five models, forward only: the same names and the same numbers as the package, for pages that have no Python.
// One document at a time; arrays are flat Float32Arrays, rows first. A page puts this function's text into a worker.
/* exported docreEngine */
function docreEngine() {
  "use strict";

  // Products of matrices -------------------------------------------------------------------------------------------

  // product.wat, compiled; null where the browser has no SIMD, and for tests of what is done then
  const PRODUCT = "AGFzbQEAAAABCgFgBn9/f39/fwACEAEEcGFnZQZtZW1vcnkCAAEDAgEABwsBB3Byb2R1Y3QAAAq6BAG3BAIIfwt7IARBAnQhDCAFQQV0IQ0CQANAIAYgBU8NAUEAIQcgAiAGQQV0aiELAkADQCAHIANPDQH9DAAAAAAAAAAAAAAAAAAAAAAhEf0MAAAAAAAAAAAAAAAAAAAAACES/QwAAAAAAAAAAAAAAAAAAAAAIRP9DAAAAAAAAAAAAAAAAAAAAAAhFP0MAAAAAAAAAAAAAAAAAAAAACEV/QwAAAAAAAAAAAAAAAAAAAAAIRb9DAAAAAAAAAAAAAAAAAAAAAAhF/0MAAAAAAAAAAAAAAAAAAAAACEYIAAgByAMbGohCSABIQogBCEIAkADQCAIRQ0BIAr9AAQAIQ4gCv0ABBAhDyAJ/QkCACEQIBEgECAO/eYB/eQBIREgEiAQIA/95gH95AEhEiAJIAxq/QkCACEQIBMgECAO/eYB/eQBIRMgFCAQIA/95gH95AEhFCAJIAxBAXRq/QkCACEQIBUgECAO/eYB/eQBIRUgFiAQIA/95gH95AEhFiAJIAxBA2xq/QkCACEQIBcgECAO/eYB/eQBIRcgGCAQIA/95gH95AEhGCAJQQRqIQkgCkEgaiEKIAhBAWshCAwACwsgCyAR/QsEACALIBL9CwQQIAsgDWohCyALIBP9CwQAIAsgFP0LBBAgCyANaiELIAsgFf0LBAAgCyAW/QsEECALIA1qIQsgCyAX/QsEACALIBj9CwQQIAsgDWohCyAHQQRqIQcMAAsLIAEgBEEFdGohASAGQQFqIQYMAAsLCw==";
  let fast = null, memory = null;
  try {
    memory = new WebAssembly.Memory({ initial: 64 });
    const bytes = Uint8Array.from(atob(PRODUCT), (c) => c.charCodeAt(0));
    fast = new WebAssembly.Instance(new WebAssembly.Module(bytes), { page: { memory } }).exports.product;
  } catch { /* the slow way, below */ }

  /** A matrix for `product`'s right side: panels of 8 columns. `at(k, n)` is the place of element (k, n) in `values`. */
  function panels(values, depth, columns, stepDeep, stepAcross, offset = 0) {
    const count = Math.ceil(columns / 8), data = new Float32Array(count * depth * 8);
    for (let p = 0; p < count; p += 1) {
      const wide = Math.min(8, columns - 8 * p);
      let to = p * depth * 8, from = offset + 8 * p * stepAcross;
      for (let k = 0; k < depth; k += 1, to += 8, from += stepDeep) for (let n = 0; n < wide; n += 1) data[to + n] = values[from + n * stepAcross];
    }
    return { data, depth, columns, count };
  }

  /** a [rows, depth] times b: [rows, columns], with `bias` [columns] added where there is one. */
  function product(a, rows, b, bias = null) {
    const { data, depth, columns, count } = b, out = new Float32Array(rows * columns), wide = 8 * count;
    const most = Math.max(4, (1 << 20) / Math.max(depth, wide)) & ~3;  // rows at a time: 4 MB
    for (let first = 0; first < rows; first += most) {
      const some = Math.min(most, rows - first), full = (some + 3) & ~3;
      const part = a.subarray(first * depth, (first + some) * depth);
      const found = (fast ? swift : plain)(part, full, data, depth, count), to = first * columns;
      if (columns === wide && !bias) { out.set(found.subarray(0, some * columns), to); continue; }
      for (let r = 0; r < some; r += 1) {
        const row = r * wide, put = to + r * columns;
        if (bias) for (let n = 0; n < columns; n += 1) out[put + n] = found[row + n] + bias[n];
        else for (let n = 0; n < columns; n += 1) out[put + n] = found[row + n];
      }
    }
    return out;
  }

  function swift(a, rows, b, depth, count) {
    const sizes = [rows * depth, b.length, rows * count * 8];
    const lack = 4 * (sizes[0] + sizes[1] + sizes[2]) + 64 - memory.buffer.byteLength;
    if (lack > 0) memory.grow(Math.ceil(lack / 65536));
    const all = new Float32Array(memory.buffer), atB = (sizes[0] + 3) & ~3, atC = atB + sizes[1];
    all.set(a);
    all.set(b, atB);
    fast(0, 4 * atB, 4 * atC, rows, depth, count);
    return all.subarray(atC, atC + sizes[2]);
  }

  function plain(a, rows, b, depth, count) {
    const out = new Float32Array(rows * count * 8), held = a.length / depth;
    for (let p = 0; p < count; p += 1) {
      for (let r = 0; r < held; r += 1) {
        let s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0, at = p * depth * 8;
        for (let k = r * depth, end = k + depth; k < end; k += 1, at += 8) {
          const x = a[k];
          s0 += x * b[at]; s1 += x * b[at + 1]; s2 += x * b[at + 2]; s3 += x * b[at + 3];
          s4 += x * b[at + 4]; s5 += x * b[at + 5]; s6 += x * b[at + 6]; s7 += x * b[at + 7];
        }
        out.set([s0, s1, s2, s3, s4, s5, s6, s7], r * count * 8 + p * 8);
      }
    }
    return out;
  }

  // Functions of numbers -------------------------------------------------------------------------------------------

  /** Gauss' error function, Abramowitz and Stegun 7.1.26, to 1.5e-7. */
  function erf(x) {
    const z = Math.abs(x), t = 1 / (1 + 0.3275911 * z);
    const y = 1 - ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t * Math.exp(-z * z);
    return x < 0 ? -y : y;
  }
  // Loops of their own, in place: a function that is called for each number costs as much as what it computes.
  function gelu(x) { for (let i = 0; i < x.length; i += 1) x[i] *= 0.5 * (1 + erf(x[i] * Math.SQRT1_2)); return x; }
  function relu(x) { for (let i = 0; i < x.length; i += 1) if (x[i] < 0) x[i] = 0; return x; }
  function leaky(x) { for (let i = 0; i < x.length; i += 1) if (x[i] < 0) x[i] *= 0.1; return x; }
  function sigmoid(x) { for (let i = 0; i < x.length; i += 1) x[i] = 1 / (1 + Math.exp(-x[i])); return x; }
  const tanh = (x) => 1 - 2 / (1 + Math.exp(2 * x));
  const plus = (x, y) => { for (let i = 0; i < x.length; i += 1) x[i] += y[i]; return x; };

  function softmaxRow(x, from, to) {
    let peak = -Infinity, total = 0;
    for (let i = from; i < to; i += 1) if (x[i] > peak) peak = x[i];
    for (let i = from; i < to; i += 1) total += x[i] = Math.exp(x[i] - peak);
    total = 1 / total;
    for (let i = from; i < to; i += 1) x[i] *= total;
  }

  function dot(x, atX, y, atY, length) {
    let sum = 0;
    for (let d = 0; d < length; d += 1) sum += x[atX + d] * y[atY + d];
    return sum;
  }

  /** Columns of several [rows, width_i] side by side. */
  function join(rows, ...parts) {
    const widths = parts.map((x) => x.length / (rows || 1)), width = widths.reduce((a, b) => a + b, 0);
    const out = new Float32Array(rows * width);
    let left = 0;
    parts.forEach((x, p) => {
      for (let r = 0; r < rows; r += 1) out.set(x.subarray(r * widths[p], (r + 1) * widths[p]), r * width + left);
      left += widths[p];
    });
    return out;
  }

  // Weights --------------------------------------------------------------------------------------------------------

  const halves = new Float32Array(65536);  // every number of 16 bits
  for (let bits = 0; bits < 65536; bits += 1) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, rest = bits & 1023;
    halves[bits] = sign * (exponent === 31 ? (rest ? NaN : Infinity) : exponent ? 2 ** (exponent - 15) * (1 + rest / 1024) : 2 ** -14 * (rest / 1024));
  }

  /** Tensors by name from a file of the page: all low bytes, then all high bytes, deflated, in base64. */
  async function unpack({ tensors, bytes }) {
    const raw = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
    const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
    const whole = new Response(stream).arrayBuffer().catch(() => { throw new Error("its weights are damaged"); });
    const flat = new Uint8Array(await whole), count = flat.length / 2;
    const found = {};
    let at = 0;
    for (const [name, shape] of tensors) {
      const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
      for (let i = 0; i < values.length; i += 1, at += 1) values[i] = halves[flat[at] | (flat[count + at] << 8)];
      found[name] = { values, shape };
    }
    return found;
  }

  /** What layers are made of: weights by name, each in the shape that a product wants, made once. */
  class Weights {
    constructor(tensors) { this.tensors = tensors; this.made = new Map(); }
    has(name) { return name in this.tensors; }
    get(name) { return this.tensors[name].values; }
    shape(name) { return this.tensors[name].shape; }
    /** The transpose of a weight [out, in], or of its columns `from` to `to`, as a right side. */
    right(name, from = 0, to = null) {
      const key = `${name} ${from} ${to}`;
      if (!this.made.has(key)) {
        const [rows, wide] = [this.shape(name)[0], this.get(name).length / this.shape(name)[0]];
        this.made.set(key, panels(this.get(name), (to ?? wide) - from, rows, 1, wide, from));
      }
      return this.made.get(key);
    }
    linear(x, rows, name, bias = true) {
      return product(x, rows, this.right(`${name}.weight`), bias && this.has(`${name}.bias`) ? this.get(`${name}.bias`) : null);
    }
    norm(x, rows, name) {
      const weight = this.get(`${name}.weight`), bias = this.get(`${name}.bias`), width = weight.length, out = new Float32Array(x.length);
      for (let r = 0; r < rows; r += 1) {
        let mean = 0, square = 0;
        for (let d = 0; d < width; d += 1) mean += x[r * width + d];
        mean /= width;
        for (let d = 0; d < width; d += 1) square += (x[r * width + d] - mean) ** 2;
        const scale = 1 / Math.sqrt(square / width + 1e-5);
        for (let d = 0; d < width; d += 1) out[r * width + d] = (x[r * width + d] - mean) * scale * weight[d] + bias[d];
      }
      return out;
    }
  }

  // Text to tokens: encode.py --------------------------------------------------------------------------------------

  const NUMBERS = 64;
  const SPACE = /[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;
  const lower = (text) => Array.from(text, (c) => c.toLowerCase()).join("");

  /** The ids of one word: special tokens as they are written, the rest in lower case, none for white space. */
  function pieces(word, { vocabulary, special }) {
    const found = [];
    let rest = word;
    while (rest) {
      let at = rest.length, name = "";
      for (const token of special) {
        const place = rest.indexOf(token);
        if (place >= 0 && (place < at || (place === at && token.length > name.length))) { at = place; name = token; }
      }
      for (const part of rest.slice(0, at).split(SPACE)) if (part) found.push(vocabulary.get(lower(part)) ?? vocabulary.get("[UNK]"));
      if (name) found.push(vocabulary.get(name));
      rest = rest.slice(at + name.length);
    }
    return found;
  }

  function mark({ sentences, mentions, types }, marker) {
    const spans = new Map();
    for (const m of mentions) {
      const key = `${m.sentence} ${m.start} ${m.end}`;
      if (!spans.has(key)) spans.set(key, { ...m, key, kinds: [], numbers: [] });
      spans.get(key).kinds.push(m.type ?? types[m.entity]);
      spans.get(key).numbers.push(m.entity);
    }
    const opening = new Map(), closing = new Map();
    for (const span of [...spans.values()].sort((a, b) => a.start - a.end - (b.start - b.end))) {  // longest first
      const [open, close] = [`${span.sentence} ${span.start}`, `${span.sentence} ${span.end - 1}`];
      opening.set(open, [...(opening.get(open) ?? []), span]);
      closing.set(close, [span, ...(closing.get(close) ?? [])]);
    }
    const around = (span) => {
      if (marker === "star") return ["*", "*"];
      const kind = [...span.kinds].sort()[0], number = Math.min(...span.numbers);
      return [`[${kind}]`, marker === "type" ? `[/${kind}]` : `[E${Math.min(number + 1, NUMBERS)}]`];
    };
    const words = [], sentence = [], places = [], first = new Map(), last = new Map(), bare = marker === "none";
    let count = -1;
    const put = (word, s, place) => { words.push(word); sentence.push(s); places.push(place); };
    sentences.forEach((line, s) => line.forEach((word, w) => {
      for (const span of opening.get(`${s} ${w}`) ?? []) {
        first.set(span.key, words.length);
        if (!bare) put(around(span)[0], s, -1);
      }
      put(word, s, count += 1);
      for (const span of closing.get(`${s} ${w}`) ?? []) {
        last.set(span.key, words.length - bare);
        if (!bare) put(around(span)[1], s, -1);
      }
    }));
    const keys = mentions.map((m) => `${m.sentence} ${m.start} ${m.end}`);
    return { words, sentence, places, spans: keys.map((key) => [first.get(key), last.get(key)]) };
  }

  /** Ids of a document with [CLS] and [SEP], each one's sentence and word (-1: neither), each mention's first and last. */
  function encode(document, { reading, words: table }) {
    const { words, sentence, places, spans } = mark(document, reading.marker);
    const limit = reading.max_tokens === null ? Infinity : Math.max(reading.max_tokens - 2, 1);
    const tokens = { ids: [table.vocabulary.get("[CLS]")], sentence: [-1], word: [-1] };
    const first = [], last = [];
    words.forEach((word, w) => {
      for (const id of pieces(word, table)) {
        if (tokens.ids.length > limit) return;
        first[w] ??= tokens.ids.length;
        last[w] = tokens.ids.length;
        tokens.ids.push(id);
        tokens.sentence.push(sentence[w]);
        tokens.word.push(places[w]);
      }
    });
    tokens.ids.push(table.vocabulary.get("[SEP]"));
    tokens.sentence.push(-1);
    tokens.word.push(-1);
    tokens.start = spans.map(([a, b]) => { for (let w = a; w <= b; w += 1) if (first[w] !== undefined) return first[w]; return -1; });
    tokens.end = spans.map(([a, b], m) => {
      for (let w = b; w >= (reading.read === "span" ? a : b); w -= 1) if (last[w] !== undefined) return last[w];
      return tokens.start[m];
    });
    return tokens;
  }

  /** Pieces of at most `size` tokens with their columns (-1: a [CLS] or [SEP] of its own). */
  function windows(ids, { window: size, stride }) {
    const length = ids.length, range = (a, b, step = 1) => { const r = []; for (let x = a; x < b; x += step) r.push(x); return r; };
    if (length <= size) return [[ids, range(0, length)]];
    const last = length - size + 1, starts = last <= size - 1 ? [1, last] : [...range(1, last, stride), last];
    return starts.map((begin) => {
      const inner = range(begin, begin + size - 2);
      return [[ids[0], ...inner.map((c) => ids[c]), ids[length - 1]], [begin === 1 ? 0 : -1, ...inner, begin === last ? length - 1 : -1]];
    });
  }

  // Encoder: encoder.py --------------------------------------------------------------------------------------------

  const REACH = 64;

  /** Token vectors of one window, and the last layer's queries and keys. */
  async function readWindow(ids, w, { layers, width, heads }, pause) {
    const length = ids.length, size = width / heads, table = w.get("encoder.embedding.weight"), bias = w.get("encoder.bias");
    const embedded = new Float32Array(length * width), around = new Float32Array(length * 3 * width);
    ids.forEach((id, t) => embedded.set(table.subarray(id * width, (id + 1) * width), t * width));
    for (let t = 0; t < length; t += 1) {
      for (let j = 0; j < 3; j += 1) {
        const from = t + j - 1;
        if (from >= 0 && from < length) for (let d = 0; d < width; d += 1) around[(t * width + d) * 3 + j] = embedded[from * width + d];
      }
    }
    let x = plus(gelu(product(around, length, w.right("encoder.blend.weight"), w.get("encoder.blend.bias"))), embedded), query, key;
    for (let l = 0; l < layers; l += 1) {
      await pause();
      const name = (part) => `encoder.layers.${l}.${part}`, y = w.norm(x, length, name("norm_attention"));
      query = w.linear(y, length, name("query"));
      key = w.linear(y, length, name("key"));
      const value = w.linear(y, length, name("value")), mixed = new Float32Array(length * width);
      for (let h = 0; h < heads; h += 1) {
        const own = new Float32Array(length * size);
        for (let t = 0; t < length; t += 1) own.set(query.subarray(t * width + h * size, t * width + (h + 1) * size), t * size);
        const scores = product(own, length, panels(key, size, length, 1, width, h * size));
        const line = biasLine(bias, h, length);
        for (let i = 0; i < length; i += 1) biased(scores, i * length, i, length, line, size);
        const found = product(scores, length, panels(value, length, size, width, 1, h * size));
        for (let t = 0; t < length; t += 1) mixed.set(found.subarray(t * size, (t + 1) * size), t * width + h * size);
      }
      x = plus(w.linear(mixed, length, name("out")), x);
      const fed = gelu(w.linear(w.norm(x, length, name("norm_feed")), length, name("feed.0")));
      x = plus(w.linear(fed, length, name("feed.2")), x);
    }
    return { hidden: w.norm(x, length, "encoder.norm"), query, key };
  }

  /** A head's bias by distance, for every distance of a window: token j from token i at j - i + length - 1. */
  function biasLine(bias, h, length) {
    const middle = h * (2 * REACH + 1) + REACH;
    return Float32Array.from({ length: 2 * length - 1 }, (_, k) => bias[middle + Math.max(-REACH, Math.min(REACH, k - length + 1))]);
  }

  /** A row of scores from token `i`, scaled, with the bias by distance, as weights. */
  function biased(scores, at, i, length, line, size) {
    const scale = 1 / Math.sqrt(size), shift = length - 1 - i;
    for (let j = 0; j < length; j += 1) scores[at + j] = scores[at + j] * scale + line[shift + j];
    softmaxRow(scores, at, at + length);
  }

  /** The document's token vectors [L, D], and attention rows [heads, positions, L] from these columns. */
  async function read(ids, positions, w, sizes, reading, pause) {
    const { width, heads } = sizes, length = ids.length, size = width / heads, bias = w.get("encoder.bias");
    const parts = windows(ids, reading), tokens = new Float32Array(length * width), seen = new Float32Array(length);
    const rows = new Float32Array(heads * positions.length * length), both = new Float32Array(positions.length * length);
    for (const [piece, column] of parts) {
      const { hidden, query, key } = await readWindow(piece, w, sizes, pause), here = piece.length;
      const lines = Array.from({ length: heads }, (_, h) => biasLine(bias, h, here));
      column.forEach((c, t) => {
        if (c < 0) return;
        seen[c] += 1;
        for (let d = 0; d < width; d += 1) tokens[c * width + d] += hidden[t * width + d];
      });
      positions.forEach((position, p) => {
        const t = position < 0 ? -1 : column.indexOf(position);
        if (t < 0) return;
        column.forEach((c) => { if (c >= 0) both[p * length + c] += 1; });
        for (let h = 0; h < heads; h += 1) {
          const row = new Float32Array(here);
          for (let j = 0; j < here; j += 1) row[j] = dot(query, t * width + h * size, key, j * width + h * size, size);
          biased(row, 0, t, here, lines[h], size);
          column.forEach((c, j) => { if (c >= 0) rows[(h * positions.length + p) * length + c] += row[j]; });
        }
      });
    }
    if (parts.length > 1) {
      for (let c = 0; c < length; c += 1) for (let d = 0; d < width; d += 1) tokens[c * width + d] /= Math.max(seen[c], 1);
      for (let at = 0; at < heads * positions.length; at += 1) {
        const p = at % positions.length;
        let total = 0;
        for (let c = 0; c < length; c += 1) total += rows[at * length + c] /= Math.max(both[p * length + c], 1);
        for (let c = 0; c < length; c += 1) rows[at * length + c] /= Math.max(total, 1e-10);
      }
    }
    return { tokens, rows };
  }

  // Features: ops.py -----------------------------------------------------------------------------------------------

  /** What every paper starts from: entity vectors, each entity's attention, and what two entities both look at. */
  async function features(document, model, pause) {
    const { reading, sizes } = model, { width, heads } = sizes, w = model.encoder, n = document.types.length;
    const tokens = encode(document, model), length = tokens.ids.length, mentions = document.mentions.length;
    const wanted = reading.read === "both" ? [...tokens.start, ...tokens.end] : tokens.start;
    const { tokens: vectors, rows } = await read(tokens.ids, reading.context === "off" ? [] : wanted, w, sizes, reading, pause);
    const of = document.mentions.map((m, k) => (tokens.start[k] < 0 ? -1 : m.entity)), count = new Float32Array(n);
    of.forEach((e) => { if (e >= 0) count[e] += 1; });
    const entities = poolMentions(mentionVectors(vectors, tokens, width, reading.read), of, n, width, reading.pool);
    const pairs = { n, width, length, tokens, vectors, entities, document: vectors.subarray(0, width), candidates: document.candidates ?? null, types: document.types, looks: null };
    if (reading.context === "off") return pairs;
    pairs.looks = new Float32Array(heads * n * length);  // [A, N, L]
    for (let h = 0; h < heads; h += 1) {
      of.forEach((e, m) => {
        if (e < 0) return;
        for (const [from, share] of reading.read === "both" ? [[m, 0.5], [m + mentions, 0.5]] : [[m, 1]]) {
          const at = (h * wanted.length + from) * length;
          for (let c = 0; c < length; c += 1) pairs.looks[(h * n + e) * length + c] += (share * rows[at + c]) / count[e];
        }
      });
    }
    pairs.common = commonAttention(pairs.looks, n, length, heads, reading.context);
    return pairs;
  }

  function mentionVectors(vectors, { start, end }, width, how) {
    const out = new Float32Array(start.length * width);
    start.forEach((from, m) => {
      const columns = how === "start" ? [from] : how === "both" ? [from, end[m]] : Array.from({ length: end[m] - from + 1 }, (_, k) => from + k);
      for (const c of columns) for (let d = 0; d < width; d += 1) out[m * width + d] += vectors[Math.max(c, 0) * width + d] / columns.length;
    });
    return out;
  }

  function poolMentions(mentions, of, n, width, how) {
    const out = new Float32Array(n * width), peak = new Float32Array(n * width).fill(-Infinity), count = new Float32Array(n);
    of.forEach((e, m) => {
      if (e < 0) return;
      count[e] += 1;
      for (let d = 0; d < width; d += 1) peak[e * width + d] = Math.max(peak[e * width + d], mentions[m * width + d]);
    });
    of.forEach((e, m) => {
      if (e < 0) return;
      for (let d = 0; d < width; d += 1) out[e * width + d] += how === "mean" ? mentions[m * width + d] / count[e] : Math.exp(mentions[m * width + d] - peak[e * width + d]);
    });
    if (how === "lse") for (let i = 0; i < out.length; i += 1) if (count[Math.floor(i / width)]) out[i] = Math.log(out[i]) + peak[i];
    return out;
  }

  /** The pairs {s, o} with s ≤ o, one row each: what both look at, summing to 1. ATLOP section 5. */
  function commonAttention(looks, n, length, heads, how) {
    const out = new Float32Array(((n * (n + 1)) / 2) * length);
    let at = 0;
    for (let s = 0; s < n; s += 1) {
      for (let o = s; o < n; o += 1, at += length) {
        let total = 1e-10;
        for (let h = 0; h < heads; h += 1) {
          const [a, b] = [(h * n + s) * length, (h * n + o) * length];
          for (let c = 0; c < length; c += 1) out[at + c] += looks[a + c] * looks[b + c];
        }
        if (how === "softmax") { softmaxRow(out, at, at + length); continue; }
        for (let c = 0; c < length; c += 1) total += out[at + c];
        for (let c = 0; c < length; c += 1) out[at + c] /= total;
      }
    }
    return out;
  }
  const half = (s, o, n) => (s <= o ? s * n - (s * (s - 1)) / 2 + o - s : half(o, s, n));

  /** A matrix times each pair's context, [N(N + 1)/2, out]: tokens are mapped first, pooling is linear. */
  function mappedContext(pairs, right) {
    const { n, length, common, vectors } = pairs, mapped = product(vectors, length, right), out = right.columns;
    return product(common, (n * (n + 1)) / 2, panels(mapped, length, out, out, 1));
  }

  /** [N(N + 1)/2, X] as [N · N, X]. */
  function square(halfRows, n) {
    const x = halfRows.length / ((n * (n + 1)) / 2), out = new Float32Array(n * n * x);
    for (let s = 0; s < n; s += 1) for (let o = 0; o < n; o += 1) out.set(halfRows.subarray(half(s, o, n) * x, (half(s, o, n) + 1) * x), (s * n + o) * x);
    return out;
  }

  /** The pairs that are to be classified, as s · N + o. */
  function pairsOf({ n, candidates }) {
    if (candidates) return candidates.map(([s, o]) => s * n + o).sort((a, b) => a - b);
    return Array.from({ length: n * n }, (_, c) => c).filter((c) => c % n !== Math.floor(c / n));
  }

  // Modules of several papers: layers.py ---------------------------------------------------------------------------

  /** One projection a role, then a group bilinear form. `pair` [N · N, F] or null; with `ofContext` it is the context. */
  function roleBilinear(w, name, pairs, heads, tails, entityWidth, { pair = null, ofContext = false, block }) {
    const { n } = pairs, cells = pairsOf(pairs), width = w.shape(`${name}.head.weight`)[0], b = Math.min(block || width, width);
    const projected = [["head", heads], ["tail", tails]].map(([role, entities]) => {
      const weight = `${name}.${role}.weight`, full = w.shape(weight)[1];
      const own = product(entities, n, w.right(weight, 0, entityWidth), w.get(`${name}.${role}.bias`));
      const more = ofContext ? square(mappedContext(pairs, w.right(weight, entityWidth, full)), n) : pair && product(pair, n * n, w.right(weight, entityWidth, full));
      const z = new Float32Array(cells.length * width);
      cells.forEach((c, p) => {
        const e = role === "head" ? Math.floor(c / n) : c % n;
        for (let d = 0; d < width; d += 1) z[p * width + d] = tanh(own[e * width + d] + (more ? more[c * width + d] : 0));
      });
      return z;
    });
    const relations = w.shape(`${name}.bilinear.weight`)[0], out = new Float32Array(n * n * relations), some = 128;
    for (let first = 0; first < cells.length; first += some) {
      const count = Math.min(some, cells.length - first), outer = new Float32Array(count * width * b), [one, two] = projected;
      for (let p = 0, at = 0; p < count; p += 1) {
        for (let group = (first + p) * width, last = group + width; group < last; group += b) {
          for (let i = group; i < group + b; i += 1) {
            const x = one[i];
            for (let j = group; j < group + b; j += 1, at += 1) outer[at] = x * two[j];
          }
        }
      }
      const found = w.linear(outer, count, `${name}.bilinear`);
      for (let p = 0; p < count; p += 1) out.set(found.subarray(p * relations, (p + 1) * relations), cells[first + p] * relations);
    }
    return out;
  }

  /** One vector a pair, [N · N, W]: DocRE-II (2)-(3), DRE-MIR section 2.2. */
  function pairVector(w, name, pairs, entities) {
    const { n } = pairs, roles = w.linear(entities, n, `${name}.entity`), width = roles.length / (n || 1) / 2;
    const context = square(mappedContext(pairs, w.right(`${name}.context.weight`)), n);
    for (let s = 0; s < n; s += 1) {
      for (let o = 0; o < n; o += 1) {
        const at = (s * n + o) * 2 * width;
        for (let d = 0; d < width; d += 1) {
          context[at + d] = tanh(context[at + d] + roles[s * 2 * width + d]);
          context[at + width + d] = tanh(context[at + width + d] + roles[o * 2 * width + width + d]);
        }
      }
    }
    return w.linear(relu(w.linear(context, n * n, `${name}.cell.0`)), n * n, `${name}.cell.2`);
  }

  // Maps are [side · side, channels]; `wrap` says whether a convolution goes round the border or sees zeros there.
  function conv(w, name, map, side, circular) {
    const channels = map.length / (side * side), size = Math.round(Math.sqrt(w.shape(`${name}.weight`)[2] * w.shape(`${name}.weight`)[3]));
    const halo = (size - 1) / 2, area = size * size, around = new Float32Array(side * side * channels * area);
    for (let r = 0; r < side; r += 1) {
      for (let c = 0; c < side; c += 1) {
        for (let i = -halo, tap = 0; i <= halo; i += 1) {
          for (let j = -halo; j <= halo; j += 1, tap += 1) {
            let y = r + i, x = c + j;
            if (circular) { y = ((y % side) + side) % side; x = ((x % side) + side) % side; }
            if (y < 0 || x < 0 || y >= side || x >= side) continue;
            const from = (y * side + x) * channels, to = (r * side + c) * channels * area + tap;
            for (let d = 0; d < channels; d += 1) around[to + d * area] = map[from + d];
          }
        }
      }
    }
    return w.linear(around, side * side, name);
  }

  /** Group normalisation: 8 groups of channels over all cells. */
  function groupNorm(w, name, map, cells) {
    const weight = w.get(`${name}.weight`), bias = w.get(`${name}.bias`), channels = weight.length, groups = Math.min(8, channels), size = channels / groups;
    const out = new Float32Array(map.length);
    for (let g = 0; g < groups; g += 1) {
      let sum = 0, square = 0;
      const over = (f) => { for (let c = 0; c < cells; c += 1) for (let d = g * size; d < (g + 1) * size; d += 1) f(c * channels + d, d); };
      over((i) => { sum += map[i]; });
      const mean = sum / (cells * size);
      over((i) => { square += (map[i] - mean) ** 2; });
      const scale = 1 / Math.sqrt(square / (cells * size) + 1e-5);
      over((i, d) => { out[i] = (map[i] - mean) * scale * weight[d] + bias[d]; });
    }
    return out;
  }

  // Decisions: objectives.py ---------------------------------------------------------------------------------------

  /** Margins of all relations, and those chosen: above the threshold, at most `top` of a pair, never class 0. */
  function decide(logits, pairs, { rule, top, cut }) {
    const relations = logits.length / (pairs.n * pairs.n || 1), margin = Float32Array.from(logits), chosen = new Uint8Array(logits.length);
    for (let c = 0; c < pairs.n * pairs.n; c += 1) {
      const at = c * relations, threshold = rule === "threshold" ? logits[at] : 0;
      for (let r = 0; r < relations; r += 1) margin[at + r] -= cut ? cut[r] : threshold;
    }
    for (const c of pairsOf(pairs)) {
      const order = Array.from({ length: relations - 1 }, (_, r) => r + 1).filter((r) => margin[c * relations + r] > 0);
      order.sort((a, b) => margin[c * relations + b] - margin[c * relations + a]);
      for (const r of order.slice(0, top)) chosen[c * relations + r] = 1;
    }
    return { margin, chosen };
  }

  // Papers ---------------------------------------------------------------------------------------------------------

  const papers = {
    atlop: {
      logits: (w, pairs, options) => roleBilinear(w, "classifier.bilinear", pairs, pairs.entities, pairs.entities, pairs.width, { ofContext: !!pairs.looks, block: options.block }),
    },

    docunet: {
      rule: "zero",
      logits(w, pairs, options, trace) {
        const { n } = pairs, pixels = square(mappedContext(pairs, w.right("classifier.image.weight")), n), bias = w.get("classifier.image.bias");
        for (let i = 0; i < pixels.length; i += 1) pixels[i] += bias[i % bias.length];
        trace.image = pixels;
        const found = options.matrix === "unet" ? uNet(w, "classifier.matrix", pixels, n, trace) : cellNet(w, "classifier.matrix", pixels, n);
        return roleBilinear(w, "classifier.bilinear", pairs, pairs.entities, pairs.entities, pairs.width, { pair: found, block: options.block });
      },
    },

    paee: {
      logits(w, pairs, options, trace) {
        const pair = options.matrix === "none" ? null : pairAware(w, pairs, options, trace), { n } = pairs;
        let entities = pairs.entities;
        if (options.re_encoder) entities = reEncode(w, pairs, options);
        if (!options.cross_matching) return roleBilinear(w, "classifier.bilinear", pairs, entities, entities, pairs.width, { pair, block: options.block });
        const roles = w.linear(entities, n, "classifier.roles"), each2 = roles.length / (n || 1) / 2;
        const part = (from) => Float32Array.from({ length: n * each2 }, (_, i) => roles[Math.floor(i / each2) * 2 * each2 + from + (i % each2)]);
        trace.subject = part(0);
        trace.object = part(each2);
        const [heads, tails] = [trace.subject, trace.object].map((role) => join(n, entities, role));
        return roleBilinear(w, "classifier.bilinear", pairs, heads, tails, pairs.width + each2, { pair, block: options.block });
      },
    },

    docre_ii: {
      async logits(w, pairs, options, trace, asked, pause) {
        const { n } = pairs, features = pairVector(w, "classifier.base.pairs", pairs, pairs.entities);
        let logits = w.linear(features, n * n, "classifier.base.classify");
        trace.rounds = [logits];
        trace.read = [];
        trace.attention = [];
        const rounds = asked.rounds ?? options.rounds;
        for (let k = 0; k < rounds; k += 1) {
          await pause();
          const held = readAnswers(logits, pairs, options, asked.answers?.[k]), before = trace.read[k - 1];
          trace.read.push(held);
          // A round is a function of the answers it reads: if they stay the same, so does its output.
          if (!before || asked.keep || held.some((x, i) => x !== before[i])) logits = refine(w, features, relationMatrix(w, held, n), pairs, options, trace, asked.keep);
          trace.rounds.push(logits);
        }
        trace.decided = trace.rounds.map((said) => decide(said, pairs, { rule: "threshold", top: options.top }));
        return logits;
      },
    },

    dre_mir: {
      async logits(w, pairs, options, trace, asked, pause) {
        const { n, width } = pairs, entities = new Float32Array(n * 2 * width);
        for (let e = 0; e < n; e += 1) {
          entities.set(pairs.entities.subarray(e * width, (e + 1) * width), e * 2 * width);
          entities.set(pairs.document, (e * 2 + 1) * width);
        }
        let cells = pairVector(w, "classifier.pairs", pairs, entities);
        if (asked.hidden) {
          const cover = w.get("classifier.hidden_cell");
          for (let c = 0; c < n * n; c += 1) if (asked.hidden[c]) cells.set(cover, c * cover.length);
        }
        trace.attention = [];
        for (let l = 0; l < options.inference_layers; l += 1) {
          await pause();
          cells = inferenceLayer(w, `classifier.matrix.${l}`, cells, n, trace, asked);
        }
        return w.linear(cells, n * n, "classifier.classify");
      },
    },
  };

  // DocuNet
  function twoConvs(w, name, map, side) {
    for (let k = 0; k < 2; k += 1) map = relu(groupNorm(w, `${name}.norms.${k}`, conv(w, `${name}.convs.${k}`, map, side, w.circular), side * side));
    return map;
  }

  function uNet(w, name, image, side, trace) {
    const half1 = (side + 1) >> 1, half2 = (half1 + 1) >> 1;
    const enter = twoConvs(w, `${name}.enter`, image, side);
    const down1 = twoConvs(w, `${name}.down1`, poolMap(enter, side), half1);
    const down2 = twoConvs(w, `${name}.down2`, poolMap(down1, half1), half2);
    const up1 = twoConvs(w, `${name}.up1`, join(half1 * half1, down1, growMap(down2, half2, half1)), half1);
    const up2 = twoConvs(w, `${name}.up2`, join(side * side, enter, growMap(up1, half1, side)), side);
    Object.assign(trace, { enter, down1, down2, up1, up2 });
    return w.linear(up2, side * side, `${name}.leave`);
  }

  function cellNet(w, name, image, side) {
    return w.linear(relu(w.linear(image, side * side, `${name}.net.0`)), side * side, `${name}.net.2`);
  }

  /** The largest value of each 2 × 2 block; blocks at an odd border are smaller. */
  function poolMap(map, side) {
    const channels = map.length / (side * side), small = (side + 1) >> 1, out = new Float32Array(small * small * channels).fill(-Infinity);
    for (let r = 0; r < side; r += 1) {
      for (let c = 0; c < side; c += 1) {
        const to = ((r >> 1) * small + (c >> 1)) * channels, from = (r * side + c) * channels;
        for (let d = 0; d < channels; d += 1) if (map[from + d] > out[to + d]) out[to + d] = map[from + d];
      }
    }
    return out;
  }

  /** Twice the side, bilinear, cut to `like`. */
  function growMap(map, side, like) {
    const channels = map.length / (side * side), out = new Float32Array(like * like * channels);
    const place = (x) => {
      const at = Math.max((x + 0.5) / 2 - 0.5, 0), low = Math.floor(at);
      return [low, Math.min(low + 1, side - 1), at - low];
    };
    for (let r = 0; r < like; r += 1) {
      const [top, bottom, down] = place(r);
      for (let c = 0; c < like; c += 1) {
        const [left, right, across] = place(c), to = (r * like + c) * channels;
        for (const [y, x, share] of [[top, left, (1 - down) * (1 - across)], [top, right, (1 - down) * across], [bottom, left, down * (1 - across)], [bottom, right, down * across]]) {
          if (share) for (let d = 0; d < channels; d += 1) out[to + d] += share * map[(y * side + x) * channels + d];
        }
      }
    }
    return out;
  }

  // PAEE
  const [PATCH, HALO, SENTENCES] = [3, 2, 64];

  function pairAware(w, pairs, options, trace) {
    const { n, width, kinds, together } = pairs, table = w.get("classifier.types.weight"), wide = options.type_width, known = new Float32Array(n * n * (1 + 2 * wide));
    for (let s = 0; s < n; s += 1) {
      for (let o = 0; o < n; o += 1) {
        const at = (s * n + o) * (1 + 2 * wide);
        known[at] = together[s * n + o];
        known.set(table.subarray(kinds[s] * wide, (kinds[s] + 1) * wide), at + 1);
        known.set(table.subarray(kinds[o] * wide, (kinds[o] + 1) * wide), at + 1 + wide);
      }
    }
    const image = plus(square(mappedContext(pairs, w.right("classifier.pair_map.weight", 0, width)), n),
      product(known, n * n, w.right("classifier.pair_map.weight", width, width + 1 + 2 * wide), w.get("classifier.pair_map.bias")));
    const circular = options.fill === "circular";
    w.circular = circular;
    const network = { tnet: () => tNet(w, image, n, options, circular, trace), unet: () => uNet(w, "classifier.matrix", image, n, {}), ffn: () => cellNet(w, "classifier.matrix", image, n) };
    const cells = network[options.matrix]();
    if (options.potential === "off") return cells;
    const near = localMean(product(cells, n * n, w.right("classifier.detector.weight", 0, options.map_width)), n, options.potential_window);
    trace.potential = plus(product(known, n * n, w.right("classifier.detector.weight", options.map_width, options.map_width + 1 + 2 * wide), w.get("classifier.detector.bias")), near);
    const probability = sigmoid(Float32Array.from(trace.potential));
    const threshold = Math.fround(options.potential_threshold);  // compared in 32 bits, as the probabilities are
    trace.tag = Float32Array.from(probability, (p) => (p > threshold ? 1 : 0));
    return join(n * n, cells, options.potential === "soft" ? probability : trace.tag);
  }

  function localMean(map, side, size) {
    const reach = (size - 1) / 2;
    return map.map((_, at) => {
      let sum = 0, count = 0;
      const [r, c] = [Math.floor(at / side), at % side];
      for (let y = Math.max(r - reach, 0); y <= Math.min(r + reach, side - 1); y += 1) for (let x = Math.max(c - reach, 0); x <= Math.min(c + reach, side - 1); x += 1) { sum += map[y * side + x]; count += 1; }
      return sum / count;
    });
  }

  /** Three residual blocks; the same at every scale. */
  function extract(w, map, side, circular) {
    for (let k = 0; k < 3; k += 1) {
      const name = (part) => `classifier.matrix.extractor.${part}.${k}`;
      map = plus(leaky(groupNorm(w, name("norms"), conv(w, name("convs"), map, side, circular), side * side)), map);
    }
    return map;
  }

  /** Cells −before … length−before−1 of a map; beyond its side it repeats, or is zero. */
  function wrapMap(map, side, before, length, circular) {
    const channels = map.length / (side * side), out = new Float32Array(length * length * channels);
    for (let r = 0; r < length; r += 1) {
      for (let c = 0; c < length; c += 1) {
        let [y, x] = [r - before, c - before];
        if (circular) { y = ((y % side) + side) % side; x = ((x % side) + side) % side; }
        if (y >= 0 && x >= 0 && y < side && x < side) out.set(map.subarray((y * side + x) * channels, (y * side + x + 1) * channels), (r * length + c) * channels);
      }
    }
    return out;
  }

  function tNet(w, image, n, options, circular, trace) {
    const channels = image.length / (n * n), m = Math.ceil(n / PATCH), small = new Float32Array(m * m * channels), count = new Float32Array(m * m);
    const wide = wrapMap(image, n, 0, m * PATCH, circular);
    for (let r = 0; r < m * PATCH; r += 1) {
      for (let c = 0; c < m * PATCH; c += 1) {
        const patch = Math.floor(r / PATCH) * m + Math.floor(c / PATCH);
        count[patch] += circular || (r < n && c < n) ? 1 : 0;
        for (let d = 0; d < channels; d += 1) small[patch * channels + d] += wide[(r * m * PATCH + c) * channels + d];
      }
    }
    for (let i = 0; i < small.length; i += 1) small[i] /= count[Math.floor(i / channels)];
    const coarse = extract(w, small, m, circular), looked = choosePatches(w, coarse, m, channels, options.budget, trace);
    const edge = m * PATCH + 2 * HALO, halo = wrapMap(image, n, HALO, edge, circular), side = PATCH + 2 * HALO, close = new Float32Array(n * n * channels);
    for (let patch = 0; patch < m * m; patch += 1) {
      if (!looked[patch]) continue;
      const [top, left] = [Math.floor(patch / m) * PATCH, (patch % m) * PATCH], crop = new Float32Array(side * side * channels);
      for (let r = 0; r < side; r += 1) crop.set(halo.subarray(((top + r) * edge + left) * channels, ((top + r) * edge + left + side) * channels), r * side * channels);
      const seen = extract(w, crop, side, false);
      for (let r = 0; r < PATCH; r += 1) {
        for (let c = 0; c < PATCH; c += 1) {
          if (top + r >= n || left + c >= n) continue;
          const from = ((HALO + r) * side + HALO + c) * channels;
          close.set(seen.subarray(from, from + channels), ((top + r) * n + left + c) * channels);
        }
      }
    }
    const spread = (map, width) => {
      const out = new Float32Array(n * n * width);
      for (let r = 0; r < n; r += 1) for (let c = 0; c < n; c += 1) for (let d = 0; d < width; d += 1) out[(r * n + c) * width + d] = map[(Math.floor(r / PATCH) * m + Math.floor(c / PATCH)) * width + d];
      return out;
    };
    const code = (x) => [...[0, 1, 2, 3].map((k) => Math.sin(x / 4 ** k)), ...[0, 1, 2, 3].map((k) => Math.cos(x / 4 ** k))];
    const places = Float32Array.from({ length: n * n }, (_, c) => c), codes = new Float32Array(n * n * 16);
    places.forEach((c) => codes.set([...code(Math.floor(c / n)), ...code(c % n)], c * 16));
    return w.linear(join(n * n, spread(coarse, channels), close, image, codes, spread(looked, 1)), n * n, "classifier.matrix.leave");
  }

  /** How many patches a budget pays for: every step in 32 bits, as the module counts. */
  function allowed(budget, patches) {
    const { fround } = Math;
    return Math.ceil(fround(fround(fround(budget) * patches) - fround(1e-4)));
  }

  /** The best share of the patches, by the location module's score. */
  function choosePatches(w, coarse, m, channels, budget, trace) {
    const rows = new Float32Array(m * m * (2 * channels + 2)), whole = new Float32Array(channels);
    for (let i = 0; i < coarse.length; i += 1) whole[i % channels] += coarse[i] / (m * m);
    for (let p = 0; p < m * m; p += 1) {
      const at = p * (2 * channels + 2);
      rows.set(coarse.subarray(p * channels, (p + 1) * channels), at);
      rows.set(whole, at + channels);
      rows[at + 2 * channels] = Math.floor(p / m) / m;
      rows[at + 2 * channels + 1] = (p % m) / m;
    }
    const scores = w.linear(leaky(w.linear(rows, m * m, "classifier.matrix.locate.0")), m * m, "classifier.matrix.locate.2");
    const length = Math.sqrt(Math.max(dot(scores, 0, scores, 0, scores.length), 1e-12));
    const weight = scores.map((s) => s / length), looked = new Float32Array(m * m);
    const order = [...weight.keys()].sort((a, b) => weight[b] - weight[a] || a - b);
    order.slice(0, allowed(budget, m * m)).forEach((p) => { looked[p] = 1; });
    softmaxRow(weight, 0, weight.length);
    trace.patch_weight = weight;
    trace.patch_looked = looked;
    return looked;
  }

  /** Entities and sentences attend to each other; the entities come back. PAEE (6). */
  function reEncode(w, pairs, options) {
    const { n, width, tokens, vectors } = pairs, sentences = Math.max(-1, ...tokens.sentence) + 1, place = w.get("classifier.re_encoder.place.weight");
    const largest = new Float32Array(sentences * width).fill(-Infinity);
    tokens.sentence.forEach((s, t) => { if (s >= 0) for (let d = 0; d < width; d += 1) largest[s * width + d] = Math.max(largest[s * width + d], vectors[t * width + d]); });
    const present = Array.from({ length: sentences }, (_, s) => s).filter((s) => largest[s * width] > -Infinity), rows = n + present.length;
    let line = new Float32Array(rows * width);
    line.set(pairs.entities);
    present.forEach((s, k) => { for (let d = 0; d < width; d += 1) line[(n + k) * width + d] = largest[s * width + d] + place[Math.min(s, SENTENCES - 1) * width + d]; });
    for (let l = 0; l < options.re_layers; l += 1) {
      const name = (part) => `classifier.re_encoder.transformer.layers.${l}.${part}`;
      line = w.norm(plus(selfAttention(w, name("self_attn"), line, rows, width, options.re_heads), line), rows, name("norm1"));
      line = w.norm(plus(w.linear(relu(w.linear(line, rows, name("linear1"))), rows, name("linear2")), line), rows, name("norm2"));
    }
    return line.slice(0, n * width);
  }

  function selfAttention(w, name, line, rows, width, heads) {
    const all = product(line, rows, w.right(`${name}.in_proj_weight`), w.get(`${name}.in_proj_bias`)), size = width / heads, mixed = new Float32Array(rows * width), scores = new Float32Array(rows);
    for (let h = 0; h < heads; h += 1) {
      for (let i = 0; i < rows; i += 1) {
        for (let j = 0; j < rows; j += 1) scores[j] = dot(all, i * 3 * width + h * size, all, j * 3 * width + width + h * size, size) / Math.sqrt(size);
        softmaxRow(scores, 0, rows);
        for (let j = 0; j < rows; j += 1) for (let d = 0; d < size; d += 1) mixed[i * width + h * size + d] += scores[j] * all[j * 3 * width + 2 * width + h * size + d];
      }
    }
    return w.linear(mixed, rows, `${name}.out_proj`);
  }

  // DocRE-II
  /** What is read again: what the last round chose, but for pairs whose answer was set by hand as [[s, o, relations]]. */
  function readAnswers(logits, pairs, options, byHand = []) {
    const { n } = pairs, relations = logits.length / (n * n || 1), { chosen } = decide(logits, pairs, { rule: "threshold", top: options.top });
    if (options.feedback === "best") {
      chosen.fill(0);
      for (const c of pairsOf(pairs)) {
        let best = 0;
        for (let r = 1; r < relations; r += 1) if (logits[c * relations + r] > logits[c * relations + best]) best = r;
        if (best) chosen[c * relations + best] = 1;
      }
    }
    for (const [s, o, held] of byHand ?? []) {
      chosen.fill(0, (s * n + o) * relations, (s * n + o + 1) * relations);
      for (const r of held) chosen[(s * n + o) * relations + r] = 1;
    }
    return chosen;
  }

  function relationMatrix(w, chosen, n) {
    const table = w.get("classifier.labels.weight"), [relations, width] = w.shape("classifier.labels.weight"), out = new Float32Array(n * n * width);
    for (let c = 0; c < n * n; c += 1) {
      let none = true;
      for (let r = 1; r <= relations; r += 1) {
        const use = r < relations ? chosen[c * relations + r] : none;
        if (!use) continue;
        none = false;
        for (let d = 0; d < width; d += 1) out[c * width + d] += table[(r % relations) * width + d];
      }
    }
    return out;
  }

  function refine(w, features, relations, pairs, options, trace, keep) {
    const { n } = pairs, cells = n * n, kept = [];
    for (let l = 0; l < options.inference_layers; l += 1) {
      const name = (part) => `classifier.matrix.${l}.${part}`, memory = join(cells, features, relations);
      const looks = [features, relations].map((x, k) => crossAttention(w, name(`attend.${k}`), x, memory, n, options.self_bonus, keep));
      kept.push(looks.map((look) => look.weights));
      let found = looks.map((look) => look.found);
      if (options.fusion) {
        const gate = sigmoid(w.linear(join(cells, ...found), cells, name("gate")));
        const mixed = found[1].map((x, i) => x + gate[i] * (found[0][i] - x));
        found = [mixed, mixed];
      }
      [features, relations] = [features, relations].map((x, k) =>
        w.norm(plus(w.linear(relu(w.linear(found[k], cells, name(`feed.${k}.0`))), cells, name(`feed.${k}.2`)), x), cells, name(`norm.${k}`)));
    }
    if (keep) trace.attention.push(kept);  // [round][layer][F, R] of [lines, N, N, N + 1]
    return w.linear(w.linear(join(cells, features, relations), cells, "classifier.meet"), cells, "classifier.classify");
  }

  // The cells that the queries of a line look at: of row s, (s, k) and (k, s); of column o, (k, o) and (o, k).
  const LINES = [(s, k, n) => s * n + k, (o, k, n) => k * n + o, (s, k, n) => k * n + s, (o, k, n) => o * n + k];

  /** A head's share of some cells, [n, size]. */
  function gather(x, cell, n, width, from, size) {
    const out = new Float32Array(n * size);
    for (let k = 0; k < n; k += 1) {
      const at = cell(k) * width + from;
      for (let d = 0; d < size; d += 1) out[k * size + d] = x[at + d];
    }
    return out;
  }

  /** Each cell (s, o) looks at (s, k), (k, o), (k, s) and (o, k), one head each, and at itself. DocRE-II (5)-(7). */
  function crossAttention(w, name, queries, memory, n, bonus, keep) {
    const cells = n * n, query = w.linear(queries, cells, `${name}.query`), key = w.linear(memory, cells, `${name}.key`), value = w.linear(memory, cells, `${name}.value`);
    const width = query.length / (cells || 1), size = width / 4, scale = 1 / Math.sqrt(size), mixed = new Float32Array(query.length), weights = keep ? new Float32Array(4 * cells * (n + 1)) : null;
    const itself = new Float32Array(n), row = new Float32Array(n + 1);
    for (let h = 0; h < 4; h += 1) {
      const from = h * size, place = (line, k) => LINES[h](line, k, n);
      for (let line = 0; line < n; line += 1) {
        const own = (k) => (h % 2 ? k * n + line : line * n + k);  // the queries of this line: row s, or column o
        const q = gather(query, own, n, width, from, size), k = gather(key, (x) => place(line, x), n, width, from, size), v = gather(value, (x) => place(line, x), n, width, from, size);
        const scores = product(q, n, panels(k, size, n, 1, size));
        for (let i = 0; i < n; i += 1) {
          const cell = own(i);
          for (let x = 0; x < n; x += 1) {
            const c = place(line, x);
            row[x] = c === cell || c % n === Math.floor(c / n) ? -Infinity : scale * scores[i * n + x];
          }
          row[n] = scale * dot(query, cell * width + from, key, cell * width + from, size) + bonus;
          softmaxRow(row, 0, n + 1);
          itself[i] = row[n];
          scores.set(row.subarray(0, n), i * n);
          if (weights) weights.set(row, (h * cells + cell) * (n + 1));
        }
        const found = product(scores, n, panels(v, n, size, size, 1));
        for (let i = 0; i < n; i += 1) {
          const at = own(i) * width + from;
          for (let d = 0; d < size; d += 1) mixed[at + d] = found[i * size + d] + itself[i] * value[at + d];
        }
      }
    }
    return { found: w.linear(mixed, cells, `${name}.out`), weights };
  }

  // DRE-MIR
  /** Attention over paths A – x – B, one head a mode, then what each cell makes of it. DRE-MIR (5)-(8). */
  function inferenceLayer(w, name, cells, n, trace, asked) {
    const count = n * n, query = w.linear(cells, count, `${name}.query`), key = w.linear(cells, count, `${name}.key`), value = w.linear(cells, count, `${name}.value`);
    const width = query.length / (count || 1), size = width / 4, mixed = new Float32Array(query.length), weights = asked.keep ? new Float32Array(4 * count * (n + 1)) : null;
    const legs = w.get(`${name}.legs`), biases = w.get(`${name}.biases`), row = new Float32Array(n + 1), scale = 1 / Math.sqrt(size);
    for (let h = 0; h < 4; h += 1) {
      const of = (x) => { const out = new Float32Array(count * size); for (let c = 0; c < count; c += 1) out.set(x.subarray(c * width + h * size, c * width + (h + 1) * size), c * size); return out; };
      const [q, k, v] = [query, key, value].map(of), fromA = h === 2 || h === 3, fromB = h === 0 || h === 3;
      const leg = (x, i) => product(x, count, panels(legs, size, size, size, 1, (h * 4 + i) * size * size));
      const [key1, key2, value1, value2] = [[k, 0], [k, 1], [v, 2], [v, 3]].map(([x, i]) => leg(x, i));
      const at1 = (a, x) => (fromA ? x * n + a : a * n + x), at2 = (b, x) => (fromB ? x * n + b : b * n + x);
      const scores = new Float32Array(count * n);
      // the legs of A: all pairs (A, b) at once; those of B: all pairs (a, B)
      const sides = [[(a, b) => a * n + b, at1, key1, value1], [(b, a) => a * n + b, at2, key2, value2]];
      for (const [cell, at, keys] of sides) {
        for (let e = 0; e < n; e += 1) {
          const rows = gather(q, (x) => cell(e, x), n, size, 0, size), of = gather(keys, (x) => at(e, x), n, size, 0, size);
          const some = product(rows, n, panels(of, size, n, 1, size));
          for (let i = 0; i < n; i += 1) for (let x = 0, to = cell(e, i) * n; x < n; x += 1) scores[to + x] += some[i * n + x];
        }
      }
      for (let c = 0; c < count; c += 1) {
        const [a, b] = [Math.floor(c / n), c % n], own = c * size, shift = dot(q, own, biases, h * 2 * size, size), to = c * width + h * size;
        for (let x = 0; x < n; x += 1) row[x] = x === a || x === b ? -Infinity : scale * (scores[c * n + x] + shift);
        row[n] = scale * dot(q, own, k, own, size);
        softmaxRow(row, 0, n + 1);
        if (weights) weights.set(row, (h * count + c) * (n + 1));
        scores.set(row.subarray(0, n), c * n);
        if (asked.without !== h) for (let d = 0; d < size; d += 1) mixed[to + d] = (1 - row[n]) * biases[(h * 2 + 1) * size + d] + row[n] * v[own + d];
      }
      if (asked.without === h) continue;
      for (const [cell, at, , values] of sides) {
        for (let e = 0; e < n; e += 1) {
          const shares = gather(scores, (x) => cell(e, x), n, n, 0, n), of = gather(values, (x) => at(e, x), n, size, 0, size);
          const some = product(shares, n, panels(of, n, size, size, 1));
          for (let i = 0; i < n; i += 1) for (let d = 0, to = cell(e, i) * width + h * size; d < size; d += 1) mixed[to + d] += some[i * size + d];
        }
      }
    }
    if (weights) trace.attention.push(weights);  // a layer: [modes, N, N, N + 1]
    cells = w.norm(plus(w.linear(mixed, count, `${name}.out`), cells), count, `${name}.norm`);
    const fed = w.linear(gelu(w.linear(cells, count, `${name}.feed.0`)), count, `${name}.feed.2`);
    return w.norm(plus(fed, cells), count, `${name}.feed_norm`);
  }

  // A whole model: model.py, predict.py ----------------------------------------------------------------------------

  const EVIDENCE = 0.2;

  /** A model from two files of the page: that of its encoder, and its own. What the page cannot run, export.py refuses. */
  async function load(encoderFile, paperFile) {
    const { spec } = paperFile, paper = papers[spec.paper];
    if (!paper) throw new Error(`the page has no paper ${spec.paper}`);
    encoderFile.tensors_ ??= await unpack(encoderFile);
    return {
      paper, options: spec.options, reading: spec.reading, relations: spec.relations, types: spec.types, sizes: encoderFile.sizes,
      words: { vocabulary: new Map(encoderFile.words.map((word, id) => [word, id])), special: encoderFile.special },
      encoder: new Weights(encoderFile.tensors_), weights: new Weights(await unpack(paperFile)),
    };
  }

  /** The features of a document; the last one's are kept: it is asked about again and again, with other cells hidden. */
  async function known(document, model, pause) {
    const key = JSON.stringify(document);
    if (model.last?.key === key) return model.last.pairs;
    const pairs = await features(document, model, pause);
    model.last = { key, pairs };
    return pairs;
  }

  /** A model's answer to a document, as `Prediction`, with its triples. `asked`: { options, hidden, without, rounds,
   * answers, keep }; `options` take the place of the model's own for this answer. */
  async function predict(model, document, asked = {}, pause = async () => {}) {
    const pairs = await known(document, model, pause), { n, tokens } = pairs, trace = {}, options = { ...model.options, ...asked.options };
    const kinds = document.types.map((type) => { const k = model.types.indexOf(type); return k < 0 ? model.types.length + 1 : k + 1; });
    const stands = document.types.map((_, e) => new Set(document.mentions.filter((m) => m.entity === e).map((m) => m.sentence)));
    const together = Uint8Array.from({ length: n * n }, (_, c) => [...stands[Math.floor(c / n)]].some((s) => stands[c % n].has(s)));
    Object.assign(pairs, { kinds, together });
    await pause();
    model.weights.circular = false;
    const logits = n ? await model.paper.logits(model.weights, pairs, options, trace, asked, pause) : new Float32Array(0);
    const rule = { rule: model.paper.rule ?? "threshold", top: options.top };
    for (let c = 0; c < n * n; c += 1) if (c % n === Math.floor(c / n)) logits.fill(0, c * model.relations.length, (c + 1) * model.relations.length);
    const { margin, chosen } = decide(logits, pairs, rule);
    return { pairs, trace, logits, margin, chosen, tokens, triples: triples(model, pairs, margin, chosen, document.sentences.length) };
  }

  function triples({ relations }, pairs, margin, chosen, sentences) {
    const { n } = pairs, found = [];
    for (const c of pairsOf(pairs)) {
      for (let r = 1; r < relations.length; r += 1) {
        if (!chosen[c * relations.length + r]) continue;
        const [head, tail] = [Math.floor(c / n), c % n];
        found.push({ head, relation: relations[r], tail, score: margin[c * relations.length + r], evidence: evidenceOf(pairs, head, tail, sentences) });
      }
    }
    return found;
  }

  /** The sentences that hold at least a fifth of what both look at, the strongest first. */
  function evidenceOf({ n, common, length, tokens }, head, tail, sentences) {
    if (!common) return [];
    const shares = new Float32Array(sentences), at = half(head, tail, n) * length;
    tokens.sentence.forEach((s, t) => { if (s >= 0) shares[s] += common[at + t]; });
    const total = Math.max(shares.reduce((a, b) => a + b, 0), 1e-10);
    return [...shares.keys()].filter((s) => shares[s] / total >= EVIDENCE).sort((a, b) => shares[b] - shares[a] || a - b);
  }

  return { load, predict, decide, slowly: (yes) => { if (yes) fast = null; return !!fast; } };
}
