// Values for people: what console prints, and how errors are shown.
(host) => {
  const MAX_DEPTH = 4;
  const MAX_ITEMS = 100;
  const WIDTH = 76;
  const IDENTIFIER = /^[A-Za-z_$][\w$]*$/;

  const key = (name) =>
    typeof name === "symbol"
      ? `[${String(name)}]`
      : IDENTIFIER.test(name)
        ? name
        : JSON.stringify(name);

  function inspect(value, depth = 0, seen = []) {
    switch (typeof value) {
      case "string":
        return JSON.stringify(value);
      case "bigint":
        return `${value}n`;
      case "symbol":
        return String(value);
      case "function":
        return inspectFunction(value);
      case "object":
        return value === null ? "null" : inspectObject(value, depth, seen);
      default:
        return Object.is(value, -0) ? "-0" : String(value);
    }
  }

  function inspectFunction(value) {
    const kind = /^class\b/.test(Function.prototype.toString.call(value)) ? "class" : "Function";
    return `[${kind}${value.name ? `: ${value.name}` : " (anonymous)"}]`;
  }

  function className(value) {
    const prototype = Object.getPrototypeOf(value);
    if (prototype === null) return "[Object: null prototype]";
    const name = prototype.constructor?.name ?? "";
    return name === "Object" || name === "Array" ? "" : name;
  }

  function inspectObject(value, depth, seen) {
    if (seen.includes(value)) return "[Circular]";
    const within = [...seen, value];
    const inner = (each) => inspect(each, depth + 1, within);

    if (value instanceof Error) return inspectError(value, depth, within);
    if (value instanceof Date) return isNaN(value) ? "Invalid Date" : value.toISOString();
    if (value instanceof RegExp) return String(value);
    if (value instanceof Promise) return "Promise {}";
    if (value instanceof Number || value instanceof String || value instanceof Boolean) {
      return `[${className(value)}: ${inner(value.valueOf())}]`;
    }
    if (typeof value.href === "string" && className(value) === "URL") {
      return `URL { href: ${inner(value.href)} }`;
    }

    const name = className(value);
    if (depth > MAX_DEPTH) return Array.isArray(value) ? "[Array]" : `[${name || "Object"}]`;

    if (Array.isArray(value)) {
      return wrap(name, "[", limited(value.length, (i) => (i in value ? inner(value[i]) : "<empty>")), "]", depth);
    }
    if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
      return wrap(`${name}(${value.length})`, "[", limited(value.length, (i) => inner(value[i])), "]", depth);
    }
    if (value instanceof ArrayBuffer) return `ArrayBuffer { byteLength: ${value.byteLength} }`;
    if (value instanceof Map) {
      const entries = [...value];
      return wrap(`${name}(${value.size})`, "{", limited(entries.length, (i) => `${inner(entries[i][0])} => ${inner(entries[i][1])}`), "}", depth);
    }
    if (value instanceof Set) {
      const entries = [...value];
      return wrap(`${name}(${value.size})`, "{", limited(entries.length, (i) => inner(entries[i])), "}", depth);
    }
    if (name === "Headers" || name === "URLSearchParams") {
      const entries = [...value];
      return wrap(name, "{", limited(entries.length, (i) => `${key(entries[i][0])}: ${inner(entries[i][1])}`), "}", depth);
    }
    return wrap(name, "{", properties(value, inner), "}", depth);
  }

  function properties(value, inner) {
    const names = Reflect.ownKeys(value).filter((name) => Object.prototype.propertyIsEnumerable.call(value, name));
    return limited(names.length, (i) => {
      const { get, set } = Object.getOwnPropertyDescriptor(value, names[i]);
      const accessor = get && set ? "[Getter/Setter]" : get ? "[Getter]" : set ? "[Setter]" : undefined;
      return `${key(names[i])}: ${accessor ?? inner(value[names[i]])}`;
    });
  }

  function limited(count, item) {
    const items = [];
    for (let i = 0; i < Math.min(count, MAX_ITEMS); i++) items.push(item(i));
    if (count > MAX_ITEMS) items.push(`… and ${count - MAX_ITEMS} more`);
    return items;
  }

  function wrap(name, open, items, close, depth) {
    const head = name ? `${name} ${open}` : open;
    if (items.length === 0) return head + close;
    const line = items.join(", ");
    if (line.length + head.length + depth * 2 <= WIDTH && !line.includes("\n")) {
      return open === "[" ? `${head}${line}${close}` : `${head} ${line} ${close}`;
    }
    const indent = "  ".repeat(depth + 1);
    return `${head}\n${indent}${items.join(`,\n${indent}`)}\n${"  ".repeat(depth)}${close}`;
  }

  function inspectError(error, depth, seen) {
    let text = headline(error);
    const stack = typeof error.stack === "string" ? host.mapStack(error.stack).trimEnd() : "";
    if (stack) text += `\n${stack}`;
    if (Array.isArray(error.errors)) {
      for (const each of error.errors) text += `\n  - ${inspect(each, depth + 1, seen).replaceAll("\n", "\n    ")}`;
    }
    if (error.cause !== undefined) text += `\nCaused by: ${inspect(error.cause, depth + 1, seen)}`;
    return text;
  }

  function headline(error) {
    const name = String(error.name ?? "Error");
    const message = String(error.message ?? "");
    return message === "" ? name : `${name}: ${message}`;
  }

  /** console.log's rules: placeholders in a first string, strings as they are, the rest inspected. */
  function format(values) {
    const rest = [...values];
    const parts = [];
    if (typeof rest[0] === "string") {
      const pattern = rest.shift();
      parts.push(
        rest.length === 0
          ? pattern
          : pattern.replace(/%[sdifoOjc%]/g, (place) => {
              if (place === "%%") return "%";
              if (rest.length === 0) return place;
              const value = rest.shift();
              switch (place) {
                case "%s":
                  return typeof value === "object" ? inspect(value) : String(value);
                case "%d":
                  return typeof value === "bigint" ? `${value}n` : String(Number(value));
                case "%i":
                  return typeof value === "bigint" ? `${value}n` : String(parseInt(value, 10));
                case "%f":
                  return String(parseFloat(value));
                case "%j":
                  return JSON.stringify(value);
                case "%c":
                  return "";
                default:
                  return inspect(value);
              }
            }),
      );
    }
    for (const value of rest) parts.push(typeof value === "string" ? value : inspect(value));
    return parts.join(" ");
  }

  function table(value, columns) {
    if (typeof value !== "object" || value === null) return inspect(value);
    const rows = value instanceof Map ? [...value] : Object.entries(value);
    const isRow = (row) => typeof row === "object" && row !== null;
    const names = columns ?? [...new Set(rows.flatMap(([, row]) => (isRow(row) ? Object.keys(row) : [])))];
    const plain = rows.some(([, row]) => !isRow(row));
    const head = ["", ...names, ...(plain ? ["value"] : [])];
    const cell = (each) => (typeof each === "string" ? each : inspect(each));
    const body = rows.map(([index, row]) => [
      String(index),
      ...names.map((name) => (isRow(row) && name in row ? cell(row[name]) : "")),
      ...(plain ? [isRow(row) ? "" : cell(row)] : []),
    ]);
    const widths = head.map((name, i) => Math.max(name.length, ...body.map((row) => row[i].length)));
    return [head, ...body]
      .map((row) => row.map((text, i) => text.padEnd(widths[i])).join("  ").trimEnd())
      .join("\n");
  }

  const counts = new Map();
  const times = new Map();
  return {
    inspect,
    format,
    table,
    headline,
    count(label) {
      counts.set(label, (counts.get(label) ?? 0) + 1);
      return `${label}: ${counts.get(label)}`;
    },
    countReset: (label) => counts.delete(label),
    time: (label) => times.set(label, performance.now()),
    timeLog: (label) => `${label}: ${(performance.now() - (times.get(label) ?? performance.now())).toFixed(3)} ms`,
    timeStop: (label) => times.delete(label),
  };
}
