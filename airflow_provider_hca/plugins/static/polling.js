// Polling: often while something changes, rarely otherwise, not while the page is hidden.

export const OFTEN = 2000;
export const RARELY = 15000;

/** Call `look` repeatedly; it returns the pause in milliseconds until the next call, or undefined to end. */
export async function poll(look, failed) {
  let shown = false;
  for (;;) {
    let pause = RARELY;
    if (!document.hidden) {
      try {
        pause = await look();
        shown = true;
      } catch (error) {
        if (!shown) failed(error); // otherwise the page keeps showing the last state
      }
    } else {
      pause = OFTEN;
    }
    if (pause === undefined) return;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
