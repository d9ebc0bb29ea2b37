// TypeScript's `experimentalDecorators`: applies decorators from the last to the first.
export default (decorators, target, name, kind) => {
  const isClass = name === undefined && kind === undefined;
  const isParameterless = kind === null;
  let made = isClass ? target : isParameterless ? Object.getOwnPropertyDescriptor(target, name) : kind;
  for (const decorate of decorators.toReversed()) {
    const replaced = isClass ? decorate(made) : made === undefined ? decorate(target, name) : decorate(target, name, made);
    if (replaced !== undefined) made = replaced;
  }
  if (!isClass && made !== undefined) Object.defineProperty(target, name, made);
  return made;
};
