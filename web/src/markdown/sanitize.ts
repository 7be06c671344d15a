/**
 * The last step before any HTML reaches the page. The parser already escapes the model's own HTML;
 * this list holds even if the parser, KaTeX or highlight.js had a hole.
 */
import DOMPurify from "dompurify";

const TAGS = [
  "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "a", "code", "pre",
  "blockquote", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "div", "span",
  "button", "input",
  // KaTeX draws roots, braces and arrows with these.
  "svg", "path", "line",
];

const ATTRIBUTES = [
  "class", "href", "target", "rel", "title", "start", "type", "checked", "disabled", "tabindex",
  "role", "aria-label", "aria-hidden", "data-citation", "data-style",
  "width", "height", "viewbox", "preserveaspectratio", "d", "x1", "x2", "y1", "y2", "stroke-width",
];

const KATEX_PROPERTIES =
  /^(?:color|background-color|(?:min-)?width|height|top|left|bottom|vertical-align|(?:margin|padding)-(?:left|right|top|bottom)|border(?:-(?:left|right|top|bottom))?-(?:width|style|color)|font-size|position)$/;
const KATEX_VALUE =
  /^(?:-?[\d.]+(?:em|ex|px|pt|%)?|#[\da-f]{3,8}|(?!fixed|sticky|absolute)[a-z]{3,24}|calc\(100% [+-] [\d.]+em\))$/i;

/** Of a style, what KaTeX itself writes; anything else is dropped. */
export function katexStyle(style: string): string {
  const declarations = style.split(";").map((part) => part.split(":").map((half) => half.trim()));
  return declarations
    .filter(([property = "", value = "", ...rest]) => {
      return rest.length === 0 && KATEX_PROPERTIES.test(property) && KATEX_VALUE.test(value);
    })
    .map(([property, value]) => `${property}:${value}`)
    .join(";");
}

function isInFormula(element: Element): boolean {
  return element.closest(".katex") !== null;
}

function createPurifier(): typeof DOMPurify {
  const purifier = DOMPurify(window);
  purifier.addHook("uponSanitizeElement", (node, data) => {
    if (!["svg", "path", "line"].includes(data.tagName)) return;
    if (node instanceof Element && !isInFormula(node)) node.remove();
  });
  purifier.addHook("uponSanitizeAttribute", (element, data) => {
    if (data.attrName === "data-style" && !isInFormula(element)) data.keepAttr = false;
  });
  return purifier;
}

let purifier: typeof DOMPurify | undefined;

/** Safe nodes for HTML of the renderers. */
export function sanitize(html: string): DocumentFragment {
  purifier ??= createPurifier();
  const fragment = purifier.sanitize(html, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
    // Without this the pattern would be asked of every attribute, `target` and `d` too.
    ADD_URI_SAFE_ATTR: ATTRIBUTES.filter((name) => name !== "href"),
    RETURN_DOM_FRAGMENT: true,
  });
  for (const element of fragment.querySelectorAll<HTMLElement>("[data-style]")) {
    element.style.cssText = katexStyle(element.dataset.style ?? "");
    element.removeAttribute("data-style");
  }
  return fragment;
}
