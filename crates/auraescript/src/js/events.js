// Events and cancellation, by the DOM standard as far as there is no DOM.
(host) => {
  class Event {
    #type;
    #cancelable;
    #prevented = false;
    #stopped = false;
    target = null;
    currentTarget = null;
    timeStamp = performance.now();
    constructor(type, init = {}) {
      this.#type = String(type);
      this.#cancelable = Boolean(init?.cancelable);
    }
    get type() {
      return this.#type;
    }
    get cancelable() {
      return this.#cancelable;
    }
    get defaultPrevented() {
      return this.#prevented;
    }
    preventDefault() {
      if (this.#cancelable) this.#prevented = true;
    }
    stopPropagation() {}
    stopImmediatePropagation() {
      this.#stopped = true;
    }
    static wasStopped(event) {
      return event.#stopped;
    }
  }
  const { wasStopped } = Event;
  delete Event.wasStopped;

  class CustomEvent extends Event {
    #detail;
    constructor(type, init = {}) {
      super(type, init);
      this.#detail = init?.detail ?? null;
    }
    get detail() {
      return this.#detail;
    }
  }

  class EventTarget {
    #listeners = new Map();
    addEventListener(type, listener, options) {
      if (listener == null) return;
      const { once = false, signal } = typeof options === "object" && options !== null ? options : {};
      if (signal?.aborted) return;
      const listeners = this.#listeners.get(type) ?? [];
      if (listeners.some((each) => each.listener === listener)) return;
      this.#listeners.set(type, [...listeners, { listener, once }]);
      signal?.addEventListener("abort", () => this.removeEventListener(type, listener), { once: true });
    }
    removeEventListener(type, listener) {
      const listeners = this.#listeners.get(type) ?? [];
      this.#listeners.set(type, listeners.filter((each) => each.listener !== listener));
    }
    dispatchEvent(event) {
      event.target = event.currentTarget = this;
      const handler = this[`on${event.type}`];
      if (typeof handler === "function") call(handler, this, event);
      for (const { listener, once } of this.#listeners.get(event.type) ?? []) {
        if (wasStopped(event)) break;
        if (once) this.removeEventListener(event.type, listener);
        if (typeof listener === "function") call(listener, this, event);
        else call(listener.handleEvent, listener, event);
      }
      return !event.defaultPrevented;
    }
  }

  // A listener that throws does not keep the others from being called; the run fails all the same.
  function call(listener, self, event) {
    try {
      listener.call(self, event);
    } catch (error) {
      Promise.reject(error);
    }
  }

  const KEY = Symbol();

  class AbortSignal extends EventTarget {
    #aborted = false;
    #reason;
    onabort = null;
    constructor(key) {
      if (key !== KEY) throw new TypeError("an AbortSignal is made by an AbortController");
      super();
    }
    get aborted() {
      return this.#aborted;
    }
    get reason() {
      return this.#reason;
    }
    throwIfAborted() {
      if (this.#aborted) throw this.#reason;
    }
    static abort(reason) {
      const signal = new AbortSignal(KEY);
      abort(signal, reason);
      return signal;
    }
    static timeout(ms) {
      const signal = new AbortSignal(KEY);
      // It does not keep the script alive.
      host.setTimer(() => abort(signal, new DOMException("The operation timed out.", "TimeoutError")), Number(ms), false, false);
      return signal;
    }
    static any(signals) {
      const any = new AbortSignal(KEY);
      const sources = [...signals];
      const aborted = sources.find((signal) => signal.aborted);
      if (aborted) {
        abort(any, aborted.reason);
        return any;
      }
      for (const signal of sources) {
        signal.addEventListener("abort", () => abort(any, signal.reason), { once: true });
      }
      return any;
    }
    static abortNow(signal, reason) {
      if (signal.#aborted) return;
      signal.#aborted = true;
      signal.#reason = reason === undefined ? new DOMException("This operation was aborted", "AbortError") : reason;
      signal.dispatchEvent(new Event("abort"));
    }
  }
  const abort = AbortSignal.abortNow;
  delete AbortSignal.abortNow;

  class AbortController {
    #signal = new AbortSignal(KEY);
    get signal() {
      return this.#signal;
    }
    abort(reason) {
      abort(this.#signal, reason);
    }
  }

  return { Event, EventTarget, CustomEvent, AbortController, AbortSignal };
}
