// Looking again and again at what changes: often while it does, rarely when it does not, never when nobody looks.

export const OFTEN = 2000;
export const RARELY = 15000;

/** Call `look` until the page is left; it says after how many milliseconds to look again, or nothing to end it. */
export async function poll(look, failed) {
  let shown = false;
  for (;;) {
    let pause = RARELY;
    if (!document.hidden) {
      try {
        pause = await look();
        shown = true;
      } catch (error) {
        if (!shown) failed(error); // else what is shown is still true of a moment ago
      }
    } else {
      pause = OFTEN;
    }
    if (pause === undefined) return;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
