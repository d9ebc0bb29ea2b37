// Headers, by the Fetch standard.
(host) => {
  const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
  const check = (name) => {
    if (!NAME.test(name)) throw new TypeError(`"${name}" is no name of a header`);
    return String(name).toLowerCase();
  };
  const clean = (value) => String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");

  class Headers {
    #values = new Map();
    constructor(init) {
      if (init === undefined || init === null) return;
      const entries = Symbol.iterator in init ? init : Object.entries(init);
      for (const [name, value] of entries) this.append(name, value);
    }
    append(name, value) {
      const key = check(name);
      const values = this.#values.get(key);
      if (values) values.push(clean(value));
      else this.#values.set(key, [clean(value)]);
    }
    set(name, value) {
      this.#values.set(check(name), [clean(value)]);
    }
    get(name) {
      return this.#values.get(check(name))?.join(", ") ?? null;
    }
    getSetCookie() {
      return [...(this.#values.get("set-cookie") ?? [])];
    }
    has(name) {
      return this.#values.has(check(name));
    }
    delete(name) {
      this.#values.delete(check(name));
    }
    forEach(callback, self) {
      for (const [name, value] of this) callback.call(self, value, name, this);
    }
    *entries() {
      for (const name of [...this.#values.keys()].sort()) {
        if (name === "set-cookie") for (const value of this.#values.get(name)) yield [name, value];
        else yield [name, this.#values.get(name).join(", ")];
      }
    }
    *keys() {
      for (const [name] of this.entries()) yield name;
    }
    *values() {
      for (const [, value] of this.entries()) yield value;
    }
    [Symbol.iterator]() {
      return this.entries();
    }
  }
  return { Headers };
}
