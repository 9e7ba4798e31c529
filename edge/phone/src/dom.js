// Elements and texts: nothing that is shown is ever taken for markup.

const LANGUAGES = ["en", "es", "fr", "ar", "zh"];
const SVG = "http://www.w3.org/2000/svg";

let texts = {};

/** Fetch the catalogue of a language: the one asked for, else the phone's, else English. */
export async function loadTexts(wanted) {
  const own = navigator.languages.map((tag) => tag.slice(0, 2));
  const language = [wanted, ...own].find((one) => LANGUAGES.includes(one)) ?? "en";
  texts = await (await fetch(`texts/${language}.json`)).json();
  document.documentElement.lang = language;
  document.documentElement.dir = texts.direction;
  return language;
}

/** The text of a key, {name} filled in. */
export function t(key, values = {}) {
  return (texts[key] ?? key).replace(/\{([a-z]+)\}/g, (found, name) => values[name] ?? found);
}

/** An element; a null among the children is left out. `on…` attributes are listeners. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null));
  return element;
}

export function icon(name) {
  return svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `#icon-${name}` }));
}

export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Whole per cent; never a certainty that no model has. */
export function percent(p) {
  return t("percent", { n: p > 0.99 ? ">99" : p < 0.01 ? "<1" : (100 * p).toFixed(0) });
}

export { LANGUAGES };
