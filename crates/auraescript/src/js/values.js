// structuredClone and crypto.
(host) => {
  const refuse = (value) => {
    throw new DOMException(`${typeof value === "symbol" ? "a symbol" : String(value)} could not be cloned.`, "DataCloneError");
  };

  function clone(value, seen) {
    if (typeof value === "function" || typeof value === "symbol") refuse(value);
    if (typeof value !== "object" || value === null) return value;
    if (seen.has(value)) return seen.get(value);
    const keep = (copy) => {
      seen.set(value, copy);
      return copy;
    };
    if (value instanceof Date) return keep(new Date(value.getTime()));
    if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
    if (value instanceof Boolean || value instanceof Number || value instanceof String) {
      return keep(Object(value.valueOf()));
    }
    if (value instanceof ArrayBuffer) return keep(value.slice(0));
    if (ArrayBuffer.isView(value)) {
      const buffer = clone(value.buffer, seen);
      const length = value instanceof DataView ? value.byteLength : value.length;
      return keep(new value.constructor(buffer, value.byteOffset, length));
    }
    if (value instanceof Map) {
      const copy = keep(new Map());
      for (const [name, each] of value) copy.set(clone(name, seen), clone(each, seen));
      return copy;
    }
    if (value instanceof Set) {
      const copy = keep(new Set());
      for (const each of value) copy.add(clone(each, seen));
      return copy;
    }
    if (value instanceof Error) {
      const copy = keep(Object.create(Object.getPrototypeOf(value)));
      for (const name of ["name", "message", "stack", "cause"]) {
        if (Object.hasOwn(value, name)) {
          Object.defineProperty(copy, name, { value: clone(value[name], seen), writable: true, configurable: true });
        }
      }
      return copy;
    }
    if (value instanceof Promise || value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef) {
      refuse(value);
    }
    const copy = keep(Array.isArray(value) ? new Array(value.length) : {});
    for (const name of Object.keys(value)) copy[name] = clone(value[name], seen);
    return copy;
  }

  const crypto = {
    getRandomValues(array) {
      if (!ArrayBuffer.isView(array) || array instanceof DataView || /^Float/.test(array.constructor.name)) {
        throw new TypeError("getRandomValues needs an array of integers");
      }
      new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(host.random(array.byteLength));
      return array;
    },
    randomUUID() {
      const bytes = host.random(16);
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      return bytes.toHex().replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
    },
  };

  return {
    structuredClone: (value) => clone(value, new Map()),
    crypto,
  };
}
