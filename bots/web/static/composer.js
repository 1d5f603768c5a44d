// The message box. What is in it is never lost: it is kept for the tab while
// it is written, and it leaves only once the server has it in the log.

import { h, icon, bytes, fileIcon, visible } from "./dom.js";

const $ = (id) => document.getElementById(id);
const touch = matchMedia("(pointer: coarse)").matches;

export class Composer {
  /** on: sent(thread), refused(status). limits: files, size, text. */
  constructor(limits, on) {
    this.limits = limits;
    this.on = on;
    this.files = [];
    this.box = $("text");
    $("composer").addEventListener("submit", (e) => {
      e.preventDefault();
      this.send();
    });
    this.box.addEventListener("input", () => this.changed());
    this.box.addEventListener("keydown", (e) => this.key(e));
    this.box.addEventListener("paste", (e) => {
      const files = [...e.clipboardData.files];
      if (!files.length) return;
      e.preventDefault();
      this.add(files.map(pasted));
    });
    $("attach").addEventListener("click", () => $("file").click());
    $("file").addEventListener("change", () => {
      this.add([...$("file").files]);
      $("file").value = "";
    });
    $("cancel").addEventListener("click", () => this.request?.abort());
    this.dropping();
  }

  /** Turns to a thread: what was being written for it comes back. */
  open(thread) {
    this.thread = thread;
    this.files = [];
    this.box.value = sessionStorage.getItem(`draft ${thread}`) ?? "";
    this.problem("");
    this.changed();
  }

  fill(text) {
    this.box.value = text;
    this.changed();
    this.box.focus();
    this.box.setSelectionRange(text.length, text.length);
  }

  pick() {
    $("file").click();
  }

