// `using` and `await using`, lowered: the engine loses such a variable of a module's top level where
// a function declaration uses it.
export default () => {
  const none = Symbol();
  const resources = [];

  const add = (value, isAsync) => {
    if (value === null || value === undefined) {
      if (isAsync) resources.push({ isAsync });
      return value;
    }
    if (typeof value !== "object" && typeof value !== "function") {
      throw new TypeError("a value that is used must be an object, null or undefined");
    }
    const dispose = (isAsync ? value[Symbol.asyncDispose] : undefined) ?? value[Symbol.dispose];
    if (typeof dispose !== "function") {
      const name = isAsync ? "Symbol.asyncDispose" : "Symbol.dispose";
      throw new TypeError(`a value that is used must have a method [${name}]`);
    }
    resources.push({ value, dispose, isAsync });
    return value;
  };

  const context = {
    e: none,
    u: (value) => add(value, false),
    a: (value) => add(value, true),
    d() {
      const isAsync = resources.some((resource) => resource.isAsync);
      return isAsync ? disposeAsync() : disposeSync();
    },
  };

  const failed = (error) => {
    context.e = context.e === none ? error : new SuppressedError(error, context.e);
  };
  const end = () => {
    if (context.e !== none) throw context.e;
  };

  function disposeSync() {
    for (const { value, dispose } of resources.toReversed()) {
      try {
        dispose.call(value);
      } catch (error) {
        failed(error);
      }
    }
    end();
  }

  async function disposeAsync() {
    for (const { value, dispose, isAsync } of resources.toReversed()) {
      try {
        const disposed = dispose?.call(value);
        if (isAsync) await disposed;
      } catch (error) {
        failed(error);
      }
    }
    end();
  }

  return context;
};
