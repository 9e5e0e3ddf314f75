// Return layout problems: text that is clipped, covers other text, leaves the window, is small or has low contrast.
// Badges of states have the colours of Airflow.
() => {
  const problems = [];
  const visible = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  const scrolls = (element) => element.closest(".scroll, .graph");
  const name = (element) => `${element.tagName}.${element.className?.baseVal ?? element.className}: ${element.textContent.trim().slice(0, 40)}`;
  const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

  const seen = new Map(); // reading a pixel is slow

  function rgb(colour) {
    if (!seen.has(colour)) {
      pixel.clearRect(0, 0, 1, 1);
      pixel.fillStyle = colour;
      pixel.fillRect(0, 0, 1, 1);
      seen.set(colour, [...pixel.getImageData(0, 0, 1, 1).data]);
    }
    return seen.get(colour);
  }

  function behind(element) {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a] = rgb(getComputedStyle(at).backgroundColor);
      if (a > 250) return [r, g, b];
    }
    return [255, 255, 255];
  }

  function luminance(colour) {
    const [r, g, b] = colour.map((value) => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  if (document.documentElement.scrollWidth > innerWidth) problems.push(`the page is ${document.documentElement.scrollWidth} px wide`);
  const boxes = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !visible(element) || element.closest("option, title, noscript")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      if (!box.width || !box.height) continue;
      if (!scrolls(element) && (box.left < -1 || box.right > innerWidth + 1)) problems.push(`outside: ${name(element)}`);
      boxes.push([element, box]);
    }
    const style = getComputedStyle(element);
    const svg = element instanceof SVGElement;
    if (parseFloat(style.fontSize) < 11) problems.push(`small, ${style.fontSize}: ${name(element)}`);
    if (!svg && style.overflow !== "visible" && element.scrollWidth > element.clientWidth + 1) problems.push(`cut off: ${name(element)}`);
    const front = luminance(rgb(svg ? style.fill : style.color));
    const back = luminance(behind(element));
    const contrast = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (contrast < 4.5 && !element.closest(".badge.state")) problems.push(`contrast ${contrast.toFixed(1)}: ${name(element)}`);
  }
  for (const [place, [one, a]] of boxes.entries()) {
    for (const [other, b] of boxes.slice(place + 1)) {
      if (one === other || one.contains(other) || other.contains(one)) continue;
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 2 && high > 4) problems.push(`${name(one)} lies on ${name(other)}`);
    }
  }
  return [...new Set(problems)];
}