  changed() {
    this.messageKey = null; // another message than the one that may have failed
    keep(`draft ${this.thread}`, this.box.value);
    this.box.style.height = "auto";
    this.box.style.height = `${this.box.scrollHeight}px`;
    this.box.classList.toggle("mono", inFence(this.box.value) || /^\s*```/.test(this.box.value));
    $("hint").textContent = touch ? "" : inFence(this.box.value) ? "Close the fence, or Ctrl+Enter, to send" : "Enter sends, Shift+Enter makes a line";
    this.show();
  }

  key(e) {
    if (e.key !== "Enter" || e.isComposing) return;
    const asked = e.ctrlKey || e.metaKey;
    if (!asked && (e.shiftKey || e.altKey || touch || inFence(this.box.value))) return;
    e.preventDefault();
    this.send();
  }

  add(files) {
    this.problem("");
    for (const file of files) {
      if (file.size > this.limits.size) {
        this.problem(`${visible(file.name)} has ${bytes(file.size)}, and ${bytes(this.limits.size)} is the limit for a file.`);
      } else if (this.files.length >= this.limits.files) {
        this.problem(`A message can carry ${this.limits.files} files; please send the others with the next one.`);
        break;
      } else this.files.push(file);
    }
    this.messageKey = null;
    this.show();
    this.box.focus();
  }

  remove(file) {
    this.files = this.files.filter((f) => f !== file);
    this.messageKey = null;
    this.show();
    this.box.focus();
  }

  show() {
    $("chips").hidden = this.files.length === 0;
    $("chips").replaceChildren(...this.files.map((file) => h("li", { class: "chip" },
      preview(file), h("span", { class: "file-name" }, visible(file.name)), h("span", { class: "file-size" }, bytes(file.size)),
      h("button", { type: "button", class: "quiet", "aria-label": `Remove ${visible(file.name)}`, onclick: () => this.remove(file) }, icon("x")))));
    $("send").disabled = Boolean(this.request) || !(this.box.value.trim() || this.files.length);
  }

  problem(sentence) {
    $("problem").hidden = !sentence;
    $("problem").textContent = sentence;
  }

  async send() {
    const text = this.box.value;
    if (this.request || !(text.trim() || this.files.length)) return;
    if (new Blob([text]).size > this.limits.text) {
      this.problem(`The text is longer than ${bytes(this.limits.text)}; please send it as a file.`);
      return;
    }
    this.messageKey ??= newKey();
    const thread = this.thread;
    this.problem("");
    const { status, error } = await this.post(thread, this.messageKey, text, this.files);
    if (status === 401) return this.on.refused(status);
    if (thread !== this.thread) return; // its draft waits in its own place
    if (error) {
      this.problem(error);
      this.box.focus();
      return;
    }
    this.files = [];
    this.box.value = "";
    this.changed();
    this.on.sent(thread);
  }

  /** Sends a button's text, whatever is in the box. Tells whether it went. */
  async say(text) {
    if (this.request) {
      this.problem("A message is on its way; please press the button again when it is there.");
      return false;
    }
    const { status, error } = await this.post(this.thread, newKey(), text, []);
    if (status === 401) this.on.refused(status);
    this.problem(error);
    if (!error) this.on.sent(this.thread);
    return !error;
  }

  // The order of the fields matters to the server: it reads the list of
  // files, and then takes their bytes as they come.
  post(thread, key, text, files) {
    const form = new FormData();
    form.append("key", key);
    form.append("text", text);
    form.append("files", JSON.stringify(files.map((f) => ({ name: f.name, type: f.type, size: f.size }))));
    for (const file of files) form.append("file", file, file.name);
    const request = new XMLHttpRequest();
    this.busy(request, files.length > 0);
    return new Promise((done) => {
      request.upload.onprogress = ({ loaded, total }) => this.progress(loaded / total);
      request.onload = () => {
        const ok = request.status === 201;
        done({ status: request.status, error: ok ? "" : request.response?.error ?? `The server answered ${request.status} and took nothing.` });
      };
      request.onerror = () => done({ error: "That did not get through; send it again when the server is back." });
      request.onabort = () => done({ error: "Not sent." });
      request.responseType = "json";
      request.open("POST", `/api/threads/${encodeURIComponent(thread)}/messages`);
      request.send(form);
    }).finally(() => this.busy(null, false));
  }

  busy(request, uploading) {
    this.request = request;
    this.box.readOnly = Boolean(request);
    $("composer").classList.toggle("sending", Boolean(request));
    $("progress").hidden = $("cancel").hidden = !uploading;
    if (uploading) this.progress(0);
    this.show();
  }

  progress(part) {
    $("progress").setAttribute("aria-valuenow", String(Math.round(part * 100)));
    $("progress").firstElementChild.style.width = `${part * 100}%`;
  }

  // Files can be dropped anywhere on the page.
  dropping() {
    let depth = 0;
    const carries = (e) => e.dataTransfer?.types.includes("Files");
    const over = (n) => {
      depth = Math.max(0, n);
      $("drop").classList.toggle("on", depth > 0);
    };
    addEventListener("dragenter", (e) => carries(e) && over(depth + 1));
    addEventListener("dragleave", (e) => carries(e) && over(depth - 1));
    addEventListener("dragover", (e) => carries(e) && e.preventDefault());
    addEventListener("drop", (e) => {
      if (!carries(e)) return;
      e.preventDefault();
      over(0);
      const items = [...e.dataTransfer.items].filter((item) => item.kind === "file");
      const folders = items.some((item) => item.webkitGetAsEntry?.()?.isDirectory);
      this.add(items.filter((item) => !item.webkitGetAsEntry?.()?.isDirectory).map((item) => item.getAsFile()).filter(Boolean));
      if (folders) this.problem("A folder can't be sent as it is; please make a ZIP of it.");
    });
  }
}

function keep(key, text) {
  try {
    if (text) sessionStorage.setItem(key, text);
    else sessionStorage.removeItem(key);
  } catch {
    // More than a browser keeps; it is still in the box.
  }
}

// In an open fence, Enter is a line of code.
const inFence = (text) => (text.match(/^\s*```/gm)?.length ?? 0) % 2 === 1;

// Pictures from the clipboard are all called image.png.
function pasted(file) {
  if (!/^image\.\w+$/.test(file.name)) return file;
  const at = new Date().toTimeString().slice(0, 8).replaceAll(":", ".");
  return new File([file], file.name.replace("image", `pasted ${at}`), { type: file.type });
}

function preview(file) {
  if (!/^image\/(png|jpeg|gif|webp)$/.test(file.type)) return fileIcon(file.name);
  const url = URL.createObjectURL(file);
  return h("img", { src: url, alt: "", onload: () => URL.revokeObjectURL(url) });
}

// Without HTTPS there is no crypto.randomUUID.
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
}
