/** Small helpers for the document: finding and making elements, writing times, telling a screen reader. */

/**
 * Return the one element that a selector names.
 * @param {string} selector
 * @param {ParentNode} [root]
 * @returns {any}
 */
export function $(selector, root = document) {
  return root.querySelector(selector);
}

/**
 * Make an element. Properties that begin with "on" are listeners, `class` is its classes, the rest are attributes;
 * `true` sets an attribute that has no value, `false` and `null` leave it out.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Node | string | null)} children
 * @returns {any}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** The drawings of icons.svg, fetched once, so that a button can change while the connection is lost. */
const drawings = fetch("/page/icons.svg")
  .then((response) => response.text())
  .then((text) => new DOMParser().parseFromString(text, "image/svg+xml"))
  .catch(() => null);

/**
 * Make one of the icons of icons.svg.
 * @param {string} name
 * @returns {SVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  setIcon(svg, name);
  return svg;
}

/** Change an icon. @param {SVGElement} svg @param {string} name */
export async function setIcon(svg, name) {
  if (svg.dataset.icon === name) return;
  svg.dataset.icon = name;
  const drawing = (await drawings)?.getElementById(name);
  if (!drawing || svg.dataset.icon !== name) return;
  svg.setAttribute("viewBox", drawing.getAttribute("viewBox"));
  svg.replaceChildren(...[...drawing.children].map((part) => document.importNode(part, true)));
}

/** Show an element with a text, or hide it where the text is empty. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}

/** Have a screen reader say one line, when it is done with what it says. */
export function announce(text) {
  const region = $("#says");
  if (region.textContent !== text) region.textContent = text;
}

/** Return seconds as "1:02.5". */
export function clock(seconds) {
  const tenths = Math.max(0, Math.round(seconds * 10));
  const minutes = Math.floor(tenths / 600);
  const rest = (tenths - minutes * 600) / 10;
  return `${minutes}:${rest < 10 ? "0" : ""}${rest.toFixed(1)}`;
}

/** Return a length of time as a person says it: "8 s", "about 3 min". */
export function spoken(seconds) {
  if (seconds < 1) return "less than a second";
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** Return when something happened: the time if it was today, else the date and the time. */
export function when(unixSeconds) {
  const date = new Date(unixSeconds * 1000);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${date.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}

/** Return "1 candidate" or "3 candidates". */
export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/**
 * Return a color of theme.css as red, green and blue, each 0 to 255.
 * @param {string} name without the two dashes
 * @returns {[number, number, number]}
 */
export function themeColor(name) {
  const probe = h("span", { hidden: true });
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const numbers = getComputedStyle(probe).color.match(/[\d.]+/g) ?? ["0", "0", "0"];
  probe.remove();
  return [Number(numbers[0]), Number(numbers[1]), Number(numbers[2])];
}
