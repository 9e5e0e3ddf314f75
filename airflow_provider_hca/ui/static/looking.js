// Looking again and again at what changes: often while it does, rarely when it does not, never when nobody looks.

const OFTEN = 2000;
const RARELY = 15000;

/** Call `look`, which says whether all is over, until the page is left. */
export async function keepLooking(look, failed) {
  let shown = false;
  for (;;) {
    let pause = RARELY;
    if (!document.hidden) {
      try {
        pause = (await look()) ? RARELY : OFTEN;
        shown = true;
      } catch (error) {
        if (!shown) failed(error);
        else pause = RARELY; // what is shown is still true of a moment ago
      }
    } else {
      pause = OFTEN;
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
