// A decorator of a constructor's or method's parameter, as one of the class or the method.
export default (index, decorate) => (target, name) => decorate(target, name, index);
