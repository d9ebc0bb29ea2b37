// URLs, by the URL standard. Parsing is the host's.
(host) => {
  const decode = (text) => {
    const bytes = [];
    for (const byte of host.encodeUtf8(text.replaceAll("+", " ").toWellFormed())) bytes.push(byte);
    const out = [];
    for (let i = 0; i < bytes.length; i++) {
      const hex = String.fromCharCode(bytes[i + 1] ?? 0, bytes[i + 2] ?? 0);
      if (bytes[i] === 0x25 && /^[0-9a-fA-F]{2}$/.test(hex)) {
        out.push(parseInt(hex, 16));
        i += 2;
      } else {
        out.push(bytes[i]);
      }
    }
    return host.decodeUtf8(new Uint8Array(out).toBase64(), false);
  };
  const encode = (text) =>
    encodeURIComponent(text.toWellFormed())
      .replaceAll("%20", "+")
      .replace(/[!'()~]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);

  class URLSearchParams {
    #pairs = [];
    #changed = undefined;
    constructor(init = "") {
      if (typeof init === "object" && init !== null) {
        const entries = Symbol.iterator in init ? init : Object.entries(init);
        for (const pair of entries) {
          const [name, value, ...more] = pair;
          if (value === undefined || more.length > 0) throw new TypeError("each pair needs a name and a value");
          this.#pairs.push([String(name), String(value)]);
        }
      } else {
        this.#parse(String(init));
      }
    }
    #parse(text) {
      this.#pairs = text
        .replace(/^\?/, "")
        .split("&")
        .filter((part) => part !== "")
        .map((part) => {
          const at = part.indexOf("=");
          return at < 0 ? [decode(part), ""] : [decode(part.slice(0, at)), decode(part.slice(at + 1))];
        });
    }
    static attach(params, changed) {
      params.#changed = changed;
    }
    static reset(params, text) {
      params.#parse(text);
    }
    get size() {
      return this.#pairs.length;
    }
    append(name, value) {
      this.#pairs.push([String(name), String(value)]);
      this.#changed?.();
    }
    delete(name, value) {
      this.#pairs = this.#pairs.filter(([n, v]) => n !== String(name) || (value !== undefined && v !== String(value)));
      this.#changed?.();
    }
    get(name) {
      return this.#pairs.find(([each]) => each === String(name))?.[1] ?? null;
    }
    getAll(name) {
      return this.#pairs.filter(([each]) => each === String(name)).map(([, value]) => value);
    }
    has(name, value) {
      return this.#pairs.some(([n, v]) => n === String(name) && (value === undefined || v === String(value)));
    }
    set(name, value) {
      const first = this.#pairs.findIndex(([each]) => each === String(name));
      if (first < 0) return this.append(name, value);
      this.#pairs = this.#pairs.filter(([each], i) => each !== String(name) || i === first);
      this.#pairs[first][1] = String(value);
      this.#changed?.();
    }
    sort() {
      this.#pairs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
      this.#changed?.();
    }
    forEach(callback, self) {
      for (const [name, value] of this.#pairs) callback.call(self, value, name, this);
    }
    *keys() {
      for (const [name] of this.#pairs) yield name;
    }
    *values() {
      for (const [, value] of this.#pairs) yield value;
    }
    *entries() {
      for (const [name, value] of this.#pairs) yield [name, value];
    }
    [Symbol.iterator]() {
      return this.entries();
    }
    toString() {
      return this.#pairs.map(([name, value]) => `${encode(name)}=${encode(value)}`).join("&");
    }
  }
  const { attach, reset } = URLSearchParams;
  delete URLSearchParams.attach;
  delete URLSearchParams.reset;

  class URL {
    #parts;
    #params;
    constructor(url, base) {
      this.#parts = host.parseUrl(String(url), base === undefined ? undefined : String(base));
    }
    static canParse(url, base) {
      return URL.parse(url, base) !== null;
    }
    static parse(url, base) {
      try {
        return new URL(url, base);
      } catch {
        return null;
      }
    }
    static part(url, name) {
      return url.#parts[name];
    }
    static setPart(url, name, value) {
      url.#parts =
        name === "href" ? host.parseUrl(String(value)) : host.setUrl(url.#parts.href, name, String(value));
      if (url.#params && (name === "search" || name === "href")) reset(url.#params, url.#parts.search);
    }
    get origin() {
      return this.#parts.origin;
    }
    get searchParams() {
      if (this.#params === undefined) {
        const params = new URLSearchParams(this.#parts.search);
        attach(params, () => {
          this.#parts = host.setUrl(this.#parts.href, "search", params.toString());
        });
        this.#params = params;
      }
      return this.#params;
    }
    toString() {
      return this.#parts.href;
    }
    toJSON() {
      return this.#parts.href;
    }
  }
  const { part, setPart } = URL;
  delete URL.part;
  delete URL.setPart;
  for (const name of ["href", "protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"]) {
    Object.defineProperty(URL.prototype, name, {
      configurable: true,
      enumerable: true,
      get() {
        return part(this, name);
      },
      set(value) {
        setPart(this, name, value);
      },
    });
  }

  return { URL, URLSearchParams };
}
