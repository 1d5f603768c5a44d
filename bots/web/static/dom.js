// Small helpers: elements, and words for sizes, times and names.

/** Makes an element. Strings become text, never markup. */
export function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") el.className = value;
    else if (typeof value === "function") el.addEventListener(name.slice(2), value);
    else el.setAttribute(name, value === true ? "" : value);
  }
  el.append(...children.filter((c) => c !== undefined && c !== null && c !== false));
  return el;
}

/** An icon of the sprite in the page. */
export function icon(name) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(ns, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** An element with HTML that the server has rendered and sanitised. */
export function rendered(tag, cls, html) {
  const el = h(tag, { class: cls, dir: "auto" });
  el.innerHTML = html;
  for (const pre of el.querySelectorAll("pre.code")) {
    const box = h("div", { class: "fence" });
    pre.replaceWith(box);
    pre.tabIndex = 0;
    box.append(pre, copyButton(() => pre.textContent));
  }
  for (const table of el.querySelectorAll("table")) {
    if (table.parentElement.closest("table")) continue;
    const box = h("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" });
    table.replaceWith(box);
    box.append(table);
  }
  return el;
}

/** A button that copies text and says that it has. */
export function copyButton(text) {
  const button = h("button", { type: "button", class: "quiet copy", "aria-label": "Copy code", title: "Copy" }, icon("copy"));
  button.addEventListener("click", async () => {
    await copy(text());
    button.replaceChildren(icon("check"));
    button.setAttribute("aria-label", "Copied");
    setTimeout(() => {
      button.replaceChildren(icon("copy"));
      button.setAttribute("aria-label", "Copy code");
    }, 1500);
  });
  return button;
}

// The clipboard proper is there only over HTTPS and on loopback.
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).catch(() => {});
  const box = h("textarea", { class: "offscreen", readonly: true });
  box.value = text;
  document.body.append(box);
  box.select();
  document.execCommand("copy");
  box.remove();
}

/** Shows the characters that turn text around; the server does so in HTML. */
export function visible(text) {
  return text.replace(/[\u202A-\u202E\u2066-\u2069]/g, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase()}⟩`);
}

export function bytes(n) {
  if (n < 1000) return `${n} B`;
  for (const unit of ["KB", "MB", "GB"]) {
    n /= 1024;
    if (n < 1000 || unit === "GB") return `${n < 9.95 ? n.toFixed(1) : Math.round(n)} ${unit}`;
  }
}

export function seconds(s) {
  if (s < 0.095) return "0.1 s";
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 59.5) return `${Math.round(s)} s`;
  const whole = Math.round(s);
  const rest = whole % 60;
  return `${Math.floor(whole / 60)} min${rest ? ` ${rest} s` : ""}`;
}

export const count = (n) => n.toLocaleString("en");

export function clock(at) {
  const date = new Date(at);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const today = new Date().toDateString() === date.toDateString();
  return today ? time : `${date.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}

const languages = { python: "Python", bash: "Bash", r: "R", sql: "SQL", javascript: "JavaScript", typescript: "TypeScript" };
export const languageName = (name) => languages[name] ?? name;

// The page has one login, so its messages are its reader's own.
export const who = (user) => (user.id === "web" ? "You" : user.name || user.id);

export const baseName = (path) => path.slice(path.lastIndexOf("/") + 1);

const kinds = [
  ["table", /\.(csv|tsv|xlsx?|ods|parquet|feather|arrow|sqlite|db|duckdb)$/i],
  ["image", /\.(png|jpe?g|gif|webp|svg|bmp|tiff?)$/i],
  ["archive", /\.(zip|tar|gz|tgz|bz2|xz|7z|zst)$/i],
  ["text", /\.(txt|md|json|jsonl|ndjson|ya?ml|xml|html?|pdf|docx?|pptx?|py|r|js|ts|sql|sh|ipynb|log)$/i],
];

/** A file's icon, by its extension. */
export function fileIcon(name) {
  const kind = kinds.find(([, pattern]) => pattern.test(name));
  return icon(kind ? `file-${kind[0]}` : "file");
}

/** A file to download: its icon, name and size. */
export function fileCard({ name, size, url, error, title }) {
  const words = [
    h("span", { class: "file-name", dir: "auto" }, visible(title || name)),
    h("span", { class: "file-size" }, error ? visible(error) : (title ? `${visible(name)} · ` : "") + bytes(size)),
  ];
  if (!url) {
    return h("span", { class: `file${error ? " file-failed" : ""}` }, error ? icon("alert") : fileIcon(name), h("span", { class: "file-words" }, ...words));
  }
  return h("a", { class: "file", href: url, download: name, "aria-label": `Download ${visible(name)}, ${bytes(size)}` },
    fileIcon(name), h("span", { class: "file-words" }, ...words), h("span", { class: "file-save" }, icon("save")));
}
