// Functions whose code is loaded with the first call.

/**
 * A function, and those below it, that `load` resolves with. Members that JavaScript itself reads of a function are the function's (rpc.js has the
 * same names).
 */
export function later(load) {
  const made = Object.create(null);
  return new Proxy(async (...args) => (await load())(...args), {
    get: (target, name) =>
      typeof name === "symbol" || name in target || /^[_$@]|^(then|toJSON|prototype|nodeType|nodeName|tagName|asymmetricMatch|inspect)$/.test(name)
        ? target[name]
        : (made[name] ??= later(async () => (await load())[name])),
  });
}
