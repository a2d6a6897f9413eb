// What the server answers, asked again and again.

import { useEffect, useState } from "react";

/** Milliseconds between two questions. */
const EVERY = 3000;

/** What `ask` answers, asked again and again. */
export function usePolled<T>(ask: () => Promise<T>, key: string): { answer: T | null; error: string | null } {
  const [state, setState] = useState<{ key: string; answer: T | null; error: string | null }>({
    key,
    answer: null,
    error: null,
  });
  useEffect(() => {
    let gone = false;
    const once = () =>
      ask().then(
        (answer) => !gone && setState({ key, answer, error: null }),
        (error: unknown) => !gone && setState((before) => ({ ...before, key, error: String(error) })),
      );
    void once();
    const timer = setInterval(once, EVERY);
    return () => {
      gone = true;
      clearInterval(timer);
    };
    // `ask` is made anew at each drawing; what it asks for is in `key`.
  }, [key]);
  return state.key === key ? state : { answer: null, error: null };
}
