// Runs before every script, so it is short: what is rarely used is loaded when it is.
(host, lazy) => {
  const define = (name, value) =>
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
  Object.defineProperty(globalThis, Symbol.for("aurae.host"), { value: host });

  const loaded = {};
  host.use = (file) => (loaded[file] ??= host.load(file)(host));
  for (const file in lazy) {
    for (const name of lazy[file].split(" ")) {
      if (name === "") continue;
      Object.defineProperty(globalThis, name, {
        configurable: true,
        get() {
          const made = host.use(file);
          for (const each in made) define(each, made[each]);
          return made[name];
        },
        set(value) {
          define(name, value);
        },
      });
    }
  }

  // Ten, the default, is the depth of the libraries alone.
  Error.stackTraceLimit = 50;

  const timer = (repeats) => (callback, delay = 0, ...args) => {
    if (typeof callback !== "function") throw new TypeError("a timer needs a function to call");
    const call = args.length === 0 ? () => callback() : () => callback(...args);
    return host.setTimer(call, Number(delay) || 0, repeats, true);
  };
  const clear = (id) => {
    if (typeof id === "number") host.clearTimer(id);
  };
  define("setTimeout", timer(false));
  define("setInterval", timer(true));
  define("clearTimeout", clear);
  define("clearInterval", clear);

  let indent = "";
  const line = (write) => (...values) => {
    const [first] = values;
    const text =
      values.length === 1 && typeof first === "string"
        ? first
        : host.use("console").format(values);
    write(indent === "" ? text.toWellFormed() : text.replace(/^/gm, indent).toWellFormed());
  };
  const log = line(host.print);
  const error = line(host.printError);
  const console = { log, info: log, debug: log, error, warn: error };
  const group = (...values) => {
    if (values.length > 0) log(...values);
    indent += "  ";
  };
  Object.assign(console, {
    group,
    groupCollapsed: group,
    groupEnd() {
      indent = indent.slice(2);
    },
    assert(condition, ...values) {
      if (condition) return;
      if (typeof values[0] === "string") values[0] = `Assertion failed: ${values[0]}`;
      else values.unshift("Assertion failed");
      error(...values);
    },
    dir(value) {
      log(host.use("console").inspect(value));
    },
    trace(...values) {
      error(...(values.length === 0 ? ["Trace"] : values));
      error(host.mapStack(new Error().stack).trimEnd());
    },
    table: (value, columns) => log(host.use("console").table(value, columns)),
    count: (label = "default") => log(host.use("console").count(String(label))),
    countReset: (label = "default") => host.use("console").countReset(String(label)),
    time: (label = "default") => host.use("console").time(String(label)),
    timeLog: (label = "default", ...values) =>
      log(host.use("console").timeLog(String(label)), ...values),
    timeEnd: (label = "default") => {
      log(host.use("console").timeLog(String(label)));
      host.use("console").timeStop(String(label));
    },
  });
  define("console", console);
}
