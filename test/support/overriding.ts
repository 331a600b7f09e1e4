/**
 * An object with some of its members replaced, whatever class it is of: for storage that is slow, fails or keeps count.
 *
 * Everything else goes to the object itself, private fields included.
 */
export function overriding<T extends object>(target: T, own: Partial<T>): T {
  return new Proxy(target, {
    get: (inner, key) => {
      if (Object.hasOwn(own, key)) return own[key as keyof T];
      const value: unknown = Reflect.get(inner, key, inner);
      return typeof value === 'function' ? value.bind(inner) : value;
    },
  });
}
